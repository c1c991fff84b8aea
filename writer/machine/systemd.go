package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxSaidBytes bounds what is kept of systemctl's words.
	maxSaidBytes = 16 << 10
	// letGo bounds the wait for the output of a command that was ended.
	letGo = time.Second
)

// state is what systemd knows of a unit.
type state struct {
	active        string
	main, control int
	dropIns       []string
	// killsAll: a stop ends every process of the unit.
	killsAll bool
}

// show asks systemd.
func (m *Machine) show(ctx context.Context) (*state, error) {
	out, err := m.systemctl(ctx, askTimeout, "show", "--property=LoadState,ActiveState,MainPID,ControlPID,DropInPaths,KillMode,SendSIGKILL", m.unit)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for line := range strings.SplitSeq(out, "\n") {
		if key, value, ok := strings.Cut(line, "="); ok {
			values[key] = value
		}
	}
	if load := values["LoadState"]; load != "loaded" {
		return nil, fmt.Errorf("systemd does not know what %s is: it is %q", m.unit, load)
	}
	st := &state{active: values["ActiveState"], dropIns: strings.Fields(values["DropInPaths"])}
	var bad [2]error
	st.main, bad[0] = strconv.Atoi(values["MainPID"])
	st.control, bad[1] = strconv.Atoi(values["ControlPID"])
	if err := errors.Join(bad[:]...); err != nil || st.active == "" {
		return nil, fmt.Errorf("systemctl show %s says %q: %w", m.unit, out, err)
	}
	mode := values["KillMode"]
	st.killsAll = (mode == "control-group" || mode == "mixed") && values["SendSIGKILL"] == "yes"
	return st, nil
}

func (s *state) running() bool {
	return s.main != 0 || s.control != 0 || slices.Contains([]string{"active", "reloading", "deactivating"}, s.active)
}

// up: it runs, or systemd is about to start it.
func (s *state) up() bool { return s.running() || s.active == "activating" }

// over: systemd has no process of the unit, and starts none by itself.
func (s *state) over() bool {
	return (s.active == "inactive" || s.active == "failed") && s.main == 0 && s.control == 0
}

// reaped: all that ran has ended, and the hold is in place: on the disk, where the
// assertion looks, and in systemd, which makes it.
func (m *Machine) reaped(st *state) bool {
	if !st.over() || !st.killsAll || !slices.Contains(st.dropIns, m.holdPath()) {
		return false
	}
	_, err := os.Stat(m.holdPath())
	return err == nil
}

func (m *Machine) reload(ctx context.Context) error {
	_, err := m.systemctl(ctx, askTimeout, "daemon-reload")
	return err
}

// end ends the process, and starts another if verb says so.
func (m *Machine) end(ctx context.Context, verb string) error {
	st, err := m.show(ctx)
	if err != nil {
		return err
	}
	if st.main != 0 && m.frozen(st.main) {
		// systemd wakes what it asks to stop.
		if _, err := m.systemctl(ctx, askTimeout, "kill", "--signal=SIGKILL", m.unit); err != nil {
			return fmt.Errorf("kill the frozen process %d: %w", st.main, err)
		}
	}
	return m.act(ctx, verb)
}

func (m *Machine) act(ctx context.Context, verb string) error {
	_, err := m.systemctl(ctx, StopTimeout, verb, m.unit)
	return err
}

// frozen says whether a process is stopped by a signal or a debugger.
func frozen(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	// The name in the second field may hold anything.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	return len(fields) > 0 && (string(fields[0]) == "T" || string(fields[0]) == "t")
}

// systemctl runs the command that is first on PATH.
func (m *Machine) systemctl(ctx context.Context, within time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	out, said := limited{most: maxSaidBytes}, limited{most: maxSaidBytes}
	cmd := exec.CommandContext(ctx, "systemctl", append([]string{"--no-ask-password", "--no-pager"}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &said, letGo
	// It is asked to end, and not killed: what it has asked systemd for goes on either way.
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		if cause := ctx.Err(); cause != nil {
			err = fmt.Errorf("it did not end within %s: %w", within, cause)
		}
		return "", fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(said.b))
	}
	return string(out.b), nil
}

// limited keeps the first bytes, most of them.
type limited struct {
	b    []byte
	most int
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	l.b = append(l.b, p[:min(len(p), l.most-len(l.b))]...)
	return len(p), nil
}
