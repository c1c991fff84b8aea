package machine

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/pflag"
	"go.uber.org/goleak"

	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/test/systemctl"
	"originchain/writer/config"
)

// roleVariable makes this test's executable a server, of some kind. shimVariable is where
// systemctl is.
const (
	roleVariable = "MACHINE_TEST_ROLE"
	shimVariable = "MACHINE_TEST_SHIM"
)

const unitName = "oc-http.service"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if slices.Contains(os.Args, "--help") {
			help(role)
			return
		}
		serve(role)
		return
	}
	dir, err := os.MkdirTemp("", "oc-machine-")
	if err == nil {
		err = errors.Join(systemctl.Build(dir), os.Setenv(shimVariable, dir))
	}
	code := 0
	if err == nil {
		code = m.Run()
	}
	if code == 0 {
		err = goleak.Find()
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		panic(err)
	}
}

// help prints the flags that the server knows, and some that are no server's.
func help(role string) {
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.Register(set)
	if role == "old" { // before there was that flag
		set = pflag.NewFlagSet("", pflag.ContinueOnError)
		for _, name := range []string{"node-id", "advertise", "data-dir", "control"} {
			set.String(name, "", "")
		}
	}
	if _, err := fmt.Fprintln(os.Stdout, "Usage:\n  server [--what]\n\nFlags:\n"+set.FlagUsages()); err != nil {
		panic(err)
	}
}

// serve has a data directory open, and says so in its file up, a line for each start.
func serve(role string) {
	dir := ""
	for i, a := range os.Args {
		if v, ok := strings.CutPrefix(a, "--data-dir="); ok {
			dir = v
		} else if a == "--data-dir" {
			dir = os.Args[i+1]
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		panic(err)
	}
	if role != "lockless" {
		if _, err := vfs.Default.Lock(filepath.Join(dir, "LOCK")); err != nil {
			panic(err)
		}
	}
	if slices.Contains([]string{"writer", "follower", "unready"}, role) {
		answer(role)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	if role == "stubborn" {
		signal.Ignore(syscall.SIGTERM)
		signal.Notify(term, syscall.SIGUSR1) // only so that waiting is no deadlock
	}
	f, err := os.OpenFile(filepath.Join(dir, "up"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d %s\n", os.Getpid(), strings.Join(os.Args[1:], " "))
	}
	if err != nil {
		panic(err)
	}
	<-term
	if role == "waking" { // what a frozen writer would do when it is asked to end
		_ = os.WriteFile(filepath.Join(dir, "woke"), nil, 0o600)
	}
}

// answer answers probes where the unit says.
func answer(role string) {
	address := os.Args[slices.Index(os.Args, "--listen")+1]
	l, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	go func() {
		panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if role == "unready" && r.URL.Path == "/ready" {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			mode := map[bool]string{true: "follower", false: "writer"}[role == "follower"]
			_, _ = fmt.Fprintf(w, `{"mode":%q}`, mode)
		})))
	}()
}

// rig is a machine with the unit of a node, a record of epoch 5, and the commands there.
type rig struct {
	*Machine
	t     *testing.T
	sys   *systemctl.Machine
	store lease.Store
	data  string
}

func newRig(t *testing.T, role string, settings ...string) *rig {
	t.Helper()
	r := &rig{t: t, data: filepath.Join(t.TempDir(), "data")}
	r.sys = systemctl.New(t, systemctl.Options{Bin: os.Getenv(shimVariable)})
	t.Setenv("PATH", os.Getenv(shimVariable)) // and no systemctl but that one
	t.Setenv(systemctl.StateVariable, r.sys.State)
	var err error
	r.Machine, err = New(unitName, r.sys.Etc, r.sys.Run)
	r.must(err)
	control := filepath.Join(t.TempDir(), "control")
	r.store, err = lease.OpenFile(vfs.Default, control)
	r.must(err)
	r.setEpoch(5)
	r.sys.WriteUnit(unitName, unitText(t, role, r.data, control, settings...))
	return r
}

func unitText(t *testing.T, role, data, control string, settings ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("[Unit]\nDescription=a node\n\n[Service]\nEnvironment=%s=%s\nExecStart=%s --node-id n1 --advertise http://n1 \\\n    --data-dir %s --control file://%s\nRestart=always\nRestartSec=0.05\nTimeoutStopSec=30\n%s\n",
		roleVariable, role, self, data, control, strings.Join(settings, "\n"))
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// setEpoch makes the record one of an epoch.
func (r *rig) setEpoch(epoch uint64) {
	r.t.Helper()
	now, _, err := r.store.Load(r.t.Context())
	r.must(err)
	_, err = r.store.CompareAndSet(r.t.Context(), now.Version, lease.Record{Instance: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Epoch: lsn.Epoch(epoch), Holder: "n1", URL: "http://n1",
		Line: []lease.Opening{{Epoch: lsn.Epoch(epoch), FirstLSN: 1}}})
	r.must(err)
}

// systemctl is what somebody does by hand.
func (r *rig) hand(args ...string) {
	r.t.Helper()
	if out, err := r.sys.Systemctl(args...); err != nil {
		r.t.Fatalf("systemctl %v: %v\n%s", args, err, out)
	}
}

// ups are the servers that have started, and the pid of the last.
func (r *rig) ups() (n, pid int, args string) {
	b, err := os.ReadFile(filepath.Join(r.data, "up"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, ""
	}
	r.must(err)
	if !strings.HasSuffix(string(b), "\n") {
		return 0, 0, "" // it is being written
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	word, args, _ := strings.Cut(lines[len(lines)-1], " ")
	pid, err = strconv.Atoi(word)
	r.must(err)
	return len(lines), pid, args
}

// started starts the unit by hand, and waits for the server.
func (r *rig) started() (pid int) {
	r.t.Helper()
	before, _, _ := r.ups()
	r.hand("start", unitName)
	return r.upAfter(before)
}

func (r *rig) upAfter(before int) (pid int) {
	r.t.Helper()
	eventually(r.t, "a server is up", func() bool {
		var n int
		n, pid, _ = r.ups()
		return n > before
	})
	return pid
}

// eventually waits for what comes about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not in time: %s", what)
		}
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
