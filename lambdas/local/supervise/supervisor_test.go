package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	logrustest "github.com/sirupsen/logrus/hooks/test"

	"originchain/shared/failover"
)

func TestStopEndsReapsAndHolds(t *testing.T) {
	r := one(t, unitOf(t, "obedient", "", "Restart=always"), nil)
	if p := r.state("n1"); p != (failover.Process{}) {
		t.Errorf("before anything was started: %+v", p)
	}
	pid := r.started().PID
	if p := r.state("n1"); p != (failover.Process{Running: true, PID: pid}) {
		t.Errorf("while it runs: %+v", p)
	}
	r.must(r.Start(t.Context(), node("n1"))) // nothing happens
	p, err := r.Stop(t.Context(), node("n1"))
	if r.must(err); p != (failover.Process{Reaped: true}) {
		t.Errorf("after the stop: %+v", p)
	}
	if e := r.next(Exited); e.PID != pid || !e.Exit.Wanted || e.Exit.Code != 0 || e.Next != Hold {
		t.Errorf("%+v", e)
	}
	// Again, with nothing to stop.
	if p, err := r.Stop(t.Context(), node("n1")); err != nil || !p.Reaped {
		t.Errorf("%+v, %v", p, err)
	}
	r.must(r.Start(t.Context(), node("n1")))
	if second := r.next(Started); second.PID == pid {
		t.Error("the same process was started")
	}
	if p := r.state("n1"); p.Reaped || !p.Running {
		t.Errorf("after another start: %+v", p)
	}
}

func TestAProcessThatDoesNotStopIsKilledWithItsGroup(t *testing.T) {
	r := one(t, unitOf(t, "parent", "", "TimeoutStopSec=50ms", "KillMode=mixed"), nil)
	r.started()
	ends, _ := watch(t, number(t, r.logged("n1", "child ")))
	p, err := r.Stop(t.Context(), node("n1"))
	if r.must(err); !p.Reaped {
		t.Errorf("%+v", p)
	}
	if e := r.next(Exited); e.Exit.Signal != syscall.SIGKILL || !e.Exit.Wanted {
		t.Errorf("%+v", e)
	}
	if !ends() {
		t.Error("its child lives")
	}
}

func TestWhatAProcessLeavesBehindGoesWithIt(t *testing.T) {
	// The child has the pipe, and keeps nobody from knowing that its parent has ended.
	r := one(t, unitOf(t, "parent", "leave"), nil)
	r.must(r.Start(t.Context(), node("n1")))
	r.next(Started)
	ends := func() bool { return true }
	text := r.logged("n1", "child ")
	if pid := number(t, text); syscall.Kill(pid, 0) == nil {
		ends, _ = watch(t, pid)
	}
	if e := r.next(Exited); e.Exit.Wanted || e.Exit.Code != 0 || e.Next != Hold {
		t.Errorf("%+v", e)
	}
	if !ends() {
		t.Error("its child lives")
	}
}

func TestADeadWriterIsHeldAsThePolicySays(t *testing.T) {
	asked := make(chan Exit, 1)
	r := one(t, unitOf(t, "stubborn", "--node-id n1", "Restart=always"), func(_ *Config, d *Deps) {
		d.Decide = func(machine, id string, e Exit) Next {
			if machine != "n1" || id != "n1" {
				t.Errorf("asked about %s on %s", id, machine)
			}
			asked <- e
			return Hold
		}
	})
	pid := r.started().PID
	r.must(r.Kill(t.Context(), node("n1"), syscall.SIGKILL))
	e := r.next(Exited)
	if e.Exit.Signal != syscall.SIGKILL || e.Exit.Wanted || e.Next != Hold || !e.Exit.UnitRestarts || e.PID != pid || e.Node != "n1" {
		t.Errorf("%+v", e)
	}
	if got := <-asked; got != e.Exit {
		t.Errorf("the policy was told %+v, and the event %+v", got, e.Exit)
	}
	if p := r.state("n1"); p != (failover.Process{Reaped: true}) {
		t.Errorf("%+v", p)
	}
	if err := r.Kill(t.Context(), node("n1"), syscall.SIGKILL); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a signal to nobody: %v", err)
	}
	st, ok, err := r.Stopped(t.Context(), node("n1"))
	if err != nil || !ok || st.PID != pid || st.Start == 0 || !st.Still() {
		t.Fatalf("%+v, %v, %v", st, ok, err)
	}
	r.must(r.Start(t.Context(), node("n1")))
	if st.Still() {
		t.Error("a proof outlived the hold")
	}
	if _, ok, _ := r.Stopped(t.Context(), node("n1")); ok {
		t.Error("a proof while another runs")
	}
}

