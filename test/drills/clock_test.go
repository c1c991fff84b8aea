package drills

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"originchain/test/settle"
)

// clockVariable names the file that moves the wall clock of a server that is built for it.
const clockVariable = "DRILLS_WALL_CLOCK"

// movedClock goes into package time: seconds are added to the wall clock of each Time that
// Now makes. The monotonic clock stays. The file is mapped, since Now is called where no
// system call may be made.
const movedClock = `
var movedBy = func() *int64 {
	name, ok := syscall.Getenv("` + clockVariable + `")
	if !ok {
		return new(int64)
	}
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	b, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	_ = syscall.Close(fd)
	return (*int64)(unsafe.Pointer(&b[0]))
}()

func moved() int64 {
	if movedBy == nil { // the package is not initialised yet
		return 0
	}
	return *movedBy
}
`

// move sets the clock off by d. The file is written in place: it is mapped.
func (i *instance) move(clock string, d time.Duration) {
	i.t.Helper()
	f, err := os.OpenFile(clock, os.O_CREATE|os.O_WRONLY, 0o600)
	i.must(err)
	_, err = f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(int64(d/time.Second))), 0)
	i.must(errors.Join(err, f.Close()))
}

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
	out := strings.Replace(string(text), "sec, nsec, mono := now()\n", "sec, nsec, mono := now()\n\tsec += moved()\n", 1)
	if out == string(text) {
		out = strings.Replace(string(text), now, now+"\tsec += moved()\n", 1)
	}
	if out == string(text) {
		t.Fatalf("%s has no Now that this test knows how to move", source)
	}
	out = strings.Replace(out, "import (\n", "import (\n\t\"syscall\"\n", 1)
	out = strings.Replace(out, `_ "unsafe"`, `"unsafe"`, 1)
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
// clock is right, takes over as ever. No step leaves the time in which the certificates
// are good, which begins an hour before they were made: without a valid one a follower
// cannot connect, is out of the set, and a person is asked.
func TestWallClockSteps(t *testing.T) {
	t.Parallel()
	long(t, "hours", func(t *testing.T) {
		t.Parallel()
		i := prepare(t, 1)
		clock := filepath.Join(string(i.dir), "clock")
		i.server, i.moved = movableServer(t), clock
		i.move(clock, 0)
		i.start()
		l := i.begin()
		was, epoch := i.writer(), uint64(i.record().Epoch)
		for _, step := range []time.Duration{time.Hour, -40 * time.Minute, 72 * time.Hour, 0, -50 * time.Minute} {
			i.move(clock, step)
			settle.Pause(t.Context(), 8*time.Second) // longer than a lease and its expiry
			l.flow()
			if now := i.record(); now.Holder != was.ID || uint64(now.Epoch) != epoch {
				t.Errorf("with the clock of %s off by %s, %s holds epoch %d, after %d", was.ID, step, now.Holder, now.Epoch, epoch)
			}
		}
		at := time.Now()
		was.signal(syscall.SIGKILL)
		l.succeeded("kill -9, wall clock off", at, epoch)
		l.settle()
	})
}
