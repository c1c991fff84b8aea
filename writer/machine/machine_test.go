package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/failover"
	"originchain/shared/lease"
)

func TestStopHoldsAndStartLifts(t *testing.T) {
	r := newRig(t, "server")
	pid := r.started()
	p, err := r.Process(t.Context())
	if want := (failover.Process{Running: true, PID: pid}); err != nil || p != want {
		t.Fatalf("a server that runs: %+v, %v; want %+v", p, err, want)
	}
	p, err = r.Stop(t.Context(), 5)
	r.must(err)
	place, err := lease.PlaceOf(r.data)
	r.must(err)
	if want := (failover.Process{Reaped: true, Place: place}); p != want || alive(pid) {
		t.Fatalf("stopped: %+v, want %+v", p, want)
	}
	// Nobody starts it: not by hand, not after systemd has read all anew.
	for _, args := range [][]string{{"start", unitName}, {"restart", unitName}, {"daemon-reload"}, {"start", unitName}} {
		out, err := r.sys.Systemctl(args...)
		if len(args) > 1 && (err == nil || !strings.Contains(out, "Assertion failed")) {
			t.Errorf("systemctl %v of a held unit: %v, %s", args, err, out)
		}
	}
	if n, _, _ := r.ups(); n != 1 {
		t.Errorf("%d servers were started, want 1", n)
	}
	// Again, it is the same.
	if again, err := r.Stop(t.Context(), 5); err != nil || again != p {
		t.Errorf("a second stop: %+v, %v", again, err)
	}
	p, err = r.Start(t.Context(), 5)
	if second := r.upAfter(1); err != nil || p.PID != second || !p.Running || p.Reaped {
		t.Errorf("started: %+v, %v", p, err)
	}
	// A start of what runs does nothing.
	if again, err := r.Start(t.Context(), 5); err != nil || again != p {
		t.Errorf("a second start: %+v, %v", again, err)
	}
	if n, _, _ := r.ups(); n != 2 {
		t.Errorf("%d servers were started, want 2", n)
	}
}

// TestALateCommandDoesNothing: each verb, with an older epoch and a newer one, where there
// is no record, and where it cannot be read.
func TestALateCommandDoesNothing(t *testing.T) {
	r := newRig(t, "server")
	pid := r.started()
	path, text, err := r.Text()
	r.must(err)
	verbs := map[string]func(epoch uint64) error{
		"stop":    func(e uint64) error { _, err := r.Stop(t.Context(), e); return err },
		"start":   func(e uint64) error { _, err := r.Start(t.Context(), e); return err },
		"restart": func(e uint64) error { _, _, err := r.Restart(t.Context(), e); return err },
		"rewrite": func(e uint64) error { return r.Rewrite(t.Context(), e, append(text, '\n')) },
	}
	check := func(what string, epoch, found uint64) {
		t.Helper()
		for name, do := range verbs {
			var refused *RefusedError
			if err := do(epoch); !errors.As(err, &refused) || refused.Found != found || refused.Asked != epoch {
				t.Errorf("%s, %s: %v", what, name, err)
			}
		}
		now, err := os.ReadFile(path)
		if n, last, _ := r.ups(); n != 1 || last != pid || !alive(pid) || err != nil || string(now) != string(text) {
			t.Fatalf("%s: %d starts, alive %v, unit %q, %v", what, n, alive(pid), now, err)
		}
		if _, err := os.Stat(r.holdPath()); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%s: the unit is held: %v", what, err)
		}
	}
	check("an older epoch", 4, 5)
	r.setEpoch(7)
	check("delivered after two failovers", 5, 7)
	check("an epoch that nobody has taken", 8, 7)
	_, control, _ := strings.Cut(string(text), "--control file://")
	control, _, _ = strings.Cut(control, "\n")
	r.must(os.Rename(control, control+".away"))
	check("no record", 7, 0)
	r.must(os.RemoveAll(control))
	r.must(os.WriteFile(control, []byte("no directory"), 0o600))
	check("a record that cannot be read", 7, 0)
}

