package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/object"
)

// Kinds of objects, as the metric of uploaded bytes tells them apart.
const (
	kindSegment    = "segment"
	kindTail       = "tail"
	kindCheckpoint = "checkpoint"
)

// put creates an object. A name that is taken is a success only if same finds there
// what is as good as ours: it may be ours, by a try whose answer was lost.
func (s *Shipper) put(ctx context.Context, k Key, body object.Body, kind string, same func(context.Context) error) error {
	err := s.a.store.Put(ctx, k.String(), body)
	if errors.Is(err, object.ErrExists) {
		return same(ctx)
	}
	switch {
	case err == nil:
		s.deps.Metrics.uploaded(kind, body.Size)
	case errors.Is(err, object.ErrContent):
		err = s.spoilt(err) // it was read once more to be sent, and the store took nothing of it
	}
	return err
}

// Tail is what the shipping of the open segment is doing.
type Tail string

// What it can be doing.
const (
	TailOff     Tail = "off"
	TailRunning Tail = "running"
	TailPaused  Tail = "paused"
	// TailWaiting: the archive is away, or does not take the epoch yet, or nothing is
	// shipped any more.
	TailWaiting Tail = "waiting"
)

// Status is how far the archive is behind the log.
type Status struct {
	// Connected says that the archive was found and has our epoch. Until then nothing
	// is shipped.
	Connected bool `json:"connected"`
	// ShippedLSN is the last frame in a sealed segment, RecoverableLSN the last one in
	// any object, without a hole; the stamps are theirs, in microseconds, 0 if unknown.
	ShippedLSN       uint64 `json:"shipped_lsn"`
	ShippedStamp     int64  `json:"shipped_stamp_micros"`
	RecoverableLSN   uint64 `json:"recoverable_lsn"`
	RecoverableStamp int64  `json:"recoverable_stamp_micros"`
	// UnshippedBytes are those of local segments that hold frames above ShippedLSN.
	UnshippedBytes int64 `json:"unshipped_bytes"`
	// UnshippedSeconds is how long the first frame above ShippedLSN has been durable,
	// RPOSeconds the same above RecoverableLSN: what would be lost with this machine.
	UnshippedSeconds float64 `json:"unshipped_s"`
	RPOSeconds       float64 `json:"rpo_s"`
	Tail             Tail    `json:"tail"`
	// Gap is one that was found when the archive was opened.
	GapFrom uint64 `json:"gap_from_lsn,omitempty"`
	GapTo   uint64 `json:"gap_to_lsn,omitempty"`
	// CheckpointLSN is that of the newest checkpoint of the line, CheckpointSeconds how
	// long ago it held all there was; from the start on where there is none.
	CheckpointLSN     uint64  `json:"checkpoint_lsn"`
	CheckpointSeconds float64 `json:"checkpoint_age_s"`
	// LastError is what keeps the shipper from going on, empty if nothing does.
	LastError string `json:"last_error,omitempty"`
}

// Status tells how far the archive is behind. It does not ask the archive.
func (s *Shipper) Status() Status {
	now := s.deps.Now()
	s.progress.sight(s.deps.Log.Durable(), now)
	segments, all := s.progress.reached()
	unshipped, lost := s.progress.ages(now)
	st := Status{
		Connected: s.connected.Load(), ShippedLSN: uint64(segments.to), ShippedStamp: segments.stamp,
		RecoverableLSN: uint64(all.to), RecoverableStamp: all.stamp,
		UnshippedSeconds: unshipped.Seconds(), RPOSeconds: lost.Seconds(),
	}
	for _, x := range s.deps.Log.Segments() {
		if x.Last > segments.to {
			st.UnshippedBytes += x.Bytes
		}
	}
	if gap := s.gap.Load(); gap != nil {
		st.GapFrom, st.GapTo = uint64(gap.From), uint64(gap.To)
	}
	var since time.Time
	for _, t := range []*trouble{&s.connecting, &s.segments, &s.tail, &s.fence, &s.checkpoints.trouble} {
		if at, err := t.last(now); err != nil && (since.IsZero() || at.Before(since)) {
			st.LastError, since = err.Error(), at
		}
	}
	if st.LastError == "" && s.unbegun.Load() {
		st.LastError = fmt.Sprintf("nothing is shipped before epoch %d has a frame in this node's log", s.cfg.Epoch)
	}
	if err := s.ended.Load(); err != nil {
		st.LastError = (*err).Error()
	}
	st.Tail = s.tailState(now)
	st.CheckpointLSN, st.CheckpointSeconds = s.checkpoints.age(now)
	return st
}

func (s *Shipper) tailState(now time.Time) Tail {
	_, err := s.tail.last(now)
	switch {
	case !s.cfg.Tail:
		return TailOff
	case s.paused.Load():
		return TailPaused
	case err != nil || !s.connected.Load() || s.ended.Load() != nil:
		return TailWaiting
	}
	return TailRunning
}

// backlogFields are what every complaint about the archive carries.
func (s *Shipper) backlogFields() logrus.Fields {
	st := s.Status()
	return logrus.Fields{"shipped_lsn": st.ShippedLSN, "unshipped_bytes": st.UnshippedBytes, "unshipped_s": int64(st.UnshippedSeconds), "rpo_s": int64(st.RPOSeconds)}
}