// A frozen process is killed: it does not wake to see that it is to end.
func TestAFrozenProcessIsNotWoken(t *testing.T) {
	r := one(t, unitOf(t, "obedient", "", "TimeoutStopSec=1h"), nil)
	pid := r.started().PID
	r.must(r.Kill(t.Context(), node("n1"), syscall.SIGSTOP))
	eventually(t, "the process is frozen", func() error {
		if !frozen(pid) {
			return errors.New("it runs")
		}
		return nil
	})
	if p := r.state("n1"); !p.Running {
		t.Errorf("%+v", p)
	}
	if p, err := r.Stop(t.Context(), node("n1")); err != nil || !p.Reaped {
		t.Errorf("%+v, %v", p, err)
	}
	if e := r.next(Exited); e.Exit.Signal != syscall.SIGKILL {
		t.Errorf("%+v", e)
	}
}

func TestRestartsAreCountedAndSlowDown(t *testing.T) {
	r := one(t, shell("exit 3", "Restart=on-failure", "RestartSec=1ms"), func(_ *Config, d *Deps) {
		d.Decide = func(_, _ string, e Exit) Next {
			if e.Failures <= maxHurried+1 {
				return RestartNow
			}
			return Hold
		}
	})
	r.must(r.Start(t.Context(), node("n1")))
	for i := 1; i <= maxHurried+2; i++ {
		r.next(Started)
		want := RestartNow
		if i > maxHurried {
			want = RestartLater
		}
		if i == maxHurried+2 {
			want = Hold
		}
		if e := r.next(Exited); e.Exit.Code != 3 || e.Exit.Failures != i || e.Next != want || (e.Pause > 0) != (want == RestartLater) {
			t.Errorf("end %d: %+v, want %s", i, e, want)
		}
	}
	if p := r.state("n1"); !p.Reaped {
		t.Errorf("%+v", p)
	}
}

func TestTheUnitDecidesWhenNobodyElseDoes(t *testing.T) {
	r := one(t, shell("exit 0", "Restart=on-failure"), nil)
	r.must(r.Start(t.Context(), node("n1")))
	r.next(Started)
	if e := r.next(Exited); e.Next != Hold || e.Exit.UnitRestarts {
		t.Errorf("%+v", e)
	}
}