// TestAHeldUnitWhoseProcessIsKilled: the process ends while the unit is held and before it
// is stopped; systemd would start another.
func TestAHeldUnitWhoseProcessIsKilled(t *testing.T) {
	r := newRig(t, "server", "RestartSec=0.3")
	pid := r.started()
	_, err := r.hold(t.Context(), 5)
	r.must(err)
	if p, err := r.Process(t.Context()); err != nil || p.Reaped || p.PID != pid {
		t.Fatalf("held, and it runs: %+v, %v", p, err)
	}
	r.must(syscall.Kill(pid, syscall.SIGKILL))
	var p failover.Process
	eventually(t, "it is reaped", func() bool {
		var err error
		p, err = r.Process(t.Context())
		r.must(err)
		return p.Reaped
	})
	place, err := lease.PlaceOf(r.data)
	r.must(err)
	if p.Place != place || p.Running || p.PID != 0 {
		t.Errorf("%+v, want the place %s", p, place)
	}
	if n, _, _ := r.ups(); n != 1 {
		t.Errorf("%d servers were started, want 1", n)
	}
}

// TestReapedNeedsTheHold: what ended by itself, or by hand, may be started any moment.
func TestReapedNeedsTheHold(t *testing.T) {
	r := newRig(t, "server")
	r.started()
	r.hand("stop", unitName)
	if p, err := r.Process(t.Context()); err != nil || p.Reaped || p.Running || p.Place != "" {
		t.Errorf("stopped by hand: %+v, %v", p, err)
	}
	// The file is there, and systemd does not know.
	r.must(os.MkdirAll(filepath.Dir(r.holdPath()), 0o755))
	r.must(os.WriteFile(r.holdPath(), []byte("[Unit]\nAssertPathExists=!"+r.holdPath()+"\n"), 0o600))
	if p, err := r.Process(t.Context()); err != nil || p.Reaped {
		t.Errorf("a hold that is not loaded: %+v, %v", p, err)
	}
	r.hand("daemon-reload")
	if p, err := r.Process(t.Context()); err != nil || !p.Reaped {
		t.Errorf("a hold that is loaded: %+v, %v", p, err)
	}
	// systemd knows it, and the file, which its assertion looks for, is gone.
	r.must(os.Remove(r.holdPath()))
	if p, err := r.Process(t.Context()); err != nil || p.Reaped {
		t.Errorf("a hold that is taken away: %+v, %v", p, err)
	}
}

// TestReapedNeedsThatAllAreKilled: where a stop leaves processes behind, nobody has seen
// the server end.
func TestReapedNeedsThatAllAreKilled(t *testing.T) {
	for _, setting := range []string{"KillMode=process", "SendSIGKILL=no"} {
		r := newRig(t, "server", setting)
		r.started()
		if p, err := r.Stop(t.Context(), 5); err != nil || p.Reaped || p.Running {
			t.Errorf("%s: %+v, %v", setting, p, err)
		}
	}
}

// TestAPlaceIsOfADirectoryThatNobodyHasOpen: somebody has started a server by hand.
func TestAPlaceIsOfADirectoryThatNobodyHasOpen(t *testing.T) {
	r := newRig(t, "lockless")
	r.started()
	lock, err := vfs.Default.Lock(filepath.Join(r.data, "LOCK"))
	r.must(err)
	// The lock is another process's: one's own does not show.
	r.must(lock.Close())
	other := r.sys.Command(context.Background(), os.Args[0], "--data-dir="+r.data)
	other.Env = append(other.Env, roleVariable+"=server")
	r.must(other.Start())
	defer func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	}()
	r.upAfter(1)
	if p, err := r.Stop(t.Context(), 5); err != nil || !p.Reaped || p.Place != "" {
		t.Errorf("somebody has the directory open: %+v, %v", p, err)
	}
	r.must(other.Process.Kill())
	_ = other.Wait()
	if p, err := r.Process(t.Context()); err != nil || !p.Reaped || p.Place == "" {
		t.Errorf("nobody has it open: %+v, %v", p, err)
	}
}

