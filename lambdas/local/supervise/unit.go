package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/failover"
	"originchain/shared/lease"
)

// unit is the unit of one machine. One goroutine, loop, owns all of its state and takes
// all decisions, so that calls, ends and timers never meet half way.
type unit struct {
	s       *Supervisor
	machine string
	path    string
	log     *logFile
	file    sync.Mutex // of the unit file

	requests chan func()
	exits    chan exited
	done     chan struct{} // closed when loop has returned

	// generation grows when the unit is let run; a Stopped is good for one.
	generation atomic.Uint64

	// The rest is loop's.
	node     string // of the process that runs or ran last; "" if nobody has named it
	named    string // by the caller who let it run
	held     bool
	closing  bool
	proc     *process
	stopping bool
	last     *Stopped // the process that ran last, if it was reaped
	offered  bool     // to the releaser
	waiting  []chan error
	failures int
	again    *time.Timer // the restart after a pause
	patience *time.Timer // the end of TimeoutStopSec
	random   *rand.Rand
}

// exited is what was learnt by waiting for a process.
type exited struct {
	proc  *process
	state *os.ProcessState
	err   error
}

func newUnit(s *Supervisor, machine, path string) *unit {
	u := &unit{s: s, machine: machine, path: path, log: newLogFile(filepath.Join(s.cfg.Dir, "logs", machine+".log"), s.cfg.MaxLogBytes),
		requests: make(chan func()), exits: make(chan exited, 1), done: make(chan struct{}),
		again: time.NewTimer(time.Hour), patience: time.NewTimer(time.Hour),
		random: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))}
	u.again.Stop()
	u.patience.Stop()
	return u
}

