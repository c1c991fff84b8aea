package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// between has a script run once on the machine, right after a command has had systemd read
// its units for the first time; or, with fails, in place of that, which then fails.
func (r *rig) between(script string, fails bool) {
	r.t.Helper()
	dir := r.t.TempDir()
	real, code := filepath.Join(os.Getenv(shimVariable), "systemctl"), ""
	if fails {
		real, code = "false", "exit 1"
	}
	text := fmt.Sprintf("#!/bin/sh\nPATH=/usr/bin:/bin\ncase \"$*\" in *daemon-reload*)\n  if [ ! -e %[1]s/once ]; then : >%[1]s/once\n%[2]s \"$@\"\n%[3]s\n%[4]s\nexit 0; fi;;\nesac\nexec %[5]s \"$@\"\n",
		dir, real, script, code, filepath.Join(os.Getenv(shimVariable), "systemctl"))
	r.must(os.WriteFile(filepath.Join(dir, "systemctl"), []byte(text), 0o755))
	r.t.Setenv("PATH", dir)
}

// control is the directory of the record.
func (r *rig) control() string {
	r.t.Helper()
	_, text, err := r.Text()
	r.must(err)
	_, control, _ := strings.Cut(string(text), "--control file://")
	control, _, _ = strings.Cut(control, "\n")
	return control
}

// moves is a script that replaces the record by one of another epoch.
func (r *rig) moves(epoch uint64) string {
	now := r.control()
	r.setEpoch(epoch)
	r.must(os.CopyFS(now+".next", os.DirFS(now)))
	r.setEpoch(5)
	return fmt.Sprintf("mv %[1]s %[1]s.before; mv %[1]s.next %[1]s", now)
}

// unheld checks that no hold stands, on the disk or in systemd.
func (r *rig) unheld(what string) {
	r.t.Helper()
	if h, stands, err := r.Held(); stands || err != nil {
		r.t.Errorf("%s: it is held %s, %v", what, h, err)
	}
	st, err := r.show(r.t.Context())
	if err != nil || len(st.dropIns) > 0 {
		r.t.Errorf("%s: systemd has %+v, %v", what, st, err)
	}
}

// TestTheRecordIsReadAgainOnceHeld: a stop that finds another record then has changed
// nothing, and the hold is as it was.
func TestTheRecordIsReadAgainOnceHeld(t *testing.T) {
	for what, c := range map[string]struct {
		script func(*rig) string
		found  uint64
		held   bool // before, in an older epoch
	}{
		"it has moved on":                {func(r *rig) string { return r.moves(6) }, 6, false},
		"it cannot be read":              {func(r *rig) string { return fmt.Sprintf("mv %[1]s %[1]s.away", r.control()) }, 0, false},
		"it has moved on, held before":   {func(r *rig) string { return r.moves(6) }, 6, true},
		"the server has ended meanwhile": {func(r *rig) string { return r.moves(6) + "; kill -9 $(cut -d' ' -f1 " + r.data + "/up); sleep 0.5" }, 6, false},
	} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t, "server")
			pid := r.started()
			far := r.Unattended()
			before := Hold{}
			if c.held {
				before = Hold{Epoch: 3}
				r.must(far.placeHold(before))
			}
			r.between(c.script(r), false)
			var refused *RefusedError
			if p, err := far.Stop(t.Context(), 5); !errors.As(err, &refused) || refused.Found != c.found {
				t.Errorf("%+v, %v", p, err)
			}
			if c.held {
				if h, stands, err := r.Held(); h != before || !stands || err != nil {
					t.Errorf("the hold before is %v, %t, %v", h, stands, err)
				}
			} else {
				r.unheld(what)
			}
			if strings.Contains(what, "ended") {
				pid = r.upAfter(1)
			}
			if p, err := r.Process(t.Context()); err != nil || p != (failover.Process{Running: true, PID: pid}) {
				t.Errorf("%+v, %v", p, err)
			}
		})
	}
}