func TestAStopEndsThePauseBeforeARestart(t *testing.T) {
	r := one(t, shell("exit 1", "Restart=always", "RestartSec=1h"), nil)
	r.must(r.Start(t.Context(), node("n1")))
	r.next(Started)
	if e := r.next(Exited); e.Next != RestartLater || e.Pause < time.Hour {
		t.Errorf("%+v", e)
	}
	if p := r.state("n1"); p.Running || p.Reaped {
		t.Errorf("not held, and so not ended for certain: %+v", p)
	}
	if p, err := r.Stop(t.Context(), node("n1")); err != nil || !p.Reaped {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestAFailedStartIsTried(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nrm \"$0\"\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeUnit(t, dir, "n1", "[Service]\nExecStart="+program+"\nRestart=always\nRestartSec=1ms\n")
	r := supervise(t, dir, nil)
	r.must(r.Start(t.Context(), node("n1")))
	r.next(Started)
	r.next(Exited)
	e := r.next(StartFailed)
	if !errors.Is(e.Exit.Err, os.ErrNotExist) || e.Next != RestartLater || e.Exit.Failures != 2 {
		t.Errorf("%+v", e)
	}
	// Who asks hears of it, and then nobody tries.
	if err := r.Start(t.Context(), node("n1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if p := r.state("n1"); !p.Reaped {
		t.Errorf("%+v", p)
	}
}

func TestRestartRunsTheUnitAsItReadsNow(t *testing.T) {
	r := one(t, unitOf(t, "obedient", "--mode follower --node-id n1"), nil)
	first := r.started()
	name, text, err := r.Unit(t.Context(), node("n1"))
	if r.must(err); name != filepath.Join(r.dir, "units", "n1", unitName) || !strings.Contains(string(text), "--mode follower") {
		t.Errorf("%s:\n%s", name, text)
	}
	r.must(r.Rewrite(t.Context(), node("n1"), []byte(unitOf(t, "obedient", "--mode writer --node-id n1"))))
	if p := r.state("n1"); p.PID != first.PID {
		t.Errorf("rewriting the unit changed what runs: %+v", p)
	}
	r.must(r.Restart(t.Context(), node("n1")))
	if e := r.next(Exited); e.PID != first.PID || !e.Exit.Wanted || e.Next != RestartNow {
		t.Errorf("%+v", e)
	}
	if second := r.next(Started); r.state("n1").PID != second.PID {
		t.Error("another process runs")
	}
	r.logged("n1", "up --mode writer --node-id n1")
}

func TestABadUnitIsNeitherWrittenNorRun(t *testing.T) {
	good := unitOf(t, "obedient", "--node-id n1")
	r := one(t, good, nil)
	var refused *RefusedUnitError
	if err := r.Rewrite(t.Context(), node("n1"), []byte("[Service]\nExecStart=/bin/true\nExecStartPre=/bin/rm -r /\n")); !errors.As(err, &refused) || !strings.Contains(err.Error(), "ExecStartPre") {
		t.Errorf("%v", err)
	}
	if _, text, err := r.Unit(t.Context(), node("n1")); err != nil || string(text) != good {
		t.Errorf("%v:\n%s", err, text)
	}
	writeUnit(t, r.dir, "n1", "[Service]\nType=forking\nExecStart=/bin/true\n")
	if err := r.Start(t.Context(), node("n1")); !errors.As(err, &refused) {
		t.Errorf("%v", err)
	}
	if p := r.state("n1"); p.Running {
		t.Errorf("%+v", p)
	}
}

func TestAnotherNodeThanTheOneMeantIsLeftAlone(t *testing.T) {
	r := one(t, unitOf(t, "obedient", "--node-id n1"), nil)
	other := failover.Node{ID: "n2", Machine: "n1"}
	var wrong *WrongNodeError
	if err := r.Start(t.Context(), other); !errors.As(err, &wrong) || wrong.Have != "n1" {
		t.Errorf("start: %v", err)
	}
	pid := r.started().PID
	_, stop := r.Stop(t.Context(), other)
	_, process := r.Process(t.Context(), other)
	for what, err := range map[string]error{"stop": stop, "process": process, "restart": r.Restart(t.Context(), other), "kill": r.Kill(t.Context(), other, syscall.SIGKILL)} {
		if !errors.As(err, &wrong) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if p := r.state("n1"); p.PID != pid {
		t.Errorf("%+v", p)
	}
	var unknown *UnknownMachineError
	for _, machine := range []string{"n9", "", "../n1", "n1/../n1"} {
		if _, err := r.Stop(t.Context(), failover.Node{Machine: machine}); !errors.As(err, &unknown) {
			t.Errorf("machine %q: %v", machine, err)
		}
	}
}

func TestOnlyWhatTheUnitSaysReachesTheProcess(t *testing.T) {
	t.Setenv("OC_LISTEN", "0.0.0.0:1")
	dir := t.TempDir()
	file := filepath.Join(dir, "environment")
	if err := os.WriteFile(file, []byte("FROM_FILE='a b'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log, hook := logrustest.NewNullLogger()
	unit := fmt.Sprintf("[Service]\nUser=nobody\nProtectSystem=strict\nWorkingDirectory=%s\nEnvironment=B=2 HERE=%%H\nEnvironmentFile=%s\nExecStart=/bin/sh -c 'env; pwd; echo \"arg $$0\"; echo up now' ${FROM_FILE}\n", dir, file)
	writeUnit(t, dir, "n1", unit)
	writeUnit(t, dir, "n2", "[Service]\nUser=nobody\nExecStart=/bin/true\n")
	r := supervise(t, dir, func(c *Config, d *Deps) {
		c.Environment = map[string]string{"A": "1", "B": "0"}
		d.Log = log
	})
	r.must(r.Start(t.Context(), node("n1")))
	r.logged("n1", "up ")
	text, err := os.ReadFile(r.logPath("n1"))
	r.must(err)
	for _, want := range []string{"A=1", "B=2", "FROM_FILE=a b", "HERE=n1", "PATH=" + defaultPath, "arg a b", dir} {
		if !strings.Contains("\n"+string(text), "\n"+want+"\n") {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "OC_LISTEN") {
		t.Error("the caller's environment was passed on")
	}
	r.must(r.Start(t.Context(), node("n2")))
	warned := map[any]int{}
	for _, e := range hook.AllEntries() {
		warned[e.Data["setting"]]++
	}
	if warned["User"] != 1 || warned["ProtectSystem"] != 1 {
		t.Errorf("warnings: %v", warned)
	}
}

func TestTheLimitOfOpenFilesIsSet(t *testing.T) {
	// A shell, as a Go program raises its own soft limit to the hard one.
	r := one(t, shell("echo up now; while :; do sleep 60; done", "LimitNOFILE=123:456"), nil)
	pid := r.started().PID
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	r.must(err)
	if !strings.Contains(string(text), "Max open files") {
		t.Errorf("%s", text)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "Max open files") && (fields[3] != "123" || fields[4] != "456") {
			t.Error(line)
		}
	}
}

func TestOneSupervisorPerDirectory(t *testing.T) {
	r := one(t, unitOf(t, "obedient", ""), nil)
	r.started()
	second, err := New(Config{Dir: r.dir}, Deps{Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	var busy *BusyError
	if err := second.Run(t.Context()); !errors.As(err, &busy) || busy.Holder != fmt.Sprint(os.Getpid()) {
		t.Errorf("%v", err)
	}
	if err := second.Start(t.Context(), node("n1")); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	if p := r.state("n1"); !p.Running {
		t.Errorf("%+v", p)
	}
}

func TestTheEndOfTheSupervisorIsTheEndOfAll(t *testing.T) {
	dir := t.TempDir()
	writeUnit(t, dir, "n1", unitOf(t, "obedient", "", "Restart=always"))
	writeUnit(t, dir, "n2", unitOf(t, "stubborn", "", "TimeoutStopSec=20ms"))
	r := supervise(t, dir, nil)
	r.started()
	r.must(r.Start(t.Context(), node("n2")))
	r.next(Started)
	r.logged("n2", "up ")
	r.end()
	ended := map[string]Exit{}
	for range 2 {
		e := r.next(Exited)
		ended[e.Machine] = e.Exit
	}
	if ended["n1"].Code != 0 || !ended["n1"].Wanted || ended["n2"].Signal != syscall.SIGKILL {
		t.Errorf("%+v", ended)
	}
	if err := r.Start(t.Context(), node("n1")); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	left, err := leftOvers(r.run)
	if err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestCallsAtTheSameTime: whatever is asked for at once, one process of a machine runs at
// a time, each that was started is reaped, and the last word counts.
func TestCallsAtTheSameTime(t *testing.T) {
	dir := t.TempDir()
	machines := []string{"n1", "n2"}
	for _, m := range machines {
		writeUnit(t, dir, m, unitOf(t, "obedient", "", "Restart=always", "RestartSec=1ms", "TimeoutStopSec=20ms"))
	}
	r := supervise(t, dir, nil)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 12 {
				n := node(machines[(i+j)%2])
				ctx, cancel := context.WithCancel(t.Context())
				if (i+j)%5 == 0 {
					cancel() // nobody waits for the answer
				}
				var err error
				switch (i*7 + j) % 4 {
				case 0:
					err = r.Start(ctx, n)
				case 1:
					_, err = r.Stop(ctx, n)
				case 2:
					err = r.Restart(ctx, n)
				case 3:
					err = r.Kill(ctx, n, syscall.SIGKILL)
				}
				cancel()
				if err != nil && !errors.Is(err, ErrStopped) && !errors.Is(err, ErrStartedAgain) && !errors.Is(err, ErrNotRunning) && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, m := range machines {
		r.must(r.Start(t.Context(), node(m)))
		if p, err := r.Stop(t.Context(), node(m)); err != nil || !p.Reaped {
			t.Errorf("%s: %+v, %v", m, p, err)
		}
	}
	r.end()
	close(r.events)
	runs := map[string]int{}
	for e := range r.events {
		switch {
		case e.Kind == Started && runs[e.Machine] == 0:
			runs[e.Machine] = e.PID
		case e.Kind == Exited && runs[e.Machine] == e.PID:
			runs[e.Machine] = 0
		default:
			t.Errorf("while process %d of %s runs: %+v", runs[e.Machine], e.Machine, e)
		}
	}
	for m, pid := range runs {
		if pid != 0 {
			t.Errorf("process %d of %s was not reaped", pid, m)
		}
	}
}
