package e2e

import (
	"errors"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shownWithin bounds the wait for what a program shows: a build from an empty cache
// comes first in some.
const shownWithin = 12 * time.Minute

// shown is a program in a terminal of its own, and what it has shown so far. It comes in
// pieces: a line may end only when its work does.
type shown struct {
	cmd    *exec.Cmd
	pieces chan string
	read   strings.Builder
	done   chan struct{}
	err    error // of the end, once done
}

// startShown starts a program.
func startShown(t *testing.T, program string, args ...string) *shown {
	t.Helper()
	return show(t, exec.Command(program, args...))
}

// show starts a command. What is left of it at the end of the test is killed.
func show(t *testing.T, cmd *exec.Cmd) *shown {
	t.Helper()
	s := &shown{cmd: cmd, pieces: make(chan string, 1024), done: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	read, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatalf("%q: %v", cmd.Args, err)
	}
	go func() {
		defer close(s.done)
		s.err = cmd.Wait()
		_ = write.Close()
	}()
	go func() {
		defer close(s.pieces)
		for buf := make([]byte, 4096); ; {
			n, err := read.Read(buf)
			if err != nil {
				return // it has ended
			}
			s.pieces <- string(buf[:n])
		}
	}()
	t.Cleanup(func() {
		select {
		case <-s.done:
		default:
			s.killed(t)
		}
	})
	return s
}

// waitFor waits until it has shown a text; "" waits for its end.
func (s *shown) waitFor(t *testing.T, text string) {
	t.Helper()
	timer := time.NewTimer(shownWithin)
	defer timer.Stop()
	for text == "" || !strings.Contains(s.text(), text) {
		select {
		case piece, more := <-s.pieces:
			if !more && text != "" {
				t.Fatalf("%q ended before it said %q:\n%s", s.cmd.Args, text, s.text())
			} else if !more {
				return
			}
			s.read.WriteString(piece)
		case <-timer.C:
			t.Fatalf("%q did not say %q within %s:\n%s", s.cmd.Args, text, shownWithin, s.text())
		}
	}
}

func (s *shown) text() string { return s.read.String() }

// signal is what a terminal does: the whole foreground group gets it.
func (s *shown) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, sig); err != nil {
		t.Fatal(err)
	}
}

// ended waits for the end, and gives the exit code.
func (s *shown) ended(t *testing.T) int {
	t.Helper()
	s.waitFor(t, "")
	<-s.done
	var exit *exec.ExitError
	if s.err != nil && !errors.As(s.err, &exit) {
		t.Fatal(s.err)
	}
	return s.cmd.ProcessState.ExitCode()
}

// killed is kill -9 of the group.
func (s *shown) killed(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	for range s.pieces { // so that the reader ends
	}
	<-s.done
}
