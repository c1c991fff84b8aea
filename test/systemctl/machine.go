package systemctl

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Test is what a machine needs of a *testing.T.
type Test interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
	TempDir() string
}

// Build builds the command systemctl into a directory, which is to be put on a PATH.
func Build(dir string) error {
	out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "systemctl"), "originchain/test/systemctl/shim").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build systemctl: %w\n%s", err, out)
	}
	return nil
}

// Machine is a machine with a service manager. It has directories of units of its own;
// or, with Options.Root, a root of its own in a mount namespace.
type Machine struct {
	t Test
	// State is the manager's directory; Etc and Run are those of units, as seen from here.
	State, Etc, Run string
	// Root is the machine's root directory as seen from here; "" if it has none.
	Root string
	bin  string
	wrap []string
	// sealed is Options.Sealed.
	sealed  bool
	devices []string

	manager *exec.Cmd
}

// Options say what a machine is.
type Options struct {
	// Bin is where Build has put the command.
	Bin string
	// Wrap goes before every command of the machine, such as that of a network namespace.
	Wrap []string
	// Rooted gives the machine a root directory: /etc, /run, /var and /opt are its own,
	// everything else is this machine's. It needs what mounts do.
	Rooted bool
	// Sealed goes with Rooted, for what would do harm here: nothing is this machine's but
	// its programs, which cannot be written, /proc and /sys. Users are the machine's own,
	// Bin is its /usr/local/sbin, and /dev has what every machine has, and Devices.
	Sealed  bool
	Devices []string
}

// New boots a machine, which has no power any more when the test ends.
func New(t Test, o Options) *Machine {
	t.Helper()
	dir := t.TempDir()
	m := &Machine{t: t, bin: o.Bin, wrap: o.Wrap, sealed: o.Sealed, devices: o.Devices, State: filepath.Join(dir, "state"), Etc: filepath.Join(dir, "etc"), Run: filepath.Join(dir, "run")}
	if o.Rooted {
		m.Root = filepath.Join(dir, "root")
		m.State, m.Etc, m.Run = filepath.Join(m.Root, "run/systemd/private"), filepath.Join(m.Root, "etc/systemd/system"), filepath.Join(m.Root, "run/systemd/system")
	}
	for _, d := range []string{m.State, m.Etc, m.Run} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatalf("%v", err)
		}
	}
	furnish := map[bool]func() error{false: m.furnish, true: m.seal}[o.Sealed]
	if o.Rooted {
		if err := furnish(); err != nil {
			t.Fatalf("%v", err)
		}
	}
	t.Cleanup(m.PowerOff)
	m.Boot()
	return m
}

// own are the directories at the top that a machine has for itself.
func own() []string { return []string{"etc", "run", "var", "opt"} }

// furnish makes the root's directories, and enter.sh, which mounts what is shared.
func (m *Machine) furnish() error {
	var script strings.Builder
	script.WriteString("set -eu\n")
	share := func(path string) error {
		at := filepath.Join(m.Root, path)
		st, err := os.Stat(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil
		case err != nil:
			return err
		case st.IsDir():
			err = os.MkdirAll(at, 0o755)
		default:
			err = os.WriteFile(at, nil, 0o644)
		}
		_, _ = fmt.Fprintf(&script, "mount --rbind %s %s\n", path, at)
		return err
	}
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := "/" + e.Name()
		switch target, linked := os.Readlink(path); {
		case bytes.ContainsAny([]byte(path), " '\"$\\"):
			err = fmt.Errorf("the name %q cannot be mounted", path)
		case linked == nil:
			err = os.Symlink(target, filepath.Join(m.Root, e.Name()))
		default:
			err = nil
			for _, o := range own() {
				if o == e.Name() {
					path = ""
				}
			}
			if path != "" {
				err = share(path)
			}
		}
		if err != nil {
			return err
		}
	}
	for _, path := range []string{"/etc/ssl", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/resolv.conf", "/etc/hosts"} {
		if err := share(path); err != nil {
			return err
		}
	}
	for _, d := range append(own(), "var/lib", "var/tmp", "opt") {
		if err := os.MkdirAll(filepath.Join(m.Root, d), 0o755); err != nil {
			return err
		}
	}
	_, _ = fmt.Fprintf(&script, "exec chroot %s \"$@\"\n", m.Root)
	return os.WriteFile(m.Root+".sh", []byte(script.String()), 0o600)
}

// Command is a command on the machine: with its PATH, its namespaces and its root.
func (m *Machine) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if name == "systemctl" && m.sealed {
		name = sealedBin + "/" + name
	} else if name == "systemctl" {
		name = filepath.Join(m.bin, name) // and never that of this machine
	}
	line := append(append([]string{}, m.wrap...), name)
	env := append(os.Environ(), StateVariable+"="+m.State, EtcVariable+"="+m.Etc, RunVariable+"="+m.Run, "PATH="+m.bin+":"+os.Getenv("PATH"))
	if m.Root != "" {
		in := func(path string) string { return strings.TrimPrefix(path, m.Root) }
		env = append(env, StateVariable+"="+in(m.State), EtcVariable+"=", RunVariable+"=")
		if m.sealed {
			env = m.sealedEnvironment()
		}
		line = append(append([]string{}, m.wrap...), "unshare", "--mount", "--propagation", "private", "/bin/sh", m.Root+".sh", name)
	}
	line = append(line, args...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Env = env
	if m.Root != "" {
		cmd.Dir = "/"
	}
	return cmd
}

// Boot starts the manager, which starts nothing by itself.
func (m *Machine) Boot() {
	m.t.Helper()
	if err := os.Remove(filepath.Join(m.State, socketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatalf("%v", err)
	}
	m.manager = m.Command(context.Background(), "systemctl", "manager")
	m.manager.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer
	m.manager.Stderr = &said
	out, err := m.manager.StdoutPipe()
	if err == nil {
		// Its end is this process's, however that ends: so goes the machine.
		_, err = m.manager.StdinPipe()
	}
	if err == nil {
		err = m.manager.Start()
	}
	if err != nil {
		m.t.Fatalf("start the service manager: %v", err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		m.PowerOff()
		m.t.Fatalf("the service manager says %q, %v: %s", line, err, said.String())
	}
}

// PowerOff ends the manager and all that it has started, at once.
func (m *Machine) PowerOff() {
	if m.manager == nil || m.manager.Process == nil {
		return
	}
	_ = syscall.Kill(-m.manager.Process.Pid, syscall.SIGKILL) // it may have ended
	_ = m.manager.Wait()
	m.manager = nil
}

// Systemctl runs the command, and returns what it says.
func (m *Machine) Systemctl(args ...string) (string, error) {
	out, err := m.Command(context.Background(), "systemctl", args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// WriteUnit writes a unit file, which nobody reads before daemon-reload.
func (m *Machine) WriteUnit(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.Etc, name), []byte(text), 0o644); err != nil {
		m.t.Fatalf("%v", err)
	}
}
