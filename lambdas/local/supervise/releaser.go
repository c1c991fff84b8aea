package supervise

import (
	"context"
	"errors"
	"fmt"
	"time"

	"originchain/shared/datadir"
	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// Stopped is a process that this supervisor has reaped, with its unit held. Only a
// Supervisor makes one.
type Stopped struct {
	Machine string
	// Node is the node it was, Place where its data directory is (lease.PlaceOf); "" if
	// the supervisor does not know.
	Node  string
	Place string
	// PID and Start are of the process: pid and start time in ticks since boot.
	PID   int
	Start uint64

	dir   string
	still func() bool
}

// Still says whether nothing runs in its place since: neither by this supervisor nor, as
// the directory's lock tells, by anybody else.
func (s Stopped) Still() bool { return s.still != nil && s.still() && s.closed() }

// closed says that nothing has the data directory open, as far as that can be known.
func (s Stopped) closed() bool {
	if s.dir == "" {
		return true
	}
	open, err := datadir.Locked(s.dir)
	return err == nil && !open
}

// Release is what became of a stopped process's lease.
type Release string

// What can become of it.
const (
	// Released: the record says that the node's epoch was given up, by this or by itself.
	Released Release = "released"
	// NotItsOwn: the record is another node's, or there is none.
	NotItsOwn Release = "not_its_own"
	// Unopened: the epoch was given to the node, and no process has opened it. When the
	// node starts it can still.
	Unopened Release = "unopened"
	// Elsewhere: the record is of the node's id, and of another data directory than the
	// process had. Whoever holds it may live.
	Elsewhere Release = "elsewhere"
	// NotReleased: none of these is known; the lease runs out by itself.
	NotReleased Release = "not_released"
)

const (
	// maxReleaseTries bounds the compare-and-sets of one release.
	maxReleaseTries = 64
	// releasePause is before another try when the store fails.
	releasePause = 50 * time.Millisecond
)

// Releaser gives up the lease of a writer that has ended for certain, so that nobody need
// wait for it to run out.
//
// Why that is safe: the record is read while the process is reaped and none was started
// since, which is looked at after each reading. So no process of the node that could
// still act has written what was read, or anything after it, and the compare-and-set is
// of that very version. A node that is started meanwhile takes a new epoch or adopts
// one, both of which change the version: then the release fails, and is not tried again.
type Releaser struct {
	Store lease.Store
}

// Release writes that the epoch which the node holds is given up: of exactly the node and
// the epoch that the first reading finds. A lost answer is read back. It ends with the
// context, after which it is not known whether the record was written.
func (r *Releaser) Release(ctx context.Context, s Stopped) (Release, error) {
	if s.Node == "" || s.Place == "" {
		return NotReleased, fmt.Errorf("the lease of %s is not released: its unit must name --node-id and --data-dir, for a release to be of the right node", s.Machine)
	}
	var epoch lsn.Epoch
	var last error
	for range maxReleaseTries {
		record, ok, err := r.Store.Load(ctx)
		switch {
		case !s.Still():
			return NotReleased, ErrStartedAgain
		case err != nil:
			last = err
		default:
			if what := about(record, ok, s, epoch); what != "" {
				return what, nil
			}
			epoch = record.Epoch
			next, err := record.Release(lease.Claim{Node: s.Node, Epoch: epoch}, 0)
			if err != nil {
				return NotReleased, err
			}
			if _, last = r.Store.CompareAndSet(ctx, record.Version, next); last == nil {
				return Released, nil
			}
			var moved *lease.ConflictError
			if errors.As(last, &moved) {
				continue // its last renewal may have been under way
			}
		}
		if err := pause(ctx, releasePause); err != nil {
			return NotReleased, errors.Join(fmt.Errorf("the lease of %s may not be released: %w", s.Node, err), last)
		}
	}
	return NotReleased, fmt.Errorf("the lease of %s is not known to be released after %d tries: %w", s.Node, maxReleaseTries, last)
}

// about says what there is to be done about a record: "" if it is to be released.
// epoch is what an earlier reading found, 0 for none.
func about(record lease.Record, ok bool, s Stopped, epoch lsn.Epoch) Release {
	switch {
	case !ok, record.Holder != s.Node, epoch != 0 && record.Epoch != epoch:
		return NotItsOwn
	case record.Released:
		return Released
	case record.Place == "":
		return Unopened
	case record.Place != s.Place:
		return Elsewhere
	}
	return ""
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
