package supervise

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// Kind says what has happened.
type Kind string

// The kinds of events.
const (
	// Started: a process runs.
	Started Kind = "started"
	// Exited: a process has ended and was reaped.
	Exited Kind = "exited"
	// StartFailed: a start that nobody waited for has failed.
	StartFailed Kind = "start_failed"
	// LeaseGivenUp: the releaser has ended its work for a process that was reaped.
	LeaseGivenUp Kind = "lease_given_up"
)

// Event is told as it happens: those of one machine in order, but for LeaseGivenUp.
type Event struct {
	Kind    Kind
	Machine string
	Node    string
	PID     int
	// Exit, Next and Pause are of Exited and StartFailed: how it ended, what is done, and
	// for RestartLater when.
	Exit  Exit
	Next  Next
	Pause time.Duration
	// Release and Err are of LeaseGivenUp.
	Release Release
	Err     error
}

// Exit is how a process ended, or that it could not be started.
type Exit struct {
	// PID is 0 for a process that could not be started; Err says why.
	PID int
	Err error
	// Code is the exit code, -1 if Signal ended it.
	Code   int
	Signal syscall.Signal
	// Wanted: somebody asked for it, by Stop, Restart or the end of the supervisor.
	Wanted bool
	Lived  time.Duration
	// UnitRestarts is what the unit's Restart= says of such an end.
	UnitRestarts bool
	// Failures is how many ends, this one included, came soon after their start.
	Failures int
}

// String says how it ended.
func (e Exit) String() string {
	switch {
	case e.Err != nil:
		return "could not be started: " + e.Err.Error()
	case e.Signal != 0:
		return fmt.Sprintf("process %d was ended by signal %d (%s)", e.PID, int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("process %d ended with code %d", e.PID, e.Code)
}

// Next is what is done after a process has ended unasked.
type Next string

// What can be done.
const (
	// RestartNow starts another at once, but not for ever: see maxHurried.
	RestartNow Next = "restart_now"
	// RestartLater starts another after a pause, longer each time it ends soon.
	RestartLater Next = "restart_later"
	// Hold starts none until Start or Restart.
	Hold Next = "hold"
)

// Decide says what is done after an end that nobody asked for. It runs while the unit
// waits: it must not block, nor call the supervisor.
type Decide func(machine, node string, e Exit) Next

// ByUnit does what the unit's Restart= says.
func ByUnit(_, _ string, e Exit) Next {
	if e.UnitRestarts {
		return RestartLater
	}
	return Hold
}

const (
	// maxHurried is after how many early ends in a row a restart at once is one with a
	// pause: nothing may spin.
	maxHurried = 3
	// maxRestartPause bounds the pause before a restart, without its random part.
	maxRestartPause = 30 * time.Second
	// settledAfter is when a process is no longer one that ended soon.
	settledAfter = 10 * time.Second
)

// restartPause doubles from base, and is up to a quarter longer by chance, so that
// processes which fail together do not start together.
func restartPause(base time.Duration, failures int, random *rand.Rand) time.Duration {
	d := max(base, time.Millisecond)
	for range failures - 1 {
		if d *= 2; d >= maxRestartPause {
			break
		}
	}
	d = max(min(d, maxRestartPause), base)
	return d + time.Duration(random.Int64N(int64(d/4)+1))
}

// unitRestarts is systemd's table of Restart= (systemd.service(5)).
func unitRestarts(restart string, e Exit) bool {
	clean := e.Err == nil && (e.Signal == 0 && e.Code == 0 ||
		slices.Contains([]syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE}, e.Signal))
	switch restart {
	case "always":
		return true
	case "on-success":
		return clean
	case "on-failure":
		return !clean
	case "on-abnormal", "on-abort":
		return !clean && e.Signal != 0
	}
	return false
}

// Errors of the calls.
var (
	// ErrClosed: the supervisor has ended, or is ending.
	ErrClosed = errors.New("the supervisor has ended")
	// ErrStopped: a Stop came before the start that was asked for.
	ErrStopped = errors.New("the node was stopped before it was started again")
	// ErrNotRunning: there is no process to signal.
	ErrNotRunning = errors.New("the node's process does not run")
	// ErrStartedAgain: what was to be true of a stopped process is not, or no longer.
	ErrStartedAgain = errors.New("the node has been let run again since its process ended")
)

// UnknownMachineError says that a machine has no unit.
type UnknownMachineError struct{ Machine, File string }

// Error implements error.
func (e *UnknownMachineError) Error() string {
	return fmt.Sprintf("there is no machine %q here: %s does not exist", e.Machine, e.File)
}

// WrongNodeError says that a machine runs another node than the one that was meant.
type WrongNodeError struct{ Machine, Want, Have string }

// Error implements error.
func (e *WrongNodeError) Error() string {
	return fmt.Sprintf("the machine %s runs the node %s, not %s; nothing was done", e.Machine, e.Have, e.Want)
}

// BusyError says that another supervisor has the directory.
type BusyError struct {
	Dir string
	// Holder is what it wrote into its lock: its pid.
	Holder string
}

// Error implements error.
func (e *BusyError) Error() string {
	return fmt.Sprintf("another supervisor (pid %s) has %s; end it first", e.Holder, e.Dir)
}
