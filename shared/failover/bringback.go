package failover

import (
	"context"
	"slices"
	"sync"

	"originchain/shared/lease"
)

// bringing starts the servers that are held before the run has come to its end, once the new
// writer opens: under --sync-strict that acknowledges nothing, and is not ready, without a
// follower, and those that are held may be the only ones that there are.
//
// It goes on beside whoever looks for the new writer, and until that is there: a machine that
// does not answer, or whose server takes its unit's TimeoutStopSec to end, takes up none of
// the new writer's time, and no other machine's.
type bringing struct {
	run    *run
	cancel context.CancelFunc
	ended  chan struct{}
	noting sync.Mutex

	mu   sync.Mutex
	said []string
}

// bringBack begins with it. Its end is to be waited for: what is under way is called back,
// and left to LetGo.
func (r *run) bringBack(ctx context.Context) *bringing {
	ctx, cancel := context.WithCancel(ctx)
	b := &bringing{run: r, cancel: cancel, ended: make(chan struct{})}
	d, run, to, held := r.deps, r.journal.Run, r.to.ID, slices.Clone(r.journal.Held)
	slices.Reverse(held)
	go func() {
		defer close(b.ended)
		if run == "" || len(held) == 0 || r.pauseFor(ctx, aloneAfter) != nil {
			return
		}
		eachHeld(held, func(_ int, s stopped) { b.start(ctx, d, run, to, s) })
	}()
	return b
}

// start tries one node until it is started, or is held no more.
func (b *bringing) start(ctx context.Context, d Deps, run, to string, s stopped) {
	for failed := false; ; {
		l, err := readHeld(ctx, d, run, &b.noting)
		if err == nil && !slices.Contains(l.held, s) {
			return // another process has let it go, or has stopped it again
		}
		pause := waitPoll
		// Before it opens, whoever is held would be refused.
		if err == nil && opens(l.rec, to) {
			if _, unknown := find(l.nodes, s.Node); unknown != nil {
				return // LetGo says so, to more people than read a run's notes
			}
			var said string
			if said, err = l.start(ctx, s); err == nil {
				b.say(said)
				return
			}
			pause = aloneAfter
		}
		if err != nil && !failed && ctx.Err() == nil {
			b.say(err.Error())
			failed = true
		}
		if b.run.pauseFor(ctx, pause) != nil {
			return
		}
	}
}

// opens says whether a node opens the epoch that the record gives it, or has opened it.
func opens(rec lease.Record, id string) bool { return rec.Holder == id && rec.Adopted() }

func (b *bringing) say(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, text)
}

// tell tells what has been said meanwhile.
func (b *bringing) tell() {
	b.mu.Lock()
	said := b.said
	b.said = nil
	b.mu.Unlock()
	for _, text := range said {
		b.run.tell("%s was not ready after %s, and may wait for followers: %s", b.run.to.ID, aloneAfter, text)
	}
}

// end ends it, and tells the rest.
func (b *bringing) end() {
	b.cancel()
	<-b.ended
	b.tell()
}
