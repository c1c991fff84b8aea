package purge

import (
	"context"
	"fmt"
	"io"
	"maps"

	"github.com/sirupsen/logrus"

	"originchain/shared/archive"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/restore"
	"originchain/shared/table"
	"originchain/shared/wal"

	"errors"
)

// walker sees the history of a line: states that frames go on from, and the frames.
type walker struct {
	// state sees a checkpoint's; nil stands for the empty one.
	state func(at lsn.Pos, v table.View) error
	frame func(f *frame.Frame) error
	// end is told where a line ends; newest says which one it was. May be nil.
	end func(newest bool)
}

// walk goes along every line: each run of frames from the lowest checkpoint that leads
// to it, or from LSN 1, and the checkpoints that stand alone.
func (p *planning) walk(ctx context.Context, w walker) error {
	p.reached = nil
	for i := range p.lines {
		l := &p.lines[i]
		done := lsn.LSN(0)
		for j := range l.Ranges {
			r := &l.Ranges[j]
			if err := p.alone(ctx, l, done, r.From, w); err != nil {
				return err
			}
			if err := p.run(ctx, l, r, w); err != nil {
				return err
			}
			done = r.To
		}
		if err := p.alone(ctx, l, done, archive.MaxLSN, w); err != nil {
			return err
		}
		if w.end != nil {
			w.end(i == 0)
		}
	}
	return nil
}

// alone shows the checkpoints above a run of frames from which no other goes on.
func (p *planning) alone(ctx context.Context, l *archive.Line, above, next lsn.LSN, w walker) error {
	for i := range l.Checkpoints {
		c := &l.Checkpoints[i]
		if c.LSN <= above || next != archive.MaxLSN && c.LSN+1 >= next {
			continue
		}
		if err := p.onState(ctx, c, w.state); err != nil {
			return err
		}
	}
	return nil
}

// run shows the frames of a run, from the lowest checkpoint that leads to them.
func (p *planning) run(ctx context.Context, l *archive.Line, r *archive.Range, w walker) error {
	at := wal.Tail{}
	if r.From > 1 {
		var base *archive.Checkpoint
		for i := range l.Checkpoints {
			if c := &l.Checkpoints[i]; base == nil && c.LSN+1 >= r.From && c.LSN <= r.To {
				base = c
			}
		}
		if base == nil {
			return nil // nothing leads there
		}
		if err := p.onState(ctx, base, w.state); err != nil {
			return err
		}
		at = wal.Tail{Pos: lsn.Pos{Epoch: base.Epoch, LSN: base.LSN}, Chain: base.Chain}
	} else if err := w.state(lsn.Pos{}, nil); err != nil {
		return err
	}
	from := at.Pos.LSN
	for i := range r.Pieces {
		if err := p.piece(ctx, &r.Pieces[i], &at, w.frame); err != nil {
			return err
		}
	}
	for _, x := range l.Reaches {
		if lo, hi := max(x.From, from+1), min(x.To, r.To); lo <= hi {
			p.reached = append(p.reached, Range{x.Epoch, lo, hi})
		}
	}
	return nil
}

// piece shows the frames of one object that follow at, which must join.
func (p *planning) piece(ctx context.Context, x *archive.Piece, at *wal.Tail, visit func(f *frame.Frame) error) error {
	if x.To <= at.Pos.LSN {
		return nil
	}
	var k archive.Key
	if x.Segment != nil {
		k = *x.Segment
	} else {
		k = *x.Part
	}
	return p.frames(ctx, k, func(f *frame.Frame) (bool, error) {
		switch {
		case f.LSN > x.To:
			return false, nil
		case f.LSN < at.Pos.LSN:
			return true, nil
		case f.LSN == at.Pos.LSN && f.Chain != at.Chain:
			return false, &UnfitError{fmt.Sprintf("%s holds another history at LSN %d than what comes before it", k, f.LSN)}
		case f.LSN == at.Pos.LSN:
			return true, nil
		case f.LSN != at.Pos.LSN+1 || at.Pos.LSN > 0 && frame.ChainNext(at.Chain, &f.Header, &f.H) != f.Chain:
			return false, &UnfitError{fmt.Sprintf("%s does not go on behind LSN %d", k, at.Pos.LSN)}
		}
		*at = wal.Tail{Pos: lsn.Pos{Epoch: f.Epoch, LSN: f.LSN}, Chain: f.Chain}
		return true, visit(f)
	})
}

