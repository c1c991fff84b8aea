package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"originchain/shared/failover"
)

// roleVariable makes this test's executable one of the processes below.
const roleVariable = "SUPERVISE_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		play(role)
		return
	}
	goleak.VerifyTestMain(m)
}

// play is a process under supervision, or a supervisor.
func play(role string) {
	term := make(chan os.Signal, 1)
	switch role {
	case "obedient":
		signal.Notify(term, syscall.SIGTERM)
	case "stubborn", "parent", "deserter":
		signal.Ignore(syscall.SIGTERM)
		signal.Notify(term, syscall.SIGUSR1) // only so that waiting is no deadlock
	case "opener": // of a data directory, by hand
		if _, err := vfs.Default.Lock(filepath.Join(os.Args[1], "LOCK")); err != nil {
			panic(err)
		}
		signal.Notify(term, syscall.SIGTERM)
	case "supervisor":
		superviseUntilKilled(os.Args[1])
		return
	}
	if role == "parent" || role == "deserter" {
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), roleVariable+"=stubborn")
		if role == "deserter" {
			child.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // out of the group
		}
		if err := child.Start(); err != nil {
			panic(err)
		}
		fmt.Fprintf(os.Stdout, "child %d\n", child.Process.Pid)
	}
	fmt.Fprintf(os.Stdout, "up %s\n", strings.Join(os.Args[1:], " "))
	if role == "parent" && len(os.Args) > 1 && os.Args[1] == "leave" {
		return
	}
	<-term
}

// superviseUntilKilled starts n1, and says so on stdout.
func superviseUntilKilled(dir string) {
	s, err := New(Config{Dir: dir}, Deps{Log: quiet(), Event: func(e Event) { fmt.Fprintf(os.Stdout, "%s %d\n", e.Kind, e.PID) }})
	if err != nil {
		panic(err)
	}
	go func() {
		if err := s.Start(context.Background(), node("n1")); err != nil {
			panic(err)
		}
	}()
	panic(s.Run(context.Background()))
}

func quiet() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

func node(machine string) failover.Node { return failover.Node{ID: machine, Machine: machine} }

// self is the executable of this test.
func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// unitOf is a unit in which this executable plays a role.
func unitOf(t *testing.T, role, args string, settings ...string) string {
	t.Helper()
	return fmt.Sprintf("[Unit]\nDescription=test\n[Service]\nEnvironment=%s=%s\nExecStart=%s %s\n%s\n", roleVariable, role, self(t), args, strings.Join(settings, "\n"))
}

func shell(script string, settings ...string) string {
	return fmt.Sprintf("[Service]\nExecStart=/bin/sh -c '%s'\n%s\n", script, strings.Join(settings, "\n"))
}

func writeUnit(t *testing.T, dir, machine, text string) string {
	t.Helper()
	path := filepath.Join(dir, "units", machine, unitName)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// rig is a supervisor that runs for one test.
type rig struct {
	*Supervisor
	t      *testing.T
	dir    string
	events chan Event
	end    func()
}

// supervise runs a supervisor until the test ends, and all that it has started with it.
func supervise(t *testing.T, dir string, change func(*Config, *Deps)) *rig {
	t.Helper()
	r := &rig{t: t, dir: dir, events: make(chan Event, 10_000)}
	cfg, deps := Config{Dir: dir}, Deps{Log: quiet(), Event: func(e Event) { r.events <- e }}
	if change != nil {
		change(&cfg, &deps)
	}
	s, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	r.Supervisor = s
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	over := false
	r.end = func() {
		if cancel(); !over {
			over = true
			if err := <-ended; err != nil {
				t.Errorf("the supervisor ended with: %v", err)
			}
		}
	}
	t.Cleanup(r.end)
	return r
}

// one runs a supervisor with one unit, for the machine n1.
func one(t *testing.T, unit string, change func(*Config, *Deps)) *rig {
	t.Helper()
	dir := t.TempDir()
	writeUnit(t, dir, "n1", unit)
	return supervise(t, dir, change)
}

func (r *rig) next(kind Kind) Event {
	r.t.Helper()
	select {
	case e := <-r.events:
		if e.Kind != kind {
			r.t.Fatalf("%s came, want %s: %+v", e.Kind, kind, e)
		}
		return e
	case <-time.After(within):
		r.t.Fatalf("no event came, want %s", kind)
	}
	return Event{}
}

// started starts n1 and waits until its process says that it is up.
func (r *rig) started() Event {
	r.t.Helper()
	r.must(r.Start(r.t.Context(), node("n1")))
	e := r.next(Started)
	r.logged("n1", "up ")
	return e
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) state(machine string) failover.Process {
	r.t.Helper()
	p, err := r.Process(r.t.Context(), node(machine))
	r.must(err)
	return p
}

func (r *rig) logPath(machine string) string { return filepath.Join(r.dir, "logs", machine+".log") }

// logged waits for words in a machine's log, and returns what follows them in their line.
func (r *rig) logged(machine, words string) (rest string) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%q in the log", words), func() error {
		text, err := os.ReadFile(r.logPath(machine))
		if err != nil {
			return err
		}
		_, after, ok := strings.Cut(string(text), words)
		line, _, whole := strings.Cut(after, "\n")
		if !ok || !whole {
			return fmt.Errorf("it has: %s", text)
		}
		rest = line
		return nil
	})
	return rest
}

// within bounds every wait for what must come.
const within = time.Minute

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		if pause(t.Context(), 5*time.Millisecond) != nil {
			t.Fatal(err)
		}
	}
}

// watch reaches a process by pid, and returns how to wait for its end.
func watch(t *testing.T, pid int) (ends func() bool, lives func() bool) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	t.Cleanup(func() {
		// Nothing of a failed test stays behind.
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Error(err)
		}
		unix.Close(fd)
	})
	over := func(d time.Duration) bool {
		is, err := ended(fd, d)
		if err != nil {
			t.Error(err)
		}
		return is
	}
	return func() bool { return over(within) }, func() bool { return !over(0) }
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
