package systemctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// The environment of the command and of the manager.
const (
	// StateVariable names the directory of the machine's manager.
	StateVariable = "OC_TEST_SYSTEMD"
	// EtcVariable and RunVariable name other directories of units than systemd's, for
	// a machine that has no root of its own.
	EtcVariable = "OC_TEST_SYSTEMD_ETC"
	RunVariable = "OC_TEST_SYSTEMD_RUN"
)

const (
	socketName = "socket"
	// servicePath is the PATH that services have.
	servicePath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// maxRequestBytes bounds one command line.
	maxRequestBytes = 64 << 10
)

// Manager is the service manager of one machine.
type Manager struct {
	state, etc, run string

	forks chan forking

	mu      sync.Mutex
	changed *sync.Cond
	units   map[string]*unit
}

type forking struct {
	cmd    *exec.Cmd
	result chan error
}

type request struct {
	Args []string `json:"args"`
}

type answer struct {
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
	Code   int    `json:"code"`
}

// Main is the program: the manager if its one argument is "manager", else the command.
func Main(args []string, stdout, stderr io.Writer) int {
	state := os.Getenv(StateVariable)
	if state == "" {
		_, _ = fmt.Fprintf(stderr, "systemctl for tests: %s names no directory\n", StateVariable)
		return 1
	}
	var err error
	code := 1
	if slices.Equal(args, []string{"manager"}) {
		m := &Manager{state: state, etc: or(os.Getenv(EtcVariable), "/etc/systemd/system"), run: or(os.Getenv(RunVariable), "/run/systemd/system"),
			forks: make(chan forking), units: map[string]*unit{}}
		m.changed = sync.NewCond(&m.mu)
		if err = m.serve(stdout); err == nil {
			code = 0
		}
	} else {
		code, err = ask(state, args, stdout, stderr)
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "systemctl for tests: %v\n", err)
	}
	return code
}

// ask sends a command line to the manager.
func ask(state string, args []string, stdout, stderr io.Writer) (int, error) {
	c, err := dial(state)
	if err != nil {
		return 1, fmt.Errorf("no manager runs here: %w", err)
	}
	var a answer
	err = json.NewEncoder(c).Encode(request{args})
	if err == nil {
		err = json.NewDecoder(c).Decode(&a)
	}
	_, e1 := io.WriteString(stdout, a.Stdout)
	_, e2 := io.WriteString(stderr, a.Stderr)
	if err = errors.Join(err, e1, e2, c.Close()); err != nil {
		return 1, err
	}
	return a.Code, nil
}

// dial reaches the socket through the directory: the path of a socket is short.
func dial(state string) (_ net.Conn, err error) {
	d, err := os.Open(state)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketName))
}

// dirs are where units are looked for, the first that has one wins.
func (m *Manager) dirs() []string { return []string{m.etc, m.run, "/usr/lib/systemd/system"} }

// serve takes commands until the process is told to end, or who started it has gone: its
// input ends then. The first line on stdout says that it does.
func (m *Manager) serve(stdout io.Writer) (err error) {
	d, err := os.Open(m.state)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	l, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketName))
	if err != nil {
		return err
	}
	go m.forker()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // however it ends
		stop()
	}()
	go func() {
		<-ctx.Done()
		_ = l.Close() // Accept says so
	}()
	if _, err := fmt.Fprintln(stdout, "ready"); err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go m.converse(c)
	}
}

// forker starts all processes on one thread, which ends with the manager: their
// parent-death signal is of the thread.
func (m *Manager) forker() {
	runtime.LockOSThread()
	for f := range m.forks {
		f.result <- f.cmd.Start()
	}
}

func (m *Manager) fork(cmd *exec.Cmd) error {
	f := forking{cmd, make(chan error, 1)}
	m.forks <- f
	return <-f.result
}

func (m *Manager) converse(c net.Conn) {
	var r request
	var a answer
	if err := json.NewDecoder(io.LimitReader(c, maxRequestBytes)).Decode(&r); err != nil {
		a = answer{Stderr: err.Error() + "\n", Code: 1}
	} else {
		a = m.command(r.Args)
	}
	_ = json.NewEncoder(c).Encode(a) // who has gone hears nothing
	_ = c.Close()
}

// names are names of units, with nothing of a path in them.
var names = regexp.MustCompile(`^[A-Za-z0-9:_.@-]+\.(service|timer)$`)

