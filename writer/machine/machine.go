package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"originchain/shared/durable"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/lease/leaseopen"
	"originchain/writer/config"
	"originchain/writer/reach"
)

// Where systemd has its units: those of the machine, and those of this boot.
const (
	EtcDir = "/etc/systemd/system"
	RunDir = "/run/systemd/system"
)

const (
	// VerbTimeout bounds a whole command: the wait for another one, what it does, and a
	// server that takes all of its TimeoutStopSec, if that is at most StopTimeout.
	VerbTimeout = StopTimeout + 30*time.Second
	// StopTimeout bounds the end of a server, and its start.
	StopTimeout = 2 * time.Minute
	// recordTimeout bounds the reading of the record of who writes.
	recordTimeout = 5 * time.Second
	// askTimeout bounds a question to systemd, and its reading of the units.
	askTimeout = 20 * time.Second
	// lockPoll is how often another command is looked for that runs.
	lockPoll = 20 * time.Millisecond
)

// MaxTextBytes bounds a unit file: what a command may print is cut at 24,000 characters,
// and in them the text is base64.
const MaxTextBytes = 16 << 10

// Machine is one service of this machine.
type Machine struct {
	unit, etc, run string
	disk           func(os.FileMode) durable.Disk
	frozen         func(pid int) bool
	// unattended: nobody stands by who has sent the command.
	unattended bool
}

