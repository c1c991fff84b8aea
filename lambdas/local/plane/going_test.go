package plane

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"originchain/lambdas/local/control"
)

// counted is a fault that counts.
type counted struct {
	made, ended int
	fails       error
}

func (f *counted) do() (func(context.Context) error, error) {
	f.made++
	return func(context.Context) error { f.ended++; return f.fails }, nil
}

func goes(t *testing.T) (*going, *bytes.Buffer) {
	t.Helper()
	var said bytes.Buffer
	log := logrus.New()
	log.SetOutput(&said)
	return newGoing(log), &said
}

// TestAFaultThatWasUndoneIsNotMade: its request comes after the one that has undone it, which
// did not hear whether it was made, and of whom.
func TestAFaultThatWasUndoneIsNotMade(t *testing.T) {
	g, _ := goes(t)
	defer g.close()
	f := &counted{}
	stop := control.Fault{ID: "1", Fault: control.FaultStop, Node: "a", PID: 7}
	if err := g.undo(t.Context(), control.Fault{ID: "1", Fault: control.FaultStop}); err != nil {
		t.Fatal(err)
	}
	if err := g.begin(t.Context(), stop, f.do); err == nil || f.made != 0 {
		t.Errorf("%v, made %d times", err, f.made)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	stop.ID = "2"
	if err := g.begin(gone, stop, f.do); !errors.Is(err, context.Canceled) || f.made != 0 {
		t.Errorf("%v, made %d times", err, f.made)
	}
	if err := g.begin(t.Context(), stop, f.do); err != nil || f.made != 1 {
		t.Errorf("%v, made %d times", err, f.made)
	}
	// Of another kind, another node, or another process.
	for _, other := range []control.Fault{{Fault: control.FaultDisk}, {Fault: control.FaultStop, Node: "b", PID: 7}, {Fault: control.FaultStop, Node: "a", PID: 8}} {
		if err := g.undo(t.Context(), other); err != nil || f.ended != 0 {
			t.Errorf("%+v: %v, ended %d times", other, err, f.ended)
		}
	}
	f.fails = errors.New("away")
	if err := g.undo(t.Context(), stop); !errors.Is(err, f.fails) {
		t.Errorf("%v", err)
	}
	f.fails = nil
	for range 2 {
		if err := g.undo(t.Context(), stop); err != nil || f.ended != 2 {
			t.Errorf("%v, ended %d times", err, f.ended)
		}
	}
	// What is remembered is bounded.
	for range 3 * rememberUndone {
		_ = g.undo(t.Context(), control.Fault{ID: "3"})
	}
	if n := len(g.undone); n != rememberUndone {
		t.Errorf("%d are remembered", n)
	}
}

// TestAFaultEnds by itself, once, if nobody ends it; and none begins when the instance ends.
func TestAFaultEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, said := goes(t)
		left, undone := &counted{}, &counted{}
		for node, f := range map[string]*counted{"a": left, "b": undone} {
			if err := g.begin(t.Context(), control.Fault{Fault: control.FaultDisk, Node: node, PID: 7}, f.do); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.undo(t.Context(), control.Fault{Fault: control.FaultDisk, Node: "b", PID: 7}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(goesOnAtMost - time.Nanosecond)
		synctest.Wait()
		if left.ended != 0 || undone.ended != 1 {
			t.Errorf("ended %d and %d times", left.ended, undone.ended)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if left.ended != 1 || undone.ended != 1 || !strings.Contains(said.String(), "nobody has ended the fault") {
			t.Errorf("ended %d and %d times: %s", left.ended, undone.ended, said)
		}
		g.close()
		if err := g.begin(t.Context(), control.Fault{Fault: control.FaultDisk}, left.do); err == nil || left.made != 1 {
			t.Errorf("%v, made %d times", err, left.made)
		}
	})
}

// TestFilesThatTakeNothing: a process is given back what it had, which needs no right.
func TestFilesThatTakeNothing(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "cat")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	limit := func() (l unix.Rlimit) {
		t.Helper()
		if err := unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_FSIZE, nil, &l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	before := limit()
	end, err := fillFiles(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if got := limit(); got.Cur != 0 || got.Max != before.Max {
		t.Errorf("%+v, and it was %+v", got, before)
	}
	if err := end(); err != nil || limit() != before {
		t.Errorf("%v: %+v, and it was %+v", err, limit(), before)
	}
}