// command carries a command line out.
func (m *Manager) command(args []string) answer {
	options, words, err := parse(args)
	if err != nil {
		return failed("systemctl: %v", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Equal(words, []string{"daemon-reload"}) {
		for _, u := range m.units {
			u.load()
		}
		return answer{}
	}
	defer m.changed.Broadcast()
	if slices.Equal(words, []string{"default"}) {
		return m.start(m.wanted(), true)
	}
	several := len(words) > 2 && words[0] == "enable"
	if len(words) < 2 || len(words) > 2 && !several || slices.ContainsFunc(words[1:], func(n string) bool { return !names.MatchString(n) }) {
		return failed("systemctl: this is for tests, and takes daemon-reload, default, or one verb and one service or timer, enable several: %q", args)
	}
	_, now := options["--now"]
	_, noBlock := options["--no-block"]
	u := m.unit(words[1])
	switch words[0] {
	case "is-active":
		code := 3
		if u.active == "active" {
			code = 0
		}
		return answer{Stdout: or(u.active, "inactive") + "\n", Code: code}
	case "is-enabled":
		if slices.Contains(m.wanted(), u.name) {
			return answer{Stdout: "enabled\n"}
		}
		return answer{Stdout: "disabled\n", Code: 1}
	case "show":
		var out bytes.Buffer
		u.show(&out, strings.Split(options["--property"], ","))
		return answer{Stdout: out.String()}
	case "start":
		return m.start(words[1:], noBlock)
	case "enable":
		for _, name := range words[1:] {
			if err := m.unit(name).enable(); err != nil {
				return failed("%v", err)
			}
		}
		if now {
			return m.start(words[1:], noBlock)
		}
		return answer{}
	}
	if err := u.act(words[0], options["--signal"]); err != nil {
		return failed("%v", err)
	}
	return answer{}
}

// start starts units. Unless it is not to block, it waits for those that are to end.
func (m *Manager) start(units []string, noBlock bool) answer {
	for _, name := range units {
		if err := m.unit(name).start(); err != nil {
			return failed("%v", err)
		}
	}
	for _, name := range units {
		u := m.unit(name)
		for !noBlock && u.main != 0 && u.ran.oneshot {
			m.changed.Wait()
		}
		if !noBlock && u.loaded != nil && u.loaded.oneshot && u.result != "success" {
			return failed("Job for %s failed: %s", name, u.result)
		}
	}
	return answer{}
}

func failed(format string, args ...any) answer {
	return answer{Stderr: fmt.Sprintf(format, args...) + "\n", Code: 1}
}

// parse tells options from words.
func parse(args []string) (options map[string]string, words []string, err error) {
	options = map[string]string{}
	for i := 0; i < len(args); i++ {
		switch name, value, _ := strings.Cut(args[i], "="); {
		case name == "-p" && i+1 < len(args):
			i++
			options["--property"] = args[i]
		case slices.Contains([]string{"--property", "--signal"}, name):
			options[name] = value
		case name == "--quiet" || name == "--no-pager" || name == "--no-ask-password":
		case name == "--now" || name == "--no-block":
			options[name] = ""
		case strings.HasPrefix(name, "-"):
			return nil, nil, fmt.Errorf("unrecognized option '%s'", args[i])
		default:
			words = append(words, args[i])
		}
	}
	return options, words, nil
}

// act carries out a verb that changes something.
func (u *unit) act(verb, signal string) error {
	switch verb {
	case "stop":
		u.stop()
	case "restart":
		u.stop()
		return u.start()
	case "reset-failed":
		u.starts = nil
		if u.active == "failed" {
			u.active, u.sub, u.result = "inactive", "dead", "success"
		}
	case "kill":
		if signal != "SIGKILL" {
			return errors.New("kill takes --signal=SIGKILL here")
		}
		if u.main == 0 {
			return fmt.Errorf("failed to kill unit %s: no main process", u.name)
		}
		u.signal(syscall.SIGKILL, true)
	default:
		return fmt.Errorf("unknown command verb '%s'", verb)
	}
	return nil
}

// unit is the unit of a name, which is read when it is named first.
func (m *Manager) unit(name string) *unit {
	u := m.units[name]
	if u == nil {
		u = &unit{m: m, name: name, result: "success"}
		u.load()
		m.units[name] = u
	}
	return u
}
