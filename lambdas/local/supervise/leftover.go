package supervise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// endWithin bounds the wait for a killed process.
	endWithin = 10 * time.Second
	// maxPasses bounds how often what was left over is looked for: it may fork meanwhile.
	maxPasses = 20
)

func isNoProcess(err error) bool { return errors.Is(err, unix.ESRCH) }

// runDir is where the processes of this boot are recorded. After a boot there are none,
// whatever older files say.
func runDir(dir, boot string) string { return filepath.Join(dir, "run", boot) }

// record writes down what runs, or is about to. It need not survive the machine.
func record(dir, machine string, id identity) error {
	text, err := json.Marshal(id)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, machine+".json")
	if err := os.WriteFile(path+".tmp", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

func forget(dir, machine string) error {
	if err := os.Remove(filepath.Join(dir, machine+".json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// leftOver is what a former supervisor's process is, or was.
type leftOver struct {
	machine string
	id      identity
}

func leftOvers(dir string) (out []leftOver, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		machine, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		path := filepath.Join(dir, e.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var id identity
		err = json.Unmarshal(text, &id)
		if err == nil && id.Invocation == "" {
			err = errors.New("it has no invocation")
		}
		if err != nil {
			return nil, fmt.Errorf("%s does not say which process of %s ran last (%w): make sure that none runs, then remove the file", path, machine, err)
		}
		out = append(out, leftOver{machine, id})
	}
	return out, err
}

// endLeftOvers ends what former supervisors of the directory have left running, and
// forgets it. It fails if anything may still run: then nothing may be started.
func endLeftOvers(dir string, report func(machine string, pid int)) error {
	found, err := leftOvers(dir)
	if err != nil {
		return err
	}
	var faults []error
	for _, l := range found {
		err := l.end(report)
		if err == nil {
			err = forget(dir, l.machine)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("end what is left over of %s: %w", l.machine, err))
		}
	}
	return errors.Join(faults...)
}

// end kills the recorded process if it is that very one, and all that carries its
// invocation, until there is none.
func (l leftOver) end(report func(string, int)) error {
	for range maxPasses {
		pids, err := l.id.running()
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		for pid, is := range pids {
			killed, err := killOther(pid, is)
			if err != nil {
				return err
			}
			if killed {
				report(l.machine, pid)
			}
		}
	}
	return fmt.Errorf("its processes make new ones faster than they can be ended, %d times", maxPasses)
}

// running are the pids of what is left over, each with how to tell that it still is.
func (id identity) running() (map[int]func() (bool, error), error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	out := map[int]func() (bool, error){}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		is := func() (bool, error) { return id.invoked(pid), nil }
		if pid == id.PID {
			is = func() (bool, error) {
				same, err := id.same()
				return same || id.invoked(pid), err
			}
		}
		found, err := is()
		if err != nil || !found {
			if err != nil {
				return nil, err
			}
			continue
		}
		if over, err := dead(pid); err != nil {
			return nil, err
		} else if !over {
			out[pid] = is
		}
	}
	return out, nil
}

// invoked says whether a process carries the invocation. What cannot be read is another
// user's, and none of ours.
func (id identity) invoked(pid int) bool {
	env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return false
	}
	want := []byte(invocationVariable + "=" + id.Invocation)
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if bytes.Equal(v, want) {
			return true
		}
	}
	return false
}

// dead says of a process that all of its threads have ended, though its parent may not
// have waited for it yet.
func dead(pid int) (is bool, err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if isNoProcess(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("reach process %d: %w", pid, err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	return ended(fd, 0)
}

// ended waits on a pidfd, which can be read when the process has ended with all threads.
func ended(fd int, within time.Duration) (bool, error) {
	deadline := time.Now().Add(within)
	for {
		left := max(0, time.Until(deadline))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int((left+time.Millisecond-1)/time.Millisecond))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return false, err
		case n > 0:
			return true, nil
		case err == nil && left == 0:
			return false, nil
		}
	}
}

// killOther kills a process that is no child, and waits for its end. The pidfd is opened
// first and the process looked at then: so it is the one that is killed.
func killOther(pid int, is func() (bool, error)) (killed bool, err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if isNoProcess(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reach process %d: %w", pid, err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if still, err := is(); err != nil || !still {
		return false, err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		if isNoProcess(err) {
			return false, nil
		}
		return false, fmt.Errorf("kill process %d: %w", pid, err)
	}
	switch over, err := ended(fd, endWithin); {
	case err != nil:
		return false, fmt.Errorf("wait for the end of process %d: %w", pid, err)
	case !over:
		return false, fmt.Errorf("process %d was killed and has not ended within %s", pid, endWithin)
	}
	return true, nil
}