// ask runs do in loop, and returns when it has run.
func (u *unit) ask(ctx context.Context, do func() error) error {
	result := make(chan error, 1)
	select {
	case u.requests <- func() { result <- do() }:
		return <-result
	case <-u.done:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// loop carries everything out until the context ends and the last process was reaped.
func (u *unit) loop(ctx context.Context) {
	defer close(u.done)
	ending := ctx.Done()
	for {
		select {
		case do := <-u.requests:
			do()
		case e := <-u.exits:
			u.ended(e)
		case <-u.again.C:
			u.startUnasked()
		case <-u.patience.C:
			u.signal(syscall.SIGKILL, true)
		case <-ending:
			ending, u.closing = nil, true
			if err := u.stop(); err != nil {
				u.s.deps.Log.WithError(err).WithField("machine", u.machine).Error("a node could not be asked to stop")
			}
		}
		u.release(ctx)
		if u.closing && u.proc == nil {
			return
		}
	}
}

// is fails if what runs, or ran last, is another node.
func (u *unit) is(n failover.Node) error {
	if n.ID != "" && u.node != "" && n.ID != u.node {
		return &WrongNodeError{Machine: u.machine, Want: n.ID, Have: u.node}
	}
	return nil
}

// state is what Control says of the unit.
func (u *unit) state() failover.Process {
	if u.proc != nil {
		return failover.Process{Running: true, PID: u.proc.cmd.Process.Pid}
	}
	if !u.held || u.last == nil {
		return failover.Process{}
	}
	p := failover.Process{Reaped: true}
	if u.last.closed() {
		p.Place = u.last.Place
	}
	return p
}

// stopped is the proof that the last process has ended and none was started since.
func (u *unit) stopped() (Stopped, bool) {
	if u.proc != nil || !u.held || u.last == nil {
		return Stopped{}, false
	}
	st, at := *u.last, u.generation.Load()
	st.still = func() bool { return u.generation.Load() == at }
	return st, true
}

// stop holds the unit and ends its process. Who waits for a start learns that it is off.
func (u *unit) stop() error {
	u.held = true
	u.again.Stop()
	u.answer(ErrStopped)
	return u.endProcess()
}

// endProcess asks the process to end, once; loop kills it when its time is over. A
// process that is frozen (SIGSTOP) is killed: to see the signal it would have to wake,
// and a writer that wakes may renew its lease and go on for a moment, without the
// followers that have left it meanwhile.
func (u *unit) endProcess() error {
	if u.proc == nil || u.stopping {
		return nil
	}
	u.stopping = true
	u.patience.Reset(u.proc.plan.stopTimeout)
	sig, group := u.proc.plan.stopSignal, u.proc.plan.stopGroup
	if frozen(u.proc.cmd.Process.Pid) {
		sig, group = syscall.SIGKILL, true
	}
	err := u.proc.signal(sig, group)
	if errors.Is(err, errEnded) {
		return nil // loop will hear of it
	}
	return err
}

// start lets the unit run; begun hears when it does, or why not.
func (u *unit) start(n failover.Node, begun chan error) {
	if u.closing {
		begun <- ErrClosed
		return
	}
	u.letRun(n)
	switch {
	case u.proc == nil:
		begun <- u.launchAsked()
	case u.stopping:
		u.waiting = append(u.waiting, begun)
	default:
		begun <- nil
	}
}

// restart ends the process and starts another.
func (u *unit) restart(n failover.Node, begun chan error) {
	if u.closing {
		begun <- ErrClosed
		return
	}
	u.letRun(n)
	if u.proc == nil {
		begun <- u.launchAsked()
		return
	}
	u.waiting = append(u.waiting, begun)
	if err := u.endProcess(); err != nil {
		u.answer(err)
	}
}

// letRun ends the hold, and with it every Stopped, before anything is started. Nothing
// else ends a hold.
func (u *unit) letRun(n failover.Node) {
	u.held, u.offered = false, false
	u.generation.Add(1)
	u.again.Stop()
	u.named = n.ID
}

func (u *unit) answer(err error) {
	for _, w := range u.waiting {
		w <- err // each has room for it
	}
	u.waiting = nil
}

// launchAsked starts the process for a caller, who hears of a failure; the unit is held
// then, as nobody knows what to change.
func (u *unit) launchAsked() error {
	u.failures = 0
	err := u.launch()
	if err != nil {
		u.held = true
	}
	return err
}

// launch starts the process by its unit as that reads now. What is about to run is
// recorded before the fork: whatever happens, the next supervisor finds it.
func (u *unit) launch() error {
	text, err := os.ReadFile(u.path)
	if err != nil {
		return fmt.Errorf("read the unit of %s: %w", u.machine, err)
	}
	p, err := readPlan(u.path, text, u.machine, u.s.base)
	if err != nil {
		return err
	}
	node := cmp.Or(p.flag("node-id"), u.named, u.node)
	if u.named != "" && node != u.named {
		return &WrongNodeError{Machine: u.machine, Want: u.named, Have: node}
	}
	for _, setting := range p.ignored {
		u.s.warnOnce(setting, u.path)
	}
	id := identity{Invocation: newInvocation()}
	if err := record(u.s.run, u.machine, id); err != nil {
		return fmt.Errorf("%s is not started: what runs could not be recorded: %w", u.machine, err)
	}
	proc, err := u.fork(p, id)
	if err != nil {
		return errors.Join(fmt.Errorf("start %s by %s: %w", u.machine, u.path, err), forget(u.s.run, u.machine))
	}
	u.proc, u.node, u.stopping, u.last = proc, node, false, nil
	u.s.background.Go(func() { proc.drain(u.log) })
	u.s.background.Go(func() {
		state, err := proc.wait()
		u.exits <- exited{proc, state, err}
	})
	u.s.deps.Event(Event{Kind: Started, Machine: u.machine, Node: u.node, PID: proc.cmd.Process.Pid})
	return nil
}

func (u *unit) fork(p *plan, id identity) (*process, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	proc := &process{cmd: command(p, id.Invocation, writer), plan: p, id: id, began: time.Now(), output: reader, drained: make(chan struct{}), done: make(chan struct{})}
	err = u.s.forker.start(proc.cmd)
	if err = errors.Join(err, writer.Close()); err != nil {
		if proc.cmd.Process == nil {
			return nil, errors.Join(err, reader.Close())
		}
		u.warn(err, "the pipe of a process that was started could not be closed")
	}
	// It may have ended by now; until it is reaped its pid is its own.
	full, err := identify(proc.cmd.Process.Pid)
	full.Invocation = id.Invocation
	if proc.id = full; err == nil {
		if err := record(u.s.run, u.machine, full); err != nil {
			u.warn(err, "a process is recorded by its invocation only")
		}
	}
	if lowered, err := proc.limitFiles(p.files); err != nil {
		u.warn(err, "the limit of open files could not be set")
	} else if lowered {
		u.s.warnOnce("LimitNOFILE", u.path)
	}
	return proc, nil
}

func (u *unit) warn(err error, what string) {
	u.s.deps.Log.WithError(err).WithField("machine", u.machine).Warn(what)
}

// ended takes note of an end, and decides what follows.
func (u *unit) ended(e exited) {
	p, wanted := u.proc, u.stopping
	u.proc, u.stopping = nil, false
	u.patience.Stop()
	defer close(p.done)
	u.s.background.Go(func() {
		if err := p.closeOutput(); err != nil {
			u.warn(err, "the output of a process could not be closed")
		}
	})
	if e.state == nil {
		u.lost(e.err)
		return
	}
	if e.err != nil {
		u.warn(e.err, "what a process left of its group may still run")
	}
	u.last, u.offered = u.reaped(p), false
	if err := forget(u.s.run, u.machine); err != nil {
		u.warn(err, "the record of a process that has ended could not be removed")
	}
	exit := describe(p, e.state)
	exit.Wanted = wanted
	switch {
	case len(u.waiting) > 0:
		u.tellEnd(Exited, exit, RestartNow, 0)
		u.answer(u.launchAsked())
	case u.held:
		u.tellEnd(Exited, exit, Hold, 0)
	default:
		u.follow(Exited, exit, p.plan.restartPause)
	}
}

// lost is for a process that could not be waited for: nothing is known of it, so nothing
// is started in its place.
func (u *unit) lost(err error) {
	u.last, u.held = nil, true
	u.answer(err)
	u.s.deps.Log.WithError(err).WithField("machine", u.machine).Error("a process could not be waited for; its unit is held, look whether it runs")
}

// reaped is the proof about a process that was just waited for.
func (u *unit) reaped(p *process) *Stopped {
	st := &Stopped{Machine: u.machine, Node: u.node, PID: p.cmd.Process.Pid, Start: p.id.Start}
	if dir := p.plan.flag("data-dir"); dir != "" {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(p.plan.dir, dir)
		}
		place, err := lease.PlaceOf(dir)
		if err != nil {
			u.warn(err, "the lease of a node that has ended cannot be given up")
		}
		st.Place, st.dir = place, dir
	}
	return st
}

func describe(p *process, state *os.ProcessState) Exit {
	e := Exit{PID: p.cmd.Process.Pid, Code: state.ExitCode(), Lived: time.Since(p.began)}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		e.Signal = status.Signal()
	}
	e.UnitRestarts = unitRestarts(p.plan.restart, e)
	return e
}

