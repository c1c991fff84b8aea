package failover

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// dated is an instance control whose commands may come late: it notes by the record of
// which epoch each was given that changes something.
type dated struct {
	*world
	epoch uint64
	given *[]string
}

func (d dated) AsOf(epoch uint64) Control { return dated{d.world, epoch, d.given} }

func (d dated) note(what string, n Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*d.given = append(*d.given, fmt.Sprintf("%s %s by %d", what, n.ID, d.epoch))
}

func (d dated) Stop(ctx context.Context, n Node) (Process, error) {
	d.note("stop", n)
	return d.world.Stop(ctx, n)
}

func (d dated) Start(ctx context.Context, n Node) error {
	d.note("start", n)
	return d.world.Start(ctx, n)
}

func (d dated) Restart(ctx context.Context, n Node) error {
	d.note("restart", n)
	return d.world.Restart(ctx, n)
}

func (d dated) Rewrite(ctx context.Context, n Node, text []byte) error {
	d.note("rewrite", n)
	return d.world.Rewrite(ctx, n, text)
}

// TestCommandsAreOfTheRunsEpoch: a machine is told by which record it is to act, and that is
// the one that the run has decided by, in one process or in many.
func TestCommandsAreOfTheRunsEpoch(t *testing.T) {
	const want = "stop a by 1, rewrite b by 1, restart b by 2, start a by 2"
	for _, steps := range []bool{false, true} {
		bubble(t, func(t *testing.T, w *world) {
			w.nodes["b"].deaf = true
			w.kill("a", false)
			var given []string
			d := w.deps()
			d.Control = dated{w, 0, &given}
			rep, err := Report{}, error(nil)
			if steps {
				rep, err = Begin(t.Context(), d, w.request("b"), nil)
				for _, name := range StepNames()[1:] {
					if err == nil {
						rep, err = Continue(t.Context(), d, Next{Run: rep.Run, Step: name, Zone: zone}, nil)
					}
				}
			} else {
				rep, err = Execute(t.Context(), d, w.request("b"), nil)
			}
			if err == nil {
				_, err = LetGo(t.Context(), d, rep.Run)
			}
			if got := strings.Join(given, ", "); err != nil || got != want {
				t.Errorf("%v\n got %s\nwant %s", err, got, want)
			}
		}, "b")
	}
}