// onState fetches a checkpoint and shows its state.
func (p *planning) onState(ctx context.Context, c *archive.Checkpoint, see func(lsn.Pos, table.View) error) (err error) {
	s, dir, err := p.o.fetch(ctx, p.a, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close(), p.o.FS.RemoveAll(dir)) }()
	snap, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	return see(lsn.Pos{Epoch: c.Epoch, LSN: c.LSN}, snap)
}

// fetch lays out a checkpoint in scratch and opens it.
func (o *Options) fetch(ctx context.Context, a *archive.Archive, c *archive.Checkpoint) (*table.Store, string, error) {
	dir := o.FS.PathJoin(o.Scratch, fmt.Sprintf("state-%d-%d", c.LSN, c.Epoch))
	o.Note("fetch the checkpoint at LSN %d of epoch %d, %d bytes", c.LSN, c.Epoch, c.Bytes)
	m, err := a.Manifest(ctx, c.Key())
	if err != nil {
		return nil, "", err
	}
	if err := o.FS.MkdirAll(o.Scratch, 0o700); err != nil {
		return nil, "", err
	}
	if err := restore.Files(ctx, o.FS, a, &m, dir); err != nil {
		return nil, "", err
	}
	s, err := o.openState(dir, true)
	if err != nil {
		return nil, "", err
	}
	at, err := s.Applied()
	want := table.Applied{Pos: lsn.Pos{Epoch: c.Epoch, LSN: c.LSN}, Chain: c.Chain, Digest: c.Digest, Stamp: c.Stamp}
	if err == nil && at != want {
		err = &archive.DamagedError{Store: a.Store().String(), Key: c.Key().String(), Err: fmt.Errorf("its files stand at LSN %d with digest %s", at.Pos.LSN, at.Digest)}
	}
	if err != nil {
		return nil, "", errors.Join(err, s.Close())
	}
	return s, dir, nil
}

func (o *Options) openState(dir string, readOnly bool) (*table.Store, error) {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard) // what Pebble has to say comes back as errors
	return table.Open(table.Options{FS: o.FS, Dir: dir, Log: quiet, ReadOnly: readOnly, CacheBytes: o.CacheBytes, MemtableBytes: o.MemtableBytes})
}

func (p *planning) learnState(_ lsn.Pos, v table.View) error {
	if v == nil {
		return nil
	}
	return p.subject.learnState(v)
}

func (p *planning) learnFrame(f *frame.Frame) error {
	ops, err := opsOf(f)
	if err != nil {
		return err
	}
	if err := p.subject.learnOps(ops); err != nil {
		return fmt.Errorf("LSN %d: %w", f.LSN, err)
	}
	return nil
}

func (p *planning) trackState(at lsn.Pos, v table.View) error {
	pairs := map[string]pair{}
	if v != nil {
		if err := p.subject.learnState(v); err != nil {
			return err
		}
		var err error
		if pairs, err = p.subject.inState(v); err != nil {
			return err
		}
	}
	p.track.begin(at, pairs)
	p.remember(at)
	return nil
}

func (p *planning) trackFrame(f *frame.Frame) error {
	e, err := p.track.frame(f)
	if err != nil {
		return err
	}
	at := lsn.Pos{Epoch: f.Epoch, LSN: f.LSN}
	if e != nil {
		p.plan.edits[at] = e
	}
	p.remember(at)
	return nil
}

// remember keeps the subject's pairs at a checkpoint that stays.
func (p *planning) remember(at lsn.Pos) {
	for i := range p.plan.Checkpoints {
		if c := &p.plan.Checkpoints[i]; !c.Drop && c.key.LSN == at.LSN && c.key.Epoch == at.Epoch {
			p.plan.lacking[c.key] = maps.Clone(p.track.pairs)
		}
	}
}

func (p *planning) trackEnd(newest bool) {
	p.track.close()
	if !newest {
		return
	}
	for key := range p.track.pairs {
		parts, _ := table.SplitKey([]byte(key))
		switch parts.Space {
		case table.SpaceRows:
			p.plan.LiveRows++
		case table.SpaceIdem:
			p.plan.LiveAnswers++
		}
	}
	p.plan.Live = len(p.track.pairs) > 0
}