// TestAHoldOfAnUnknownUnitChangesNothing: what systemd does not tell of before, an undo could
// not leave as it was.
func TestAHoldOfAnUnknownUnitChangesNothing(t *testing.T) {
	r := newRig(t, "server")
	pid := r.started()
	dir := t.TempDir()
	text := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *\" show \"*) [ -e %[1]s/once ] || { : >%[1]s/once; echo 'no answer' >&2; exit 1; };; esac\nexec %[2]s \"$@\"\n",
		dir, filepath.Join(os.Getenv(shimVariable), "systemctl"))
	r.must(os.WriteFile(filepath.Join(dir, "systemctl"), []byte(text), 0o755))
	t.Setenv("PATH", dir)
	if p, err := r.Stop(t.Context(), 5); err == nil || !strings.Contains(err.Error(), "no answer") || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("%+v, %v", p, err)
	}
	r.unheld("its state was not known")
	if p, err := r.Process(t.Context()); err != nil || p != (failover.Process{Running: true, PID: pid}) {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := r.Stop(t.Context(), 5); err != nil || alive(pid) {
		t.Errorf("once systemd answers: %v", err)
	}
}

// TestAHoldThatSystemdDoesNotTakeIsUndone: the unit is started anew when its process ends.
func TestAHoldThatSystemdDoesNotTakeIsUndone(t *testing.T) {
	r := newRig(t, "server")
	pid := r.started()
	r.between("", true)
	if p, err := r.Stop(t.Context(), 5); err == nil || !alive(pid) {
		t.Errorf("%+v, %v", p, err)
	}
	r.unheld("systemd has not read it")
	r.must(syscall.Kill(pid, syscall.SIGKILL))
	r.upAfter(1)
	// What cannot be taken back is said to stand.
	r.between(fmt.Sprintf("rm %[1]s; mkdir -p %[1]s/x", r.holdPath()), true)
	if _, err := r.Stop(t.Context(), 5); err == nil || !strings.Contains(err.Error(), "stands, and could not be taken back") {
		t.Errorf("%v", err)
	}
	if _, _, err := r.Held(); err == nil {
		t.Error("what is no drop-in is read as one")
	}
}

// TestWhoMayLift: one who stands by lifts each hold of oc-node; a command from afar only
// what such a one has placed, in its epoch or before. A mask is lifted by nobody.
func TestWhoMayLift(t *testing.T) {
	r := newRig(t, "server")
	far := r.Unattended()
	for what, c := range map[string]struct {
		text         string
		masked       bool
		hand, remote bool // may lift
	}{
		"an older epoch":     {text: holdMark + `{"epoch":4}`, hand: true, remote: true},
		"this epoch":         {text: holdMark + `{"epoch":5}`, hand: true, remote: true},
		"a later epoch":      {text: holdMark + `{"epoch":6}`, hand: true},
		"by hand":            {text: holdMark + `{"epoch":4,"hand":true}`, hand: true},
		"nobody knows whose": {text: "# oc-node stop: held until oc-node start.", hand: true},
		"masked":             {masked: true},
	} {
		for _, m := range []*Machine{far, r.Machine} {
			if c.masked {
				r.must(os.Symlink(os.DevNull, filepath.Join(r.run, unitName)))
			} else {
				r.must(os.MkdirAll(filepath.Dir(r.holdPath()), 0o755))
				r.must(os.WriteFile(r.holdPath(), []byte(c.text+"\n[Unit]\nAssertPathExists=!"+r.holdPath()+"\n"), 0o600))
			}
			r.hand("daemon-reload")
			may := c.hand
			if m == far {
				may = c.remote
			}
			for verb, do := range map[string]func() error{
				"start":   func() error { _, err := m.Start(t.Context(), 5); return err },
				"restart": func() error { _, _, err := m.Restart(t.Context(), 5); return err },
			} {
				err := do()
				var heldBy *HeldError
				if may && err != nil || !may && (!errors.As(err, &heldBy) || !strings.Contains(err.Error(), "nothing was changed")) {
					t.Errorf("%s, from afar %t: %s: %v", what, m == far, verb, err)
				}
				if p, err := r.Process(t.Context()); err != nil || p.Running != may {
					t.Errorf("%s, from afar %t, after %s: %+v, %v", what, m == far, verb, p, err)
				}
			}
			if _, err := os.Lstat(filepath.Join(r.run, unitName)); c.masked != (err == nil) {
				t.Errorf("%s: the mask: %v", what, err)
			}
			r.hand("stop", unitName)
			r.hand("reset-failed", unitName)
			r.must(errors.Join(os.RemoveAll(filepath.Dir(r.holdPath())), os.RemoveAll(filepath.Join(r.run, unitName))))
		}
	}
}

