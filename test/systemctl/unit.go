package systemctl

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unit is a unit that was named once. The manager's lock is held for all of its methods.
type unit struct {
	m    *Manager
	name string

	loaded  *settings
	ran     *settings // of the process that runs
	failure error     // why it is not loaded
	masked  bool

	active, sub, result string
	main                int
	stopping            bool
	starts              []time.Time
	restarts            int
	// generation grows with each start, end and stop, so that a timer knows that it is late.
	generation int
}

// load reads the unit's files as they are now.
func (u *unit) load() {
	u.loaded, u.failure, u.masked = nil, nil, false
	for _, dir := range u.m.dirs() {
		path := filepath.Join(dir, u.name)
		target, err := os.Readlink(path)
		if err == nil && target == os.DevNull {
			u.masked = true
			return
		}
		if _, err := os.Stat(path); err != nil {
			continue
		}
		var dropIns []string
		for _, dir := range u.m.dirs() {
			found, _ := filepath.Glob(filepath.Join(dir, u.name+".d", "*.conf")) // its pattern is sound
			dropIns = append(dropIns, found...)
		}
		// In the order of their names, wherever they are.
		slices.SortStableFunc(dropIns, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
		u.loaded, u.failure = load(path, dropIns)
		return
	}
}

// start begins a process, or says why none begins.
func (u *unit) start() error {
	switch {
	case u.masked:
		return fmt.Errorf("unit %s is masked", u.name)
	case u.failure != nil:
		return fmt.Errorf("unit %s has a bad unit file setting: %w", u.name, u.failure)
	case u.loaded == nil:
		return fmt.Errorf("unit %s not found", u.name)
	case u.main != 0, u.active == "active":
		return nil
	}
	u.generation++ // a restart that is due is this one
	if u.loaded.timer {
		u.active, u.sub = "active", "waiting"
		u.after(u.loaded.first, u.elapse)
		return nil
	}
	if what := u.loaded.asserted(); what != "" {
		u.active, u.sub = dead(u.active), "dead"
		return fmt.Errorf("Assertion failed on job for %s: %s", u.name, what)
	}
	if u.limited() {
		u.active, u.sub, u.result = "failed", "failed", "start-limit-hit"
		return fmt.Errorf("Job for %s failed: start request repeated too quickly", u.name)
	}
	if err := u.fork(); err != nil {
		u.active, u.sub, u.result = "failed", "failed", "exec-condition"
		return fmt.Errorf("Job for %s failed: %w", u.name, err)
	}
	return nil
}

// dead is what an inactive unit is called: one that has failed stays so until it starts.
func dead(before string) string {
	if before == "failed" {
		return before
	}
	return "inactive"
}

func (u *unit) limited() bool {
	if u.loaded.startInterval == 0 {
		return false
	}
	now := time.Now()
	u.starts = slices.DeleteFunc(u.starts, func(t time.Time) bool { return now.Sub(t) >= u.loaded.startInterval })
	if len(u.starts) >= u.loaded.startBurst {
		return true
	}
	u.starts = append(u.starts, now)
	return false
}

func (u *unit) fork() error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	stem := strings.TrimSuffix(u.name, ".service")
	specifiers := map[byte]string{'n': u.name, 'N': stem, 'p': stem, 'H': host, 'S': "/var/lib", 't': "/run"}
	env := map[string]string{"PATH": strings.TrimPrefix(servicePath, "PATH="), StateVariable: u.m.state}
	own, err := u.loaded.file.Environment(specifiers, os.ReadFile)
	if err != nil {
		return err
	}
	maps.Copy(env, own)
	path, argv, err := u.loaded.command.Argv(env, specifiers)
	if err != nil {
		return err
	}
	output, err := os.OpenFile(filepath.Join(u.m.state, u.name+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	cmd := &exec.Cmd{Path: path, Args: argv, Dir: u.loaded.dir, Stdout: output, Stderr: output,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}}
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	err = u.m.fork(cmd)
	if err := errors.Join(err, output.Close()); err != nil {
		return err
	}
	u.ran, u.main, u.active, u.sub, u.result, u.stopping = u.loaded, cmd.Process.Pid, "active", "running", "success", false
	if u.loaded.oneshot {
		u.active, u.sub = "activating", "start"
	}
	go u.wait(cmd)
	return nil
}

// wait reaps the main process and kills what is left of its group, while its pid is its own.
func (u *unit) wait(cmd *exec.Cmd) {
	pid := cmd.Process.Pid
	for errors.Is(unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	if u.how().killMode != "process" {
		_ = unix.Kill(-pid, unix.SIGKILL) // there may be nothing left
	}
	_ = cmd.Wait() // it says how the process ended, which its state says too
	u.ended(cmd.ProcessState)
}

func (u *unit) ended(state *os.ProcessState) {
	u.generation++
	asked := u.stopping
	u.main, u.stopping = 0, false
	status, _ := state.Sys().(syscall.WaitStatus)
	clean := state.Success() || status.Signaled() && slices.Contains([]syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE}, status.Signal())
	switch {
	case clean:
	case asked && u.result == "timeout":
	case status.Signaled():
		u.result = "signal"
	default:
		u.result = "exit-code"
	}
	u.active, u.sub = "inactive", "dead"
	if u.result != "success" {
		u.active, u.sub = "failed", "failed"
	} else if u.ran.remains && !asked {
		u.active, u.sub = "active", "exited"
	}
	if !asked && u.loaded != nil && (u.loaded.restart == "always" || u.loaded.restart == "on-failure" && !clean) {
		u.active, u.sub = "activating", "auto-restart"
		u.after(u.loaded.restartPause, func() {
			u.restarts++
			u.active, u.sub = "inactive", "dead"
			_ = u.start() // its state says what became of it
		})
	}
	u.m.changed.Broadcast()
}

// how says how a process is ended: as the unit reads now, or, if it cannot be read, as it
// did when the process began.
func (u *unit) how() *settings {
	if u.loaded == nil {
		return u.ran
	}
	return u.loaded
}

// after runs do with the manager's lock, unless something has happened to the unit.
func (u *unit) after(d time.Duration, do func()) {
	at := u.generation
	time.AfterFunc(d, func() {
		u.m.mu.Lock()
		defer u.m.mu.Unlock()
		if u.generation == at {
			do()
			u.m.changed.Broadcast()
		}
	})
}

// stop ends the process, and returns when it was reaped.
func (u *unit) stop() {
	if u.main == 0 {
		u.generation++ // no restart is due any more
		u.active = dead(u.active)
		if u.sub = "dead"; u.active == "failed" {
			u.sub = "failed"
		}
		return
	}
	if !u.stopping {
		u.stopping = true
		u.active, u.sub = "deactivating", "stop-sigterm"
		u.generation++
		u.signal(u.how().stopSignal, u.how().killMode == "control-group")
		u.signal(syscall.SIGCONT, u.how().killMode == "control-group")
		if u.how().sendSIGKILL {
			u.after(u.how().stopTimeout, func() {
				u.result = "timeout"
				u.signal(syscall.SIGKILL, u.how().killMode != "process")
			})
		}
	}
	for u.stopping {
		u.m.changed.Wait()
	}
}

func (u *unit) signal(sig syscall.Signal, group bool) {
	pid := u.main
	if pid == 0 {
		return
	}
	if group {
		pid = -pid
	}
	_ = unix.Kill(pid, sig) // it may have ended, and not be reaped yet
}

// show writes properties as systemctl does.
func (u *unit) show(out io.Writer, properties []string) {
	all := u.properties()
	for _, p := range properties {
		if v, ok := all[p]; ok {
			_, _ = fmt.Fprintf(out, "%s=%s\n", p, v) // it is a buffer
		}
	}
}

func (u *unit) properties() map[string]string {
	p := map[string]string{
		"Id": u.name, "ActiveState": or(u.active, "inactive"), "SubState": or(u.sub, "dead"), "Result": or(u.result, "success"), "LoadState": "not-found",
		"MainPID": fmt.Sprint(u.main), "ControlPID": "0", "NRestarts": fmt.Sprint(u.restarts), "NeedDaemonReload": "no",
		"FragmentPath": "", "DropInPaths": "", "KillMode": "control-group", "SendSIGKILL": "yes",
	}
	switch {
	case u.masked:
		p["LoadState"] = "masked"
	case u.failure != nil:
		p["LoadState"] = "bad-setting"
	case u.loaded != nil:
		p["LoadState"], p["FragmentPath"], p["DropInPaths"], p["KillMode"] = "loaded", u.loaded.fragment, strings.Join(u.loaded.dropIns, " "), u.loaded.killMode
		if !u.loaded.sendSIGKILL {
			p["SendSIGKILL"] = "no"
		}
	}
	return p
}
