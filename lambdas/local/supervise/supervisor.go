package supervise

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"originchain/shared/durable"
	"originchain/shared/failover"
)

// machines are names that may become names of directories and files.
var machines = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// Config says where the units are.
type Config struct {
	// Dir is an absolute path.
	Dir string
	// Environment has variables that every process gets, beside PATH; those of its unit go
	// before them. Nothing else of the caller's environment is passed on.
	Environment map[string]string
	// MaxLogBytes is when a log is rotated; 0 takes DefaultMaxLogBytes.
	MaxLogBytes int64
}

// Deps are what a supervisor works with.
type Deps struct {
	Log logrus.FieldLogger
	// Decide is asked after each end that nobody asked for; nil takes ByUnit.
	Decide Decide
	// Event is told what happens; it must not block, nor call the supervisor. May be nil.
	Event func(Event)
	// Releaser gives up the leases of held nodes that have ended; nil leaves them.
	Releaser *Releaser
}

// Supervisor is the parent of the nodes' processes. Its calls wait until Run is ready.
type Supervisor struct {
	cfg  Config
	deps Deps
	disk func(fs.FileMode) durable.Disk
	base map[string]string

	ready chan struct{} // closed when calls may begin
	done  chan struct{} // closed when Run has returned

	// Set before ready is closed, and not changed after.
	run    string
	forker *forker

	loops      sync.WaitGroup // of the units
	background sync.WaitGroup // what units leave to others

	mu     sync.Mutex
	start  func(*unit) // nil: no new ones
	units  map[string]*unit
	warned map[string]bool
}

var _ failover.Control = (*Supervisor)(nil)

// defaultPath is the PATH of systemd's services.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// New returns a supervisor; it starts nothing before Run.
func New(cfg Config, deps Deps) (*Supervisor, error) {
	if !filepath.IsAbs(cfg.Dir) {
		return nil, fmt.Errorf("the supervisor's directory %q is no absolute path", cfg.Dir)
	}
	if cfg.MaxLogBytes < 0 {
		return nil, fmt.Errorf("a log of at most %d bytes holds nothing", cfg.MaxLogBytes)
	}
	if cfg.MaxLogBytes == 0 {
		cfg.MaxLogBytes = DefaultMaxLogBytes
	}
	if deps.Decide == nil {
		deps.Decide = ByUnit
	}
	if deps.Event == nil {
		deps.Event = func(Event) {}
	}
	base := map[string]string{"PATH": defaultPath}
	for k, v := range cfg.Environment {
		base[k] = v
	}
	return &Supervisor{cfg: cfg, deps: deps, disk: durable.OnOS, base: base, ready: make(chan struct{}), done: make(chan struct{}),
		units: map[string]*unit{}, warned: map[string]bool{}}, nil
}

// Run takes the directory, ends what a former supervisor has left running, and then
// carries out calls until the context ends; then it stops all nodes and returns when the
// last of them was reaped. It runs once.
func (s *Supervisor) Run(ctx context.Context) (err error) {
	defer close(s.done)
	lock, err := s.lock()
	if err != nil {
		return err
	}
	// Last: until then no other supervisor may start anything.
	defer func() { err = errors.Join(err, lock.Close()) }()
	boot, err := bootID()
	if err != nil {
		return err
	}
	s.run = runDir(s.cfg.Dir, boot)
	if err := os.MkdirAll(s.run, 0o700); err != nil {
		return err
	}
	if err := endLeftOvers(s.run, s.leftOver); err != nil {
		return fmt.Errorf("nothing is started: %w", err)
	}
	s.forker = newForker()
	// Its thread's end would be the end of all children: see forker.
	defer s.forker.close()
	s.mu.Lock()
	s.start = func(u *unit) { s.loops.Go(func() { u.loop(ctx) }) }
	s.mu.Unlock()
	close(s.ready)
	<-ctx.Done()
	s.mu.Lock()
	s.start = nil
	s.mu.Unlock()
	s.loops.Wait()
	s.background.Wait()
	return s.closeLogs()
}

func (s *Supervisor) leftOver(machine string, pid int) {
	s.deps.Log.WithFields(logrus.Fields{"machine": machine, "pid": pid}).Warn("a process that a former supervisor left running was ended")
}

func (s *Supervisor) closeLogs() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.units {
		err = errors.Join(err, u.log.Close())
	}
	return err
}

