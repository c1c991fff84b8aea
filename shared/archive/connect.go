package archive

import (
	"context"
	"fmt"
	"slices"
	"time"

	"originchain/shared/lsn"
	"originchain/shared/wal"
)

// connect makes sure that our line has its epoch objects, and finds out what of the line
// is there. It can be run again: each step looks whether it is done.
func (s *Shipper) connect(ctx context.Context) error {
	line := s.deps.Log.Epochs()
	if err := s.standing(ctx); err != nil {
		return err
	}
	for _, e := range line {
		if err := s.ensureEpoch(ctx, e); err != nil {
			return err
		}
	}
	// Whoever begins a higher epoch from here on finds ours.
	if err := s.standing(ctx); err != nil {
		return err
	}
	return s.resume(ctx, line)
}

// ownEpoch waits until this node's own epoch is durable in its log, for as long as the
// log goes on: a writer that must have followers first shows, and writes, nothing yet.
// The archive has no part in it.
func (s *Shipper) ownEpoch(ctx context.Context) error {
	s.unbegun.Store(true)
	defer s.unbegun.Store(false)
	for {
		advanced, over := s.deps.Log.Advanced(), s.deps.Log.Over()
		line := s.deps.Log.Epochs()
		if n := len(line); n > 0 {
			if newest := line[n-1].Epoch; newest == s.cfg.Epoch {
				return nil
			} else if newest > s.cfg.Epoch {
				return &FencedError{Own: s.cfg.Epoch, Epoch: newest, Key: "the log of this node"}
			}
		}
		if over != nil {
			return fmt.Errorf("epoch %d has no frame in the log, and will have none: %w", s.cfg.Epoch, over)
		}
		select {
		case <-advanced:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// resume lists what the archive has of the epochs in the log. Frames below the log
// are not looked for one by one: whether the archive has the one before it decides
// whether the line has a gap.
func (s *Shipper) resume(ctx context.Context, line []wal.EpochStart) error {
	first := s.deps.Log.FirstLSN()
	floor, err := s.floor(ctx, line)
	if err != nil {
		return err
	}
	segments, parts, err := s.onLine(ctx, line)
	if err != nil {
		return err
	}
	if err := s.newestCheckpoint(ctx, line); err != nil {
		return err
	}
	if first > 1 && first-1 > floor {
		if err := s.bridge(ctx, first, line[0], segments, parts); err != nil {
			return err
		}
	}
	local := s.deps.Log.Segments()
	stamp := func(at lsn.LSN) int64 {
		for i := range local {
			if local[i].Last == at {
				return local[i].LastTimestamp
			}
		}
		return 0
	}
	// Never above what is durable here: what is not in the log was not shipped from it.
	from := max(first-1, min(floor, s.deps.Log.Durable()))
	s.progress.begin(from, stamp(from))
	for _, x := range segments {
		x.stamp = stamp(x.to)
		s.progress.addSegment(x)
	}
	for _, x := range parts {
		x.stamp = stamp(x.to)
		s.progress.addPart(x)
	}
	now := s.deps.Now()
	s.progress.recall(remembered(local, s.deps.Log.Durable(), now))
	s.progress.sight(s.deps.Log.Durable(), now)
	return nil
}

// remembered are sightings as the stamps of the local segments tell them: an archive
// that was away before a restart has been away for as long. A clock that was stepped
// since can only make them younger than now, never older than the stamps say.
func remembered(local []wal.SegmentInfo, durable lsn.LSN, now time.Time) (out []sighting) {
	for i := range local {
		if x := &local[i]; x.Last <= durable && x.LastTimestamp > 0 {
			age := max(0, now.UnixMicro()-x.LastTimestamp)
			out = append(out, sighting{x.Last, now.Add(-time.Duration(age) * time.Microsecond)})
		}
	}
	return out
}

// floor is the last frame of the line that retention has let go of, 0 for none:
// what stands below is not shipped again.
func (s *Shipper) floor(ctx context.Context, line []wal.EpochStart) (lsn.LSN, error) {
	b, err := s.a.newestBoundary(ctx)
	if err != nil || b == nil {
		return 0, err
	}
	return b.floor(line), nil
}

// floor is that of a line, as far as it is known here. What is kept of an epoch may
// begin above where this line leaves it: that was decided for other lines, before
// this one was there, and says nothing of its frames.
func (d *Boundary) floor(line []wal.EpochStart) lsn.LSN {
	for i, e := range line { // oldest first: what it keeps lies lowest
		last := MaxLSN
		if i+1 < len(line) {
			last = line[i+1].First - 1
		}
		for _, kept := range d.Kept {
			if kept.Epoch == e.Epoch && kept.From >= e.First && kept.From-1 <= last {
				return kept.From - 1
			}
		}
	}
	return 0
}

// newestCheckpoint finds out how old the newest checkpoint of the line is, for the
// metric; one that cannot be read does not count.
func (s *Shipper) newestCheckpoint(ctx context.Context, line []wal.EpochStart) error {
	list, err := keys[CheckpointKey](ctx, s.a, checkpointPrefix, "", nil)
	if err != nil {
		return err
	}
	for _, k := range slices.Backward(list) { // by LSN
		i := slices.IndexFunc(line, func(e wal.EpochStart) bool { return e.Epoch == k.Key.Epoch })
		if i < 0 || i+1 < len(line) && k.Key.LSN >= line[i+1].First {
			continue
		}
		c, err := s.a.checkpointHead(ctx, k)
		if told(err) {
			continue
		} else if err != nil {
			return err
		}
		s.checkpoints.complete(c.LSN, c.Time)
		return nil
	}
	return nil
}

// onLine lists segments and parts of the epochs of the line, clipped to it, and
// remembers the names of the segments.
func (s *Shipper) onLine(ctx context.Context, line []wal.EpochStart) (segments, parts []span, err error) {
	clear(s.listed)
	for i, e := range line {
		last := MaxLSN
		if i+1 < len(line) {
			last = line[i+1].First - 1
		}
		list, err := keys[SegmentKey](ctx, s.a, logPrefix+hex16(uint64(e.Epoch))+"/", "", nil)
		if err != nil {
			return nil, nil, err
		}
		for _, k := range list {
			k.Key.Rewrite = 0 // what a purge has rewritten is there, and not shipped again
			s.listed[k.Key] = true
			segments = appendClipped(segments, k.Key.First, k.Key.Last, last)
		}
		tail, err := keys[PartKey](ctx, s.a, tailPrefix+hex16(uint64(e.Epoch))+"/", "", nil)
		if err != nil {
			return nil, nil, err
		}
		for _, k := range tail {
			parts = appendClipped(parts, k.Key.From, k.Key.To, last)
		}
	}
	return segments, parts, nil
}

func appendClipped(list []span, from, to, last lsn.LSN) []span {
	if from > last {
		return list
	}
	return append(list, span{from: from, to: min(to, last)})
}

// bridge deals with a log that begins above what the archive has of its line: the
// frames between are lost to the archive, which a gap record says, and a checkpoint
// is asked for, since nothing else leads over the gap.
func (s *Shipper) bridge(ctx context.Context, first lsn.LSN, oldest wal.EpochStart, segments, parts []span) error {
	for _, list := range [][]span{segments, parts} {
		for _, x := range list {
			if x.from <= first && x.to >= first-1 {
				return nil
			}
		}
	}
	survey, err := s.a.Survey(ctx)
	if err != nil {
		return err
	}
	l, ok := survey.Line(oldest.Epoch)
	if !ok {
		return fmt.Errorf("the archive does not tell the line of epoch %d, whose object was there a moment ago", oldest.Epoch)
	}
	from := lsn.LSN(1)
	for _, r := range l.Ranges {
		switch {
		case r.From <= first-1 && r.To >= first-1:
			return nil // in an epoch that the log does not reach down to
		case r.To < first-1:
			from = r.To + 1
		}
	}
	gap := Gap{Head: s.newHead(), Epoch: oldest.Epoch, From: from, To: first - 1, Node: s.cfg.Node, Time: s.now()}
	if !s.bridged(l.Checkpoints, first) {
		select {
		case s.wanted <- struct{}{}:
		default:
		}
	}
	if _, err := s.a.putDocument(ctx, gap.Key(), &gap); err != nil {
		return err
	}
	s.gap.Store(&gap)
	s.deps.Logger.WithField("from_lsn", uint64(gap.From)).WithField("to_lsn", uint64(gap.To)).WithField("epoch", uint64(gap.Epoch)).
		Error("the archive lacks frames that this node has no more; recovery points between are lost, and a checkpoint is made now")
	return nil
}

// bridged reports a checkpoint behind the gap, from which the log goes on.
func (s *Shipper) bridged(list []Checkpoint, first lsn.LSN) bool {
	for i := range list {
		if list[i].LSN >= first-1 {
			return true
		}
	}
	return false
}
