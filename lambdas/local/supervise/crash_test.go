package supervise

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// supervisorProcess is a supervisor in a process of its own, with n1 running.
func supervisorProcess(t *testing.T, dir string) (cmd *exec.Cmd, child int) {
	t.Helper()
	cmd = exec.Command(self(t), dir)
	cmd.Env = append(os.Environ(), roleVariable+"=supervisor")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have been killed
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, ok := strings.CutPrefix(line, "started ")
	if !ok {
		t.Fatalf("it says %q", line)
	}
	return cmd, number(t, pid)
}

func kill9(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it says that it was killed
}

func TestNoProcessOutlivesItsSupervisor(t *testing.T) {
	dir := t.TempDir()
	writeUnit(t, dir, "n1", unitOf(t, "stubborn", ""))
	cmd, pid := supervisorProcess(t, dir)
	ends, lives := watch(t, pid)
	// One that still has something to say would die of its pipe.
	(&rig{t: t, dir: dir}).logged("n1", "up ")
	if !lives() {
		t.Fatal("it does not run")
	}
	kill9(t, cmd)
	if !ends() {
		t.Error("it writes on, and nobody knows it")
	}
}

// TestWhatACrashLeavesBehindIsEnded: a child of a child hears nothing of the supervisor's
// death; the next supervisor knows it by its invocation.
func TestWhatACrashLeavesBehindIsEnded(t *testing.T) {
	for _, role := range []string{"parent", "deserter"} {
		dir := t.TempDir()
		writeUnit(t, dir, "n1", unitOf(t, role, ""))
		cmd, pid := supervisorProcess(t, dir)
		var left int
		(&rig{t: t, dir: dir}).logged("n1", "up ")
		left = number(t, (&rig{t: t, dir: dir}).logged("n1", "child "))
		mainEnds, _ := watch(t, pid)
		leftEnds, leftLives := watch(t, left)
		kill9(t, cmd)
		if !mainEnds() {
			t.Fatal("the main process lives")
		}
		if !leftLives() {
			t.Fatalf("%s: nothing was left behind, so nothing is tested", role)
		}
		r := supervise(t, dir, nil)
		if p := r.state("n1"); p.Running || p.Reaped {
			t.Errorf("what another supervisor started: %+v", p)
		}
		if !leftEnds() {
			t.Errorf("%s: it lives beside the next supervisor", role)
		}
		if left, err := leftOvers(r.run); err != nil || len(left) > 0 {
			t.Errorf("%v, %v", left, err)
		}
		r.end()
	}
}

// stranger runs a process that no supervisor knows, and records it as change says.
func stranger(t *testing.T, dir string, change func(*identity)) (ends, lives func() bool) {
	t.Helper()
	cmd := exec.Command(self(t))
	cmd.Env = append(os.Environ(), roleVariable+"=stubborn")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	id, err := identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	id.Invocation = newInvocation()
	change(&id)
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	run := runDir(dir, boot)
	if err := os.MkdirAll(run, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := record(run, "n1", id); err != nil {
		t.Fatal(err)
	}
	return watch(t, cmd.Process.Pid)
}

func TestARecordedProcessIsEndedOnlyIfItIsThatVeryOne(t *testing.T) {
	cases := map[string]struct {
		change func(*identity)
		ended  bool
	}{
		"the same":              {func(*identity) {}, true},
		"its pid was reused":    {func(id *identity) { id.Start-- }, false},
		"another program":       {func(id *identity) { id.Exe = "/usr/bin/other" }, false},
		"none was recorded":     {func(id *identity) { id.PID = 0 }, false},
		"it is another process": {func(id *identity) { id.PID = 1 }, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ends, lives := stranger(t, dir, c.change)
			writeUnit(t, dir, "n1", unitOf(t, "obedient", ""))
			r := supervise(t, dir, nil)
			r.started()
			if c.ended && !ends() {
				t.Error("it lives beside the one that was started")
			}
			if !c.ended && !lives() {
				t.Error("somebody else's process was ended")
			}
		})
	}
}

func TestNothingIsStartedWhileARecordCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", "{}"} {
		path := filepath.Join(runDir(dir, boot), "n1.json")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := New(Config{Dir: dir}, Deps{Log: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("record %q: %v", text, err)
		}
	}
	// That of another boot says nothing.
	if err := os.Rename(runDir(dir, boot), runDir(dir, "another")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := New(Config{Dir: dir}, Deps{Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}

// TestWhatIsAboutToRunIsRecorded: between fork and the full record a crash must leave
// something to be found by.
func TestWhatIsAboutToRunIsRecorded(t *testing.T) {
	r := one(t, shell("cat \"$0\"; echo up $INVOCATION_ID", ""), nil)
	boot, err := bootID()
	r.must(err)
	path := filepath.Join(runDir(r.dir, boot), "n1.json")
	writeUnit(t, r.dir, "n1", "[Service]\nExecStart=/bin/sh -c 'cat "+path+"; echo; echo up $$INVOCATION_ID; kill -STOP $$$$'\n")
	r.must(r.Start(t.Context(), node("n1")))
	invocation := r.logged("n1", "up ")
	text, err := os.ReadFile(path)
	r.must(err)
	var id identity
	r.must(json.Unmarshal(text, &id))
	if id.Invocation != invocation || id.PID != r.state("n1").PID || id.Start == 0 || id.Exe == "" {
		t.Errorf("%+v, invocation %s", id, invocation)
	}
	if log, err := os.ReadFile(r.logPath("n1")); err != nil || !strings.Contains(string(log), `{"invocation":"`+invocation) {
		t.Errorf("the process found in its record: %s, %v", log, err)
	}
}

// TestAChildOutlivesTheThreadThatAskedForIt: the parent-death signal is of the thread
// that forks, and threads end.
func TestAChildOutlivesTheThreadThatAskedForIt(t *testing.T) {
	f := newForker()
	defer f.close()
	cmd := command(&plan{path: "/bin/cat", argv: []string{"cat"}, dir: "/"}, newInvocation(), nil)
	cmd.Stdout, cmd.Stderr = nil, nil
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	type asked struct {
		thread int
		err    error
	}
	done := make(chan asked)
	var ask func()
	ask = func() {
		runtime.LockOSThread() // and it ends with the goroutine, but for the main thread
		if unix.Gettid() != os.Getpid() {
			done <- asked{unix.Gettid(), f.start(cmd)}
			return
		}
		elsewhere := make(chan struct{})
		go func() {
			defer close(elsewhere)
			ask()
		}()
		<-elsewhere
		runtime.UnlockOSThread()
	}
	go ask()
	a := <-done
	if a.err != nil {
		t.Fatal(a.err)
	}
	eventually(t, "the thread has ended", func() error {
		if _, err := os.Stat("/proc/self/task/" + strconv.Itoa(a.thread)); !errors.Is(err, fs.ErrNotExist) {
			return errors.New("it is there")
		}
		return nil
	})
	if _, err := in.Write([]byte("alive\n")); err != nil {
		t.Error(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "alive\n" {
		t.Errorf("%q, %v", line, err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