// lock takes the directory for this process, until the file is closed.
func (s *Supervisor) lock() (*os.File, error) {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(s.cfg.Dir, "supervisor.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		var held [32]byte
		n, _ := f.ReadAt(held[:], 0) // it only makes the message better
		err = &BusyError{Dir: s.cfg.Dir, Holder: strings.TrimSpace(string(held[:n]))}
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// unit waits for Run, and returns the unit of a node's machine.
func (s *Supervisor) unit(ctx context.Context, n failover.Node) (*unit, error) {
	select {
	case <-s.ready:
	case <-s.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	path := filepath.Join(s.cfg.Dir, "units", n.Machine, unitName)
	if !machines.MatchString(n.Machine) {
		return nil, &UnknownMachineError{Machine: n.Machine, File: path}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.units[n.Machine]
	if u != nil {
		return u, nil
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, &UnknownMachineError{Machine: n.Machine, File: path}
	} else if err != nil {
		return nil, err
	}
	if s.start == nil {
		return nil, ErrClosed
	}
	u = newUnit(s, n.Machine, path)
	s.units[n.Machine] = u
	s.start(u)
	return u, nil
}

// warnOnce says of a setting that it has no effect, the first time.
func (s *Supervisor) warnOnce(setting, file string) {
	s.mu.Lock()
	known := s.warned[setting]
	s.warned[setting] = true
	s.mu.Unlock()
	if !known {
		s.deps.Log.WithFields(logrus.Fields{"setting": setting, "unit": file}).Warn("a setting of a unit has no effect under this supervisor")
	}
}

// ask runs do in the unit's goroutine, if the machine runs the node.
func (s *Supervisor) ask(ctx context.Context, n failover.Node, do func(u *unit) error) error {
	u, err := s.unit(ctx, n)
	if err != nil {
		return err
	}
	return u.ask(ctx, func() error {
		if err := u.is(n); err != nil {
			return err
		}
		return do(u)
	})
}

// Process implements failover.Control.
func (s *Supervisor) Process(ctx context.Context, n failover.Node) (p failover.Process, err error) {
	err = s.ask(ctx, n, func(u *unit) error {
		p = u.state()
		return nil
	})
	return p, err
}

// Stop implements failover.Control. It goes on if the context ends first.
func (s *Supervisor) Stop(ctx context.Context, n failover.Node) (failover.Process, error) {
	var running *process
	err := s.ask(ctx, n, func(u *unit) error {
		running = u.proc
		return u.stop()
	})
	if err != nil {
		return failover.Process{}, err
	}
	if running != nil {
		select {
		case <-running.done:
		case <-ctx.Done():
			return failover.Process{}, fmt.Errorf("%s is being stopped, and has not ended yet: %w", n.Machine, context.Cause(ctx))
		}
	}
	p, err := s.Process(ctx, n)
	if err == nil && p.Running {
		err = fmt.Errorf("stop %s: %w", n.Machine, ErrStartedAgain)
	}
	return p, err
}

// Start implements failover.Control.
func (s *Supervisor) Start(ctx context.Context, n failover.Node) error {
	return s.begin(ctx, n, false)
}

// Restart implements failover.Control. It goes on if the context ends first.
func (s *Supervisor) Restart(ctx context.Context, n failover.Node) error {
	return s.begin(ctx, n, true)
}

func (s *Supervisor) begin(ctx context.Context, n failover.Node, again bool) error {
	begun := make(chan error, 1)
	u, err := s.unit(ctx, n)
	if err != nil {
		return err
	}
	err = u.ask(ctx, func() error {
		// Without a process the unit file says which node it is.
		if err := u.is(n); err != nil && u.proc != nil {
			return err
		}
		if again {
			u.restart(n, begun)
		} else {
			u.start(n, begun)
		}
		return nil
	})
	if err != nil {
		return err
	}
	select {
	case err := <-begun:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s has not been started yet: %w", n.Machine, context.Cause(ctx))
	}
}

// Unit implements failover.Control.
func (s *Supervisor) Unit(ctx context.Context, n failover.Node) (name string, text []byte, err error) {
	u, err := s.unit(ctx, n)
	if err != nil {
		return "", nil, err
	}
	text, err = os.ReadFile(u.path)
	return u.path, text, err
}

// Rewrite implements failover.Control. A unit that could not be started is refused, and
// the file is as it was.
func (s *Supervisor) Rewrite(ctx context.Context, n failover.Node, text []byte) error {
	u, err := s.unit(ctx, n)
	if err != nil {
		return err
	}
	if _, err := readPlan(u.path, text, u.machine, s.base); err != nil {
		return err
	}
	u.file.Lock()
	defer u.file.Unlock()
	st, err := os.Stat(u.path)
	if err != nil {
		return err
	}
	return replaceFile(s.disk(st.Mode().Perm()), u.path, text)
}

// Kill sends a signal to all processes of a node, for drills: what follows is what
// follows of any such end.
func (s *Supervisor) Kill(ctx context.Context, n failover.Node, sig syscall.Signal) error {
	return s.ask(ctx, n, func(u *unit) error {
		if u.proc == nil {
			return ErrNotRunning
		}
		err := u.proc.signal(sig, true)
		if errors.Is(err, errEnded) {
			return ErrNotRunning
		}
		return err
	})
}

// Stopped is the proof for Releaser that a node's process has ended; ok is false if there
// is none.
func (s *Supervisor) Stopped(ctx context.Context, n failover.Node) (st Stopped, ok bool, err error) {
	err = s.ask(ctx, n, func(u *unit) error {
		st, ok = u.stopped()
		return nil
	})
	return st, ok, err
}