func TestWhatDoesNotStopIsKilled(t *testing.T) {
	r := newRig(t, "stubborn", "TimeoutStopSec=0.2")
	pid := r.started()
	if p, err := r.Stop(t.Context(), 5); err != nil || !p.Reaped || alive(pid) {
		t.Errorf("%+v, %v", p, err)
	}
	// It has failed so often that systemd starts it no more by itself; a start does.
	if p, err := r.Start(t.Context(), 5); err != nil || !p.Running {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestAFrozenServerIsNotWoken: systemd wakes what it asks to stop. Nor is one left as it is that
// is to be started.
func TestAFrozenServerIsNotWoken(t *testing.T) {
	for verb, do := range map[string]func(*rig) (failover.Process, error){
		"stop":    func(r *rig) (failover.Process, error) { return r.Stop(t.Context(), 5) },
		"restart": func(r *rig) (failover.Process, error) { p, _, err := r.Restart(t.Context(), 5); return p, err },
		"start":   func(r *rig) (failover.Process, error) { return r.Start(t.Context(), 5) },
	} {
		r := newRig(t, "waking")
		pid := r.started()
		r.must(syscall.Kill(pid, syscall.SIGSTOP))
		eventually(t, "it is frozen", func() bool { return frozen(pid) })
		if p, err := do(r); err != nil || alive(pid) || p.Running != (verb != "stop") {
			t.Errorf("%s: %+v, %v, alive %v", verb, p, err, alive(pid))
		}
		if _, err := os.Stat(filepath.Join(r.data, "woke")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the server woke", verb)
		}
	}
}

// TestRestartTakesTheUnitAsItReads, and lifts a hold.
func TestRestartTakesTheUnitAsItReads(t *testing.T) {
	r := newRig(t, "server")
	r.started()
	if _, err := r.Stop(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	_, text, err := r.Text()
	r.must(err)
	next := strings.Replace(string(text), "--node-id n1", "--node-id n1 --region moon", 1)
	r.must(os.WriteFile(r.path(), []byte(next), 0o600))
	p, left, err := r.Restart(t.Context(), 5)
	pid := r.upAfter(1)
	if _, _, args := r.ups(); err != nil || left || p.PID != pid || !strings.Contains(args, "--region moon") {
		t.Errorf("%+v, %v: %s", p, err, args)
	}
}

// TestCommandsDoNotMeet: one that waits for another reads the record when that has ended.
func TestCommandsDoNotMeet(t *testing.T) {
	r := newRig(t, "server")
	pid := r.started()
	unlock, err := r.lock(t.Context())
	r.must(err)
	waiting := make(chan error, 1)
	go func() {
		_, err := r.Stop(t.Context(), 5)
		waiting <- err
	}()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Stop(ctx, 5); !errors.Is(err, context.Canceled) {
		t.Errorf("a command beside another: %v", err)
	}
	r.setEpoch(6) // while it waits
	r.must(unlock())
	var refused *RefusedError
	if err := <-waiting; !errors.As(err, &refused) || !alive(pid) {
		t.Errorf("it went by what the record was before: %v", err)
	}
}

// TestWhatSystemdDoesNotKnow: a unit that is not there, or cannot be loaded, has no process
// that anybody could tell of.
func TestWhatSystemdDoesNotKnow(t *testing.T) {
	r := newRig(t, "server")
	other, err := New("other.service", r.etc, r.run)
	r.must(err)
	if p, err := other.Process(t.Context()); err == nil {
		t.Errorf("a unit that is not there: %+v", p)
	}
	r.sys.PowerOff()
	if p, err := r.Process(t.Context()); err == nil {
		t.Errorf("no systemd: %+v", p)
	}
	for _, name := range []string{"", "x", "../x.service", "-x.service", "a b.service", strings.Repeat("x", 250) + ".service"} {
		if _, err := New(name, r.etc, r.run); err == nil {
			t.Errorf("%q is taken for a service", name)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := r.Process(t.Context()); err == nil || !strings.Contains(fmt.Sprint(err), "systemctl") {
		t.Errorf("no systemctl: %v", err)
	}
}
