package writer

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// checkpointRetry is how long after a checkpoint that failed the next is made.
	checkpointRetry = 30 * time.Second
	// checkpointSlack is the share of the interval by which a checkpoint begins early in
	// any case, up to half of it less by chance: a fleet that was started at once does
	// not upload at once for ever.
	checkpointSlack = 20
	// checkpointRest is the share of the interval for which none is made after one that
	// took so long that the next is due.
	checkpointRest = 10
)

// rhythm is when checkpoints are made. A checkpoint is as old as its copy of the state,
// and is there when it is uploaded: so each begins earlier than the interval says, by
// what the one before took and half as much. Begun by the interval alone, each hour would
// have some minutes in which the newest is older than an hour.
type rhythm struct {
	every time.Duration
	ship  func(context.Context) error
	draw  func(int64) int64 // one of so many, by chance
	log   logrus.FieldLogger
}

// run makes checkpoints until ctx ends, and at once where one is wanted, because the
// archive has a gap that only a checkpoint bridges.
func (r *rhythm) run(ctx context.Context, wanted <-chan struct{}) {
	due := time.NewTimer(r.first())
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		case <-wanted:
		}
		began := time.Now()
		err := r.ship(ctx)
		next := r.next(time.Since(began))
		if err != nil && ctx.Err() == nil {
			next = min(r.every, checkpointRetry)
			r.log.WithError(err).WithField("retry_s", int64(next/time.Second)).Error("the checkpoint did not get into the archive")
		}
		due.Reset(next)
	}
}

// first is soon after the start, so that a new archive has one, but not while the node
// is busy with starting.
func (r *rhythm) first() time.Duration { return min(r.every, checkpointRetry) }

// next is how long after a checkpoint that took so long the next one begins. It may take
// half as long again, and is then there before the interval is over. One that takes more
// than a third of the interval has no such margin; there is a rest between two all the same.
func (r *rhythm) next(took time.Duration) time.Duration {
	slack := r.every / checkpointSlack
	slack -= time.Duration(r.draw(int64(slack/2) + 1))
	return max(r.every-took-(took+took/2)-slack, r.every/checkpointRest)
}