// follow does what the caller's policy says after an end that nobody asked for.
func (u *unit) follow(kind Kind, e Exit, base time.Duration) {
	if u.failures++; e.Err == nil && e.Lived >= settledAfter {
		u.failures = 1
	}
	e.Failures = u.failures
	next := u.s.deps.Decide(u.machine, u.node, e)
	if next == RestartNow && (e.Err != nil || u.failures > maxHurried) {
		next = RestartLater
	}
	switch next {
	case RestartNow:
		u.tellEnd(kind, e, next, 0)
		u.startUnasked()
	case RestartLater:
		d := restartPause(base, u.failures, u.random)
		u.again.Reset(d)
		u.tellEnd(kind, e, next, d)
	default:
		u.held = true
		u.tellEnd(kind, e, Hold, 0)
	}
}

func (u *unit) tellEnd(kind Kind, e Exit, next Next, d time.Duration) {
	u.s.deps.Event(Event{Kind: kind, Machine: u.machine, Node: u.node, PID: e.PID, Exit: e, Next: next, Pause: d})
}

// startUnasked starts the process by the policy, which hears of a failure.
func (u *unit) startUnasked() {
	if u.held || u.proc != nil {
		return
	}
	if err := u.launch(); err != nil {
		u.follow(StartFailed, Exit{Err: err, Code: -1, UnitRestarts: true}, defaultRestartPause)
	}
}

func (u *unit) signal(sig syscall.Signal, group bool) {
	if u.proc == nil {
		return
	}
	if err := u.proc.signal(sig, group); err != nil && !errors.Is(err, errEnded) {
		u.warn(err, "a node could not be signalled")
	}
}

// release has the lease of a process that has ended given up, once, while the unit is
// held. When the supervisor ends, leases run out by themselves.
func (u *unit) release(ctx context.Context) {
	st, ok := u.stopped()
	if !ok || u.offered || u.s.deps.Releaser == nil || ctx.Err() != nil {
		return
	}
	u.offered = true
	u.s.background.Go(func() {
		// By then it has run out.
		ctx, cancel := context.WithTimeout(ctx, lease.Expiry)
		defer cancel()
		what, err := u.s.deps.Releaser.Release(ctx, st)
		log := u.s.deps.Log.WithFields(logrus.Fields{"machine": st.Machine, "node": st.Node, "pid": st.PID, "release": what})
		if err != nil {
			log.WithError(err).Warn("the lease of a node that has ended was not given up; it runs out by itself")
		} else {
			log.Info("a node has ended for certain")
		}
		u.s.deps.Event(Event{Kind: LeaseGivenUp, Machine: st.Machine, Node: st.Node, PID: st.PID, Release: what, Err: err})
	})
}