// TestAStopFromAfarLeavesWhatWasHeldByHand as it was: a start from afar does not lift it.
func TestAStopFromAfarLeavesWhatWasHeldByHand(t *testing.T) {
	r := newRig(t, "server")
	r.started()
	far := r.Unattended()
	for _, m := range []*Machine{r.Machine, far} {
		if p, err := m.Stop(t.Context(), 5); err != nil || !p.Reaped {
			t.Errorf("%+v, %v", p, err)
		}
		if h, _, err := r.Held(); err != nil || h != (Hold{5, true}) {
			t.Errorf("it is held %v, %v", h, err)
		}
	}
	if _, err := far.Start(t.Context(), 5); err == nil {
		t.Error("it was started from afar")
	}
	if p, err := r.Start(t.Context(), 5); err != nil || !p.Running {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := far.Stop(t.Context(), 5); err != nil {
		t.Error(err)
	}
	if h, _, err := r.Held(); err != nil || h != (Hold{5, false}) {
		t.Errorf("it is held %v, %v", h, err)
	}
}

// TestALateRestart: the node has become a writer that serves by then, and is left alone. One
// that does not serve, or is not the writer of the record, is restarted.
func TestALateRestart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	for what, c := range map[string]struct {
		role   string
		change func(*lease.Record)
		left   bool
	}{
		"it serves":                {"writer", func(*lease.Record) {}, true},
		"it is not ready":          {"unready", func(*lease.Record) {}, false},
		"it follows":               {"follower", func(*lease.Record) {}, false},
		"it answers nothing":       {"server", func(*lease.Record) {}, false},
		"it has not opened":        {"writer", func(r *lease.Record) { r.ConfirmedEpoch = 0 }, false},
		"the record names another": {"writer", func(r *lease.Record) { r.Holder = "n2" }, false},
	} {
		t.Run(what, func(t *testing.T) {
			_ = l.Close() // the server listens there
			r := newRig(t, c.role)
			_, text, err := r.Text()
			r.must(err)
			r.sys.WriteUnit(unitName, strings.Replace(string(text), "--node-id n1", "--node-id n1 --listen "+address, 1))
			now, _, err := r.store.Load(t.Context())
			r.must(err)
			now.ConfirmedEpoch = lsn.Epoch(5)
			c.change(&now)
			_, err = r.store.CompareAndSet(t.Context(), now.Version, now)
			r.must(err)
			pid := r.started()
			if c.left { // nor does a start end it for standing still, as it does under a debugger
				r.frozen = func(int) bool { return true }
				if p, err := r.Start(context.WithoutCancel(t.Context()), 5); err != nil || p.PID != pid {
					t.Errorf("started: %+v, %v", p, err)
				}
			}
			p, left, err := r.Restart(context.WithoutCancel(t.Context()), 5)
			if err != nil || left != c.left || (p.PID == pid) != c.left || alive(pid) != c.left || !p.Running {
				t.Errorf("left alone %t, process %d is %+v, %v", left, pid, p, err)
			}
		})
	}
}
