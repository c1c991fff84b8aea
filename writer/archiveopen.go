package writer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"originchain/shared/archive"
	"originchain/shared/datadir"
	"originchain/shared/engine"
	"originchain/shared/lsn"
	"originchain/shared/telemetry"
)

const (
	// askTimeout bounds one question to an archive without whose answer the node does
	// not open, complainEvery how often it says that it has none.
	askTimeout    = 20 * time.Second
	complainEvery = 10 * time.Second
)

// waiting is an opening that waits for the archive.
type waiting struct {
	node  *Shell
	what  string
	since time.Time

	mu     sync.Mutex
	last   error
	logged time.Time
}

// waitFor says in the log and in /ready what the opening waits for, until over.
func (n *Shell) waitFor(what string) *waiting {
	w := &waiting{node: n, what: what, since: time.Now()}
	n.waits.Store(w)
	n.deps.Log.Info("the start waits for the archive " + what)
	return w
}

func (w *waiting) over() { w.node.waits.CompareAndSwap(w, nil) }

// trouble takes note of a question that got no answer.
func (w *waiting) trouble(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = err
	if now := time.Now(); w.logged.IsZero() || now.Sub(w.logged) >= complainEvery {
		w.logged = now
		w.node.deps.Log.WithError(err).WithField("for_s", int64(now.Sub(w.since)/time.Second)).Error("the start waits for the archive " + w.what + ", and asks again")
	}
}

// detail is the check of /ready.
func (w *waiting) detail(now time.Time) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := fmt.Sprintf("the start waits for the archive %s, since %s", w.what, now.Sub(w.since).Truncate(100*time.Millisecond))
	if w.last != nil {
		text += "; the last answer: " + w.last.Error()
	}
	return telemetry.Redact(text)
}

// mayOpen asks whether a node whose log ends at last may be a writer, as far as the
// archive knows. An empty directory becomes a new instance only where the archive is
// known to be of none: until it can be asked, the node waits.
func (a *archiver) mayOpen(ctx context.Context, who datadir.Identity, last lsn.Pos) error {
	switch {
	case a.store == nil:
		return nil
	case last.LSN > 0:
		asking, cancel := context.WithTimeout(ctx, epochWait)
		defer cancel()
		in, err := a.store.Instance(asking)
		if err == nil && in.Instance != who.InstanceID {
			return &archive.ForeignError{Store: a.cfg.Store.String(), Key: "instance.json", Theirs: in.Instance, Ours: who.InstanceID}
		}
		return ctx.Err() // else the shipper finds out when it can
	}
	w := a.node.waitFor(fmt.Sprintf("%s to say that it is of no instance, since the data directory is empty", a.cfg.Store))
	defer w.over()
	for {
		free, err := a.free(ctx, who)
		switch {
		case err == nil && free:
			return nil
		case errors.Is(err, ErrArchived):
			return err
		}
		w.trouble(err)
		if wait(ctx, time.Second); ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
	}
}

// free reports that the archive may become that of a directory without data: it is
// of nobody, or a first start of this instance was cut short before its first frame
// was shipped.
func (a *archiver) free(ctx context.Context, who datadir.Identity) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	in, err := a.store.Instance(ctx)
	var missing *archive.MissingError
	switch {
	case errors.As(err, &missing):
		return true, nil
	case err != nil:
		return false, err
	case in.Instance != who.InstanceID:
		return false, fmt.Errorf("%w: %s is of instance %s; restore it with oc-pitr restore, start a follower of its writer, or name an archive of its own for a new instance", ErrArchived, a.cfg.Store, in.Instance)
	}
	began, err := a.store.Began(ctx)
	if err == nil && began {
		err = fmt.Errorf("%w: %s is of this instance, %s, whose data is there; restore it with oc-pitr restore", ErrArchived, a.cfg.Store, in.Instance)
	}
	return err == nil, err
}

// takeEpoch is the engine's question for an epoch where there is no record: who
// creates its object in the archive has it. It waits for an archive that is away,
// since nobody else could tell two writers apart. A node that another has superseded
// is no writer any more.
func (a *archiver) takeEpoch(ctx context.Context, o engine.Opening) (lsn.Epoch, error) {
	who := archive.Claimant{Instance: o.Who.InstanceID, Node: o.Who.NodeID, Region: a.node.cfg.Region, AllowCrossRegion: a.cfg.AllowCrossRegion}
	own, err := o.Allot(0)
	if err != nil {
		return 0, err
	}
	w := a.node.waitFor(fmt.Sprintf("%s to allot its epoch (with --control it would start without)", a.cfg.Store))
	defer w.over()
	// What one call notes in the directory, the next one must know.
	note := func(nonces []string) error {
		err := o.NoteClaims(nonces)
		if err == nil {
			o.Claims = nonces
		}
		return err
	}
	for {
		epoch, err := archive.AllotEpoch(ctx, a.cfg.Store, who, archive.Allotment{
			Line: o.Line, At: o.Last, AtLeast: own - 1, Ended: o.Ended, Claims: o.Claims, Note: note, Trouble: w.trouble,
		})
		var fenced *archive.FencedError
		switch {
		case err == nil && epoch > own:
			// Durable here too, so that the directory never allots it again.
			return o.Allot(epoch - 1)
		case errors.As(err, &fenced):
			return 0, &MustFollowError{Reason: err.Error()}
		case err == nil || ctx.Err() != nil || archive.Permanent(err):
			return epoch, err
		}
		w.trouble(err)
		wait(ctx, time.Second)
	}
}
