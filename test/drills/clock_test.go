package drills

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clockVariable names the file that moves the wall clock of a server that is built for it.
const clockVariable = "DRILLS_WALL_CLOCK"

// movedClock goes into package time: seconds are added to the wall clock of each Time that
// Now makes. The monotonic clock stays.
const movedClock = `
var movedBy, movedRead = int64(0), int64(0)

func moved(mono int64) int64 {
	if mono-movedRead < int64(20*Millisecond) && movedRead != 0 {
		return movedBy
	}
	movedRead = mono
	name, ok := syscall.Getenv("` + clockVariable + `")
	if !ok {
		return 0
	}
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return movedBy
	}
	var b [20]byte
	n, err := syscall.Read(fd, b[:])
	_ = syscall.Close(fd)
	if err != nil {
		return movedBy
	}
	by, sign := int64(0), int64(1)
	for _, c := range b[:n] {
		switch {
		case c == '-':
			sign = -1
		case c >= '0' && c <= '9':
			by = 10*by + int64(c-'0')
		}
	}
	movedBy = sign * by
	return movedBy
}
`

// movableServer builds an oc-server whose wall clock a file moves.
func movableServer(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	const now = "sec, nsec, mono := runtimeNow()\n"
	out := strings.Replace(string(text), "sec, nsec, mono := now()\n", "sec, nsec, mono := now()\n\tsec += moved(mono)\n", 1)
	if out == string(text) {
		out = strings.Replace(string(text), now, now+"\tsec += moved(mono)\n", 1)
	}
	if out == string(text) {
		t.Fatalf("%s has no Now that this test knows how to move", source)
	}
	if !strings.Contains(out, `"syscall"`) {
		out = strings.Replace(out, "import (\n", "import (\n\t\"syscall\"\n", 1)
	}
	file, overlay, bin := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "oc-server")
	replaced, err := json.Marshal(map[string]any{"Replace": map[string]string{source: file}})
	if err != nil {
		t.Fatal(err)
	}
	for path, b := range map[string][]byte{file: []byte(out + movedClock), overlay: replaced} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", bin, "originchain/writer/cmd/oc-server").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// The writer's wall clock steps by hours, back and forth, and then the writer dies: nothing
// goes by it. No lease runs out or lasts, nobody is promoted, and the successor, whose
// clock is right, takes over as ever.
func TestWallClockSteps(t *testing.T) {
	t.Parallel()
	long(t, "hours", func(t *testing.T) {
		t.Parallel()
		i := prepare(t, 1)
		clock := filepath.Join(string(i.dir), "clock")
		i.server, i.moved = movableServer(t), clock
		i.must(os.WriteFile(clock, []byte("0"), 0o600))
		i.start()
		l := i.begin()
		was, epoch := i.writer(), uint64(i.record().Epoch)
		for _, step := range []time.Duration{time.Hour, -time.Hour, 72 * time.Hour, 0, -26 * time.Hour} {
			i.must(os.WriteFile(clock, fmt.Appendf(nil, "%d", int64(step/time.Second)), 0o600))
			pause(t.Context(), 8*time.Second) // longer than a lease and its expiry
			l.flow()
			if now := i.record(); now.Holder != was.ID || uint64(now.Epoch) != epoch {
				t.Errorf("with the clock of %s off by %s, %s holds epoch %d, after %d", was.ID, step, now.Holder, now.Epoch, epoch)
			}
		}
		at := time.Now()
		was.signal(syscall.SIGKILL)
		l.succeeded("kill -9, wall clock off", at, epoch)
		// Certificates are good from and until a date: with a clock that far off the node
		// could not follow.
		i.must(os.WriteFile(clock, []byte("0"), 0o600))
		l.settle()
	})
}
