// Package child runs an oc-server as a child process: the demo, the end-to-end
// tests and the benchmarks use the real binary, never the server's packages.
package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readyPoll is the pause between two looks at /ready.
	readyPoll = 10 * time.Millisecond
	// readyTimeout bounds one look.
	readyTimeout = 2 * time.Second
	// keptOutputBytes is how much of the end of a server's output is kept for
	// error messages.
	keptOutputBytes = 16 << 10
)

// Options say what to run.
type Options struct {
	// Binary is the path of oc-server.
	Binary  string
	DataDir string
	// Listen is host:port; the port must be a real one (see FreeAddress).
	Listen string
	// Args are further arguments, Env further variables ("K=V"); of the caller's
	// own, those that set options (OC_…) are left out.
	Args []string
	Env  []string
	// Output gets what the server writes to stdout and stderr; may be nil.
	Output io.Writer
	// Wrap is a command that runs the server, such as nsenter; may be nil.
	Wrap []string
	// Client asks /ready; nil takes a plain one. URL is the base URL to ask;
	// empty takes http://Listen.
	Client *http.Client
	URL    string
}

// Server is a running, or ended, oc-server.
type Server struct {
	cmd    *exec.Cmd
	url    string
	client *http.Client
	output *tail
	exited chan struct{}
}

// Start runs the server and returns at once; WaitReady waits until it serves.
// The child gets its own process group, so that a Ctrl-C in the terminal
// reaches only the parent, which then stops the server in order. It dies with
// the parent, however that ends.
func Start(o Options) (*Server, error) {
	args := append([]string{}, o.Wrap...)
	args = append(args, o.Binary, "--data-dir", o.DataDir, "--listen", o.Listen)
	args = append(args, o.Args...)
	s := &Server{url: o.URL, client: o.Client, output: &tail{also: o.Output}, exited: make(chan struct{})}
	if s.url == "" {
		s.url = "http://" + o.Listen
	}
	if s.client == nil {
		s.client = &http.Client{}
	}
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Env = append(withoutOptions(os.Environ()), o.Env...)
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w; build it with: make build", o.Binary, err)
	}
	go func() {
		defer close(s.exited)
		// The exit code is read from ProcessState; Wait's error repeats it.
		_ = s.cmd.Wait()
	}()
	return s, nil
}

// withoutOptions leaves out the variables that set options of oc-server: what a
// shell happens to export must not change what is demonstrated, tested or measured.
func withoutOptions(env []string) []string {
	return slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "OC_") })
}

// URL is the server's base URL.
func (s *Server) URL() string { return s.url }

// PID is the process id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Freeze stops the process as SIGSTOP does, and returns when each of its threads has
// stopped: the signal alone leaves them some instants in which they still answer.
func (s *Server) Freeze() error {
	if err := syscall.Kill(s.PID(), syscall.SIGSTOP); err != nil {
		return err
	}
	for {
		// The change is left to be waited for: os/exec waits for the end alone.
		err := unix.Waitid(unix.P_PID, s.PID(), nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Thaw lets a frozen process go on.
func (s *Server) Thaw() error { return syscall.Kill(s.PID(), syscall.SIGCONT) }

// Exited is closed when the process has ended and its output is complete.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// ExitCode is the code of an ended process; -1 when a signal ended it.
func (s *Server) ExitCode() int {
	<-s.exited
	return s.cmd.ProcessState.ExitCode()
}

// Output is the end of what the server wrote so far.
func (s *Server) Output() string { return s.output.String() }

// ExitError says that the server ended when it should have served.
type ExitError struct {
	Code   int
	Output string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("oc-server ended with exit code %d; its last words:\n%s", e.Code, indent(e.Output))
}

// lastLines is how many lines of output an error shows.
const lastLines = 8

func indent(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-lastLines):], "\n    ")
}

// WaitReady waits until /ready answers 200. A server that ends first is an
// *ExitError; when ctx ends first the last answer of /ready is in the error.
func (s *Server) WaitReady(ctx context.Context) error {
	last := errors.New("no answer yet")
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.exited:
			return &ExitError{Code: s.ExitCode(), Output: s.Output()}
		case <-ctx.Done():
			return fmt.Errorf("oc-server at %s is not ready: %w (last: %w)", s.url, context.Cause(ctx), last)
		case <-timer.C:
		}
		if last = s.askReady(ctx); last == nil {
			return nil
		}
		timer.Reset(readyPoll)
	}
}

func (s *Server) askReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/ready", nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, keptOutputBytes))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/ready answered %d: %s", resp.StatusCode, body)
	}
	return nil
}

// Stop asks the server to stop (SIGTERM) and waits. It returns an *ExitError
// unless the server ends with 0; when ctx ends first the server is killed.
func (s *Server) Stop(ctx context.Context) error {
	if err := s.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("oc-server did not stop: %w", context.Cause(ctx)), s.Kill())
	}
	if code := s.ExitCode(); code != 0 {
		return &ExitError{Code: code, Output: s.Output()}
	}
	return nil
}

// Kill ends the process without warning (SIGKILL) and waits for its end. A
// process that has ended already is no error.
func (s *Server) Kill() error {
	if err := s.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-s.exited
	return nil
}

func (s *Server) signal(sig os.Signal) error {
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s to oc-server (pid %d): %w", sig, s.PID(), err)
	}
	return nil
}

// FreeAddress returns a loopback address with a port that is free now.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	addr := l.Addr().String()
	return addr, l.Close()
}

// tail passes writes on and keeps their end.
type tail struct {
	also io.Writer
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - keptOutputBytes; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	if t.also == nil {
		return len(p), nil
	}
	return t.also.Write(p)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}