// names are names of services, with nothing of a path in them.
var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9:_.@-]{0,199}\.service$`)

// New is the service of a unit, in systemd's directories or others.
func New(unit, etc, run string) (*Machine, error) {
	if !names.MatchString(unit) {
		return nil, fmt.Errorf("%q is no name of a service, such as oc-http.service", unit)
	}
	return &Machine{unit: unit, etc: etc, run: run, disk: durable.OnOS, frozen: frozen}, nil
}

// Unattended is the machine for a command that was sent from afar, and may come late. What
// somebody has held by hand it does not start.
func (m *Machine) Unattended() *Machine {
	from := *m
	from.unattended = true
	return &from
}

// RefusedError says that nothing was changed: the command is of another epoch than the
// record, or nobody can tell.
type RefusedError struct {
	Asked, Found uint64
	// Err is why the record's epoch is not known.
	Err error
}

// Error implements error.
func (e *RefusedError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("nothing was changed: that epoch %d is the record's cannot be told: %v", e.Asked, e.Err)
	}
	return fmt.Sprintf("nothing was changed: the command is of epoch %d, and the record is of epoch %d by now", e.Asked, e.Found)
}

// Unwrap gives the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// Process tells what is known of the server.
func (m *Machine) Process(ctx context.Context) (failover.Process, error) {
	st, err := m.show(ctx)
	if err != nil {
		return failover.Process{}, err
	}
	p := failover.Process{Running: st.running(), PID: st.main, Reaped: m.reaped(st)}
	if p.Reaped {
		p.Place = m.place()
	}
	return p, nil
}

// Stop holds the unit and ends its process: SIGTERM, and SIGKILL after its TimeoutStopSec.
//
// Invariant: the record is read again once the unit is held, and only then is anything
// ended. Nobody becomes the writer here after that reading but by a process that runs
// already. A record that has moved on meanwhile lets the hold go that was placed for it.
func (m *Machine) Stop(ctx context.Context, epoch uint64) (p failover.Process, err error) {
	err = m.alone(ctx, epoch, func(*standing) error {
		// The hold comes first: a process that ends by itself meanwhile is not started again.
		undo, err := m.hold(ctx, epoch)
		if err != nil {
			return err
		}
		if _, err := m.check(ctx, epoch); err != nil {
			if stays := undo(); stays != nil {
				return fmt.Errorf("%s was not stopped (%v): %w", m.unit, err, stays) //nolint:errorlint // it is not true any more that nothing was changed
			}
			return err
		}
		if err := m.end(ctx, "stop"); err != nil {
			return fmt.Errorf("%s is held, and is not known to have ended: %w", m.unit, err)
		}
		p, err = m.Process(ctx)
		if err == nil && p.Running {
			err = fmt.Errorf("%s was stopped, and process %d runs: somebody has taken the hold away", m.unit, p.PID)
		}
		return err
	})
	return p, err
}

// Start lifts the hold and starts the unit, by its file as that reads now; one that runs
// is left alone, unless it is frozen: a stop that was called back before it came to it leaves
// it so, and it would stay so.
func (m *Machine) Start(ctx context.Context, epoch uint64) (p failover.Process, err error) {
	err = m.alone(ctx, epoch, func(now *standing) error {
		p, err = m.begin(ctx, epoch, func() error {
			st, err := m.show(ctx)
			if err != nil {
				return err
			}
			// A debugger has a server stand still for a moment that serves all the same.
			if st.main != 0 && m.frozen(st.main) && !now.serves(ctx) {
				return m.end(ctx, "restart")
			}
			return m.act(ctx, "start")
		})
		return err
	})
	return p, err
}

// Restart ends the process and starts the unit by its file as that reads now. A server that
// serves the record's epoch as its writer is left alone, and that is said: a restart would
// only cost the instance its writer.
func (m *Machine) Restart(ctx context.Context, epoch uint64) (p failover.Process, left bool, err error) {
	err = m.alone(ctx, epoch, func(now *standing) error {
		if left = now.serves(ctx); left {
			p, err = m.Process(ctx)
			return err
		}
		p, err = m.begin(ctx, epoch, func() error { return m.end(ctx, "restart") })
		return err
	})
	return p, left, err
}

func (m *Machine) begin(ctx context.Context, epoch uint64, do func() error) (failover.Process, error) {
	if err := m.mayLift(epoch); err != nil {
		return failover.Process{}, err
	}
	if err := m.lift(ctx); err != nil {
		return failover.Process{}, err
	}
	if err := do(); err != nil {
		return failover.Process{}, err
	}
	return m.Process(ctx)
}

// Text is the unit file.
func (m *Machine) Text() (path string, text []byte, err error) {
	path = m.path()
	text, err = readAtMost(path, MaxTextBytes)
	return path, text, err
}

// readAtMost is a whole file of at most so many bytes; more are not read.
func readAtMost(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	err = errors.Join(err, f.Close())
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s has more than the %d bytes that there is room for", path, most)
	}
	if err != nil {
		return nil, err
	}
	return text, nil
}

// Rewrite replaces the unit file as one step, for the next start. A text that is not this
// node's, or that no server would start by, is refused, and the file is as it was.
func (m *Machine) Rewrite(ctx context.Context, epoch uint64, text []byte) error {
	if len(text) > MaxTextBytes {
		return fmt.Errorf("the text has %d bytes, more than %d; nothing was changed", len(text), MaxTextBytes)
	}
	return m.alone(ctx, epoch, func(*standing) error {
		if err := m.fits(ctx, text); err != nil {
			return fmt.Errorf("%w; nothing was changed", err)
		}
		st, err := os.Stat(m.path())
		if err != nil {
			return err
		}
		// One try: a second fsync could succeed without the data.
		if err := m.replace(st.Mode().Perm(), m.path(), text); err != nil {
			return err
		}
		// Also if the text was there already: who wrote it may have been killed before this.
		if err := m.reload(ctx); err != nil {
			return fmt.Errorf("%s is rewritten, and systemd does not know yet: %w; do it again", m.path(), err)
		}
		return nil
	})
}

func (m *Machine) replace(mode os.FileMode, path string, text []byte) error {
	err := durable.Replace(m.disk(mode), path, path+".tmp", text)
	failed := (*durable.Error)(nil)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failed) && failed.Unknown():
		return fmt.Errorf("replace %s: %w; the new text may be there, and may not survive a crash of the machine", path, err)
	}
	return fmt.Errorf("replace %s: %w; it is as it was", path, err)
}

// alone runs do while no other command of this machine does, if the record is of the epoch
// then.
func (m *Machine) alone(ctx context.Context, epoch uint64, do func(*standing) error) (err error) {
	unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	now, err := m.check(ctx, epoch)
	if err != nil {
		return err
	}
	return do(now)
}

// lock is on the directory of the units itself, and ends with the process: it leaves nothing.
func (m *Machine) lock(ctx context.Context) (unlock func() error, err error) {
	d, err := os.Open(m.etc)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return d.Close, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", m.etc, err), d.Close())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("another command has not ended on this machine: %w; nothing was changed", context.Cause(ctx)), d.Close())
		}
	}
}

// standing is the record, and the server of the unit that names it.
type standing struct {
	record lease.Record
	cfg    config.Config
}

// serves says whether the unit's server serves the record's epoch as its writer: by the
// record, and by what it answers itself.
func (s *standing) serves(ctx context.Context) bool {
	if s.record.Holder != s.cfg.NodeID || !s.record.Confirmed() {
		return false
	}
	server, err := (*reach.Server)(nil).Of(s.cfg.Reach())
	if err != nil {
		return false // nobody can ask it
	}
	defer server.Close()
	answer, _ := server.Standing(ctx) // one that does not answer does not serve
	return answer.Writes()
}

// check fails with a RefusedError unless the record is of the epoch.
func (m *Machine) check(ctx context.Context, epoch uint64) (*standing, error) {
	refuse := func(err error) error { return &RefusedError{Asked: epoch, Err: err} }
	_, text, err := m.Text()
	if err != nil {
		return nil, refuse(err)
	}
	s, err := readServer(m.path(), m.unit, text)
	if err != nil {
		return nil, refuse(err)
	}
	if s.cfg.Control == "" {
		return nil, refuse(fmt.Errorf("%s has no --control", m.path()))
	}
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	store, err := leaseopen.Open(ctx, vfs.Default, s.cfg.Control)
	if err != nil {
		return nil, refuse(err)
	}
	rec, ok, err := store.Load(ctx)
	switch {
	case err != nil:
		return nil, refuse(err)
	case !ok:
		return nil, refuse(errors.New("there is no record of who writes"))
	case uint64(rec.Epoch) != epoch:
		return nil, &RefusedError{Asked: epoch, Found: uint64(rec.Epoch)}
	}
	return &standing{rec, s.cfg}, nil
}

func (m *Machine) path() string { return filepath.Join(m.etc, m.unit) }
