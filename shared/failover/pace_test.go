package failover

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// paced is an instance control whose calls take their time on the way, and which says so.
type paced struct {
	*world
	takes, says time.Duration
}

func (p paced) Pace() time.Duration { return p.says }

func (p paced) way(ctx context.Context) error {
	pause := time.NewTimer(p.takes)
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p paced) Process(ctx context.Context, n Node) (Process, error) {
	if err := p.way(ctx); err != nil {
		return Process{}, err
	}
	return p.world.Process(ctx, n)
}

func (p paced) Stop(ctx context.Context, n Node) (Process, error) {
	if err := p.way(ctx); err != nil {
		return Process{}, err
	}
	return p.world.Stop(ctx, n)
}

func (p paced) Unit(ctx context.Context, n Node) (string, []byte, error) {
	if err := p.way(ctx); err != nil {
		return "", nil, err
	}
	return p.world.Unit(ctx, n)
}

// What machines are asked takes seconds where they are reached by run-command. Its bounds
// grow by what instance control says, so that an answer that comes is heard.
func TestInstanceControlIsSlow(t *testing.T) {
	for _, says := range []time.Duration{0, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "b")
			defer w.stop()
			w.kill("a", true)
			began := time.Now()
			d := w.deps()
			d.Control = paced{w, 2500 * time.Millisecond, says}
			rep, err := Execute(t.Context(), d, w.request("b"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if heard := has(rep.Reasons, WriterStopped); heard != (says > 0) {
				t.Errorf("it says that it takes %s, and by %v the writer is heard to have stopped: %t", says, rep.Reasons, heard)
			}
			if took := time.Since(began); says > 0 && took > 2500*time.Millisecond*3 {
				t.Errorf("it took %s", took)
			}
			w.isWriter(t, "b", 2)
			if says > 0 {
				w.isDone(t, "b", 2)
			}
		})
	}
}

func has(reasons []Reason, c Code) bool { d := Decision{Reasons: reasons}; return d.has(c) }

// mute is an instance control that says what became of a stop, and nothing else.
type mute struct{ *world }

func (mute) Process(context.Context, Node) (Process, error) {
	return Process{}, errors.New("nobody answers")
}

// Who stops a process hears that it has ended, and need not be asked again.
func TestTheAnswerOfAStopIsEnough(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.with("a", func(n *fakeNode) { n.slow = 1100 * time.Millisecond })
		req := w.request("b")
		req.Allow.AllowSlowWriter = true
		d := w.deps()
		d.Control = mute{w}
		rep, err := Execute(t.Context(), d, req, nil)
		if err != nil || rep.PauseSeconds > 1 {
			t.Errorf("%+v, %v: it has waited for the lease of a process that was seen to end", rep, err)
		}
		w.isDone(t, "b", 2)
	}, "b")
}

// An answer is about the process that the record names if that is the one it was before
// the stop: renewed or not, of the same epoch and directory.
func TestOfWhichProcessAStopTells(t *testing.T) {
	place := func(at string) lease.Record {
		return lease.Record{Version: 7, Holder: "a", Epoch: 3, ConfirmedEpoch: 3, Place: at}
	}
	change := func(r lease.Record, f func(*lease.Record)) lease.Record { f(&r); return r }
	given := change(place(""), func(r *lease.Record) {
		r.ConfirmedEpoch = 2
		r.Line = []lease.Opening{{Epoch: 3, FirstLSN: 1, Parent: 2}}
		r.URL = "http://a"
	})
	ended := Process{Reaped: true, Place: "here"}
	for name, c := range map[string]struct {
		before, now lease.Record
		p           Process
		want        bool
	}{
		"the same":              {place("here"), place("here"), ended, true},
		"renewed meanwhile":     {place("here"), change(place("here"), func(r *lease.Record) { r.Version, r.CommitLSN = 9, lsn.LSN(12) }), ended, true},
		"of another epoch":      {place("here"), change(place("here"), func(r *lease.Record) { r.Epoch = 4 }), ended, false},
		"of another node":       {place("here"), change(place("here"), func(r *lease.Record) { r.Holder = "b" }), ended, false},
		"of another directory":  {place("there"), place("there"), ended, false},
		"not known to be ended": {place("here"), place("here"), Process{Place: "here"}, false},
		"not opened yet":        {given, given, ended, given.Given("a")},
		"opens meanwhile":       {given, change(given, func(r *lease.Record) { r.Place = "here" }), ended, false},
		"opened meanwhile":      {given, place("here"), ended, false},
	} {
		if got := tellsOf(c.before, c.now, c.p); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// unitReads notes whose unit is read, and hangs at one's machine that is gone.
type unitReads struct {
	*world
	gone string
	of   *[]string
}

func (u unitReads) Unit(ctx context.Context, n Node) (string, []byte, error) {
	u.mu.Lock()
	*u.of = append(*u.of, n.ID)
	u.mu.Unlock()
	if n.ID == u.gone {
		<-ctx.Done()
		return "", nil, ctx.Err()
	}
	return u.world.Unit(ctx, n)
}

// Stop gives a machine that is gone up a little before its time is over, as whoever takes a
// command back then.
func (u unitReads) Stop(ctx context.Context, n Node) (Process, error) {
	if n.ID != u.gone {
		return u.world.Stop(ctx, n)
	}
	end, _ := ctx.Deadline()
	short, cancel := context.WithDeadline(ctx, end.Add(-300*time.Millisecond))
	defer cancel()
	<-short.Done()
	return Process{}, fmt.Errorf("nobody knows whether it is stopped: %w", short.Err())
}

// The old writer's unit is read by the step that needs it, and by no other; that of a
// machine which did not answer when it was told to stop is not asked for at all.
func TestTheOldUnitIsReadWhenItIsNeeded(t *testing.T) {
	for _, gone := range []string{"", "a"} {
		bubble(t, func(t *testing.T, w *world) {
			w.kill("a", gone == "")
			w.cut = gone
			var of []string
			d := w.deps()
			d.Control = unitReads{w, gone, &of}
			rep, err := Begin(t.Context(), d, w.request("b"), nil)
			for _, name := range StepNames()[1:] {
				if err != nil {
					t.Fatal(err)
				}
				before := len(of)
				began := time.Now()
				rep, err = Continue(t.Context(), d, Next{Run: rep.Run, Step: name, Zone: zone}, nil)
				read := of[before:]
				if name != stepUnit && len(of) > 0 && len(read) > 0 || name == stepFence && before > 0 {
					t.Errorf("%s reads units of %v, and those before of %v", name, read, of[:before])
				}
				if want := map[string]int{"": 2, "a": 1}[gone]; name == stepUnit && (len(read) != want || time.Since(began) > 0) {
					t.Errorf("gone %q: units of %v are read, in %s", gone, read, time.Since(began))
				}
			}
			w.isWriter(t, "b", 2)
		}, "b")
	}
}
