package failover

import (
	"context"
	"strings"
	"testing"
	"time"

	"originchain/shared/serverunit"
)

// slowToEnd is an instance control of a server that takes all of its unit's TimeoutStopSec
// to end, where it is to be started afterwards.
type slowToEnd struct{ *world }

func (slowToEnd) Pace() time.Duration { return 3 * time.Second }

func (s slowToEnd) Restart(ctx context.Context, n Node) error {
	if err := (paced{takes: serverunit.StopTimeout + 5*time.Second}).way(ctx); err != nil {
		return err
	}
	return s.world.Restart(ctx, n)
}

func (s slowToEnd) Start(ctx context.Context, n Node) error {
	if err := (paced{takes: serverunit.StopTimeout + 5*time.Second}).way(ctx); err != nil {
		return err
	}
	return s.world.Start(ctx, n)
}

// A server that is killed by its unit only after all the time that it has is waited for.
func TestARestartTakesAsLongAsTheUnitAllows(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		w.with("b", func(n *fakeNode) { n.deaf = true })
		d := w.deps()
		d.Control = slowToEnd{w}
		rep, err := Execute(t.Context(), d, w.request("b"), nil)
		if err != nil || !strings.Contains(strings.Join(rep.Notes, "\n"), "restarted by its unit") {
			t.Fatalf("%+v, %v", rep, err)
		}
		w.isDone(t, "b", 2)
		if said, err := LetGo(t.Context(), d, rep.Run); err != nil || w.starts("a") != 1 {
			t.Errorf("%q, %v", said, err)
		}
	}, "b")
}

// The process that restarts a node which hangs opening may be killed while the restart is
// under way. The one that goes on waits for it, and does not restart it again.
func TestANodeThatHangsOpeningIsRestartedOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		w.with("b", func(n *fakeNode) { n.hangs = "silent" })
		run := w.begunSteps(t, stepPromote)
		smoke := Next{Run: run, Step: stepSmoke, Zone: zone}
		ctx, kill := context.WithCancel(t.Context())
		d := w.deps()
		d.Control = killing{w, kill}
		if _, err := Continue(ctx, d, smoke, nil); err == nil {
			t.Fatal("it was not killed")
		}
		w.with("b", func(n *fakeNode) { n.hung = true }) // it takes its time to begin
		_, err := Continue(t.Context(), w.deps(), smoke, nil)
		if n := w.nodes["b"].restarts; n != 1 {
			t.Errorf("%d restarts, %v", n, err)
		}
	}, "b")
}

// killing is an instance control whose caller ends once a node was restarted.
type killing struct {
	*world
	kill func()
}

func (k killing) Restart(ctx context.Context, n Node) error {
	defer k.kill()
	return k.world.Restart(ctx, n)
}

// deaf is an instance control whose commands no machine answers.
type deaf struct{ *world }

func (deaf) Start(ctx context.Context, _ Node) error {
	<-ctx.Done()
	return ctx.Err()
}

// A machine that did not answer a stop is not waited for as one that restarts its server.
func TestAMachineThatDidNotAnswerIsNotWaitedForLong(t *testing.T) {
	for cut, want := range map[string]time.Duration{"": restartTimeout, "a": stopTimeout} {
		bubble(t, func(t *testing.T, w *world) {
			w.kill("a", false)
			w.cut = cut
			run := w.begunSteps(t, stepRecord)
			d := w.deps()
			d.Control = deaf{w}
			began := time.Now()
			if _, err := LetGo(t.Context(), d, run); err == nil || time.Since(began) != want {
				t.Errorf("cut off: %q, after %s: %v", cut, time.Since(began), err)
			}
		}, "b")
	}
}
