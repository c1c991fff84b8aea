package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drainFor bounds how long the output of a dead process is read on, if what it left
// behind keeps the pipe open.
const drainFor = time.Second

// process is one running process with all that it forks, in a group of its own.
type process struct {
	cmd   *exec.Cmd
	plan  *plan
	id    identity
	began time.Time

	mu sync.Mutex
	// reaped: the pid is free, and may be another process's.
	reaped bool

	output  *os.File // the reading end
	drained chan struct{}
	done    chan struct{} // closed when reaped
}

// errEnded says that there is no process any more.
var errEnded = errors.New("the process has ended")

// command prepares the process of a plan; the pipe's writing end is its output.
func command(p *plan, invocation string, output *os.File) *exec.Cmd {
	env := make([]string, 0, len(p.env)+1)
	for k, v := range p.env {
		if k != invocationVariable {
			env = append(env, k+"="+v)
		}
	}
	slices.Sort(env)
	return &exec.Cmd{
		Path: p.path, Args: p.argv, Dir: p.dir,
		Env:    append(env, invocationVariable+"="+invocation),
		Stdout: output, Stderr: output,
		// SIGKILL: a supervisor that has died can decide nothing, and the log is made for it.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
}

// drain copies the output until every writer has closed it or the reader is closed.
func (p *process) drain(to io.Writer) {
	defer close(p.drained)
	// The log takes everything, so only the end of the pipe ends this; that is no error.
	_, _ = io.Copy(to, p.output)
}

// closeOutput gives the rest of the output a moment.
func (p *process) closeOutput() error {
	timer := time.NewTimer(drainFor)
	defer timer.Stop()
	select {
	case <-p.drained:
	case <-timer.C:
	}
	err := p.output.Close()
	<-p.drained
	return err
}

// wait returns when the process has ended, everything left of its group was killed, and
// it was reaped. The group goes first, while the dead process still keeps its pid, which
// is the group's: afterwards both could be somebody else's.
func (p *process) wait() (*os.ProcessState, error) {
	pid := p.cmd.Process.Pid
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("wait for process %d: %w", pid, err)
		}
		break
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	killed := unix.Kill(-pid, unix.SIGKILL)
	if errors.Is(killed, unix.ESRCH) || errors.Is(killed, unix.EPERM) {
		killed = nil // nothing of it was left but the dead process
	}
	state, err := p.cmd.Process.Wait()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reap process %d: %w", pid, err), killed)
	}
	p.reaped = true
	return state, killed
}

// signal sends to the process, or to all of its group.
func (p *process) signal(sig syscall.Signal, group bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return errEnded
	}
	pid := p.cmd.Process.Pid
	if group {
		pid = -pid
	}
	if err := unix.Kill(pid, sig); err != nil {
		return fmt.Errorf("send %s to process %d: %w", strings.ToUpper(sig.String()), p.cmd.Process.Pid, err)
	}
	return nil
}

// limitFiles sets the limit of open files. It comes a moment after the program began:
// the limits of the supervisor itself are not to change for a fork.
func (p *process) limitFiles(l *limit) (lowered bool, err error) {
	if l == nil {
		return false, nil
	}
	pid := p.cmd.Process.Pid
	var now unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &now); err != nil {
		return false, err
	}
	want := unix.Rlimit{Cur: l.soft, Max: l.hard}
	err = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &want, nil)
	if errors.Is(err, unix.EPERM) { // only root may raise the hard limit
		want = unix.Rlimit{Cur: min(l.soft, now.Max), Max: min(l.hard, now.Max)}
		return true, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &want, nil)
	}
	return false, err
}
