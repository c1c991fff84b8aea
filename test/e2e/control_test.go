package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"originchain/scripts/call"
	"originchain/test/settle"
)

// controlWithin bounds a command of oc-control.
const controlWithin = 2 * time.Minute

// The exit codes of oc-control as --help documents them.
const (
	exitDown = 3
)

// local is an instance that oc-control has up.
type local struct {
	t   *testing.T
	dir string
}

// run runs a command, and gives its output and code.
func (l *local) run(args ...string) (stdout, stderr string, code int) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), controlWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, control, append(args, "--dir", l.dir)...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		l.t.Fatalf("oc-control %q: %v\n%s", args, err, said.String())
	}
	return out.String(), said.String(), cmd.ProcessState.ExitCode()
}

// must runs a command that has to succeed, and decodes its document.
func (l *local) must(into any, args ...string) {
	l.t.Helper()
	out, said, code := l.run(args...)
	if code != 0 {
		l.t.Fatalf("oc-control %q: code %d\n%s%s", args, code, out, said)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		l.t.Fatalf("oc-control %q: %v\n%s", args, err, out)
	}
}

// up has a new instance up, which ends with the test.
func up(t *testing.T) *local {
	t.Helper()
	return upIn(t, filepath.Join(t.TempDir(), "instance"))
}

// upIn has one up in a directory that has no instance yet.
func upIn(t *testing.T, dir string, args ...string) *local {
	t.Helper()
	if errNoServer != nil {
		t.Fatal(errNoServer)
	}
	l := &local{t: t, dir: dir}
	if _, said, code := l.run("status"); code != exitDown {
		t.Errorf("status of nothing: code %d\n%s", code, said)
	}
	l.must(nil, append([]string{"up", "--detach"}, args...)...)
	t.Cleanup(func() {
		if out, said, code := l.run("down"); code != 0 && code != exitDown {
			t.Errorf("down: code %d\n%s%s", code, out, said)
		}
		if t.Failed() {
			for _, name := range []string{"oc-control", "node-1", "node-2"} {
				b, _ := os.ReadFile(filepath.Join(l.dir, "logs", name+".log"))
				t.Logf("%s:\n%s", name, b[max(0, len(b)-8<<10):])
			}
		}
	})
	return l
}

// standing is status --json, in exactly the fields that its readers know.
type standing struct {
	Epoch  uint64 `json:"epoch"`
	Writer struct {
		Node    string `json:"node"`
		PID     int    `json:"pid"`
		Address string `json:"address"`
	} `json:"writer"`
	Followers []struct {
		Node       string `json:"node"`
		PID        int    `json:"pid"`
		Address    string `json:"address"`
		Connected  bool   `json:"connected"`
		InSync     bool   `json:"in_sync"`
		AppliedLSN uint64 `json:"applied_lsn"`
	} `json:"followers"`
	Alarms       []json.RawMessage `json:"alarms"`
	LastFailover map[string]any    `json:"last_failover"`
}

func (l *local) standing() (s standing) {
	l.t.Helper()
	l.must(&s, "status", "--json")
	return s
}

// drilled is what a drill reports.
type drilled struct {
	Verdict     string         `json:"verdict"`
	EpochBefore uint64         `json:"epoch_before"`
	EpochAfter  uint64         `json:"epoch_after"`
	FirstAck    float64        `json:"first_ack_seconds"`
	Acked       int            `json:"acked"`
	Failed      map[string]int `json:"failed"`
	Unknown     int            `json:"unknown"`
	Lost        []string       `json:"lost"`
	Beside      *struct {
		Acked int `json:"acked"`
	} `json:"beside"`
	Failover struct {
		Epoch uint64 `json:"epoch"`
	} `json:"failover"`
}

// The story of an instance on one machine: up, a writer killed under load, one that is
// frozen, one that hands over, down, and up again with all there is.
func TestAnInstanceOnOneMachine(t *testing.T) {
	t.Parallel()
	l := up(t)
	s := l.standing()
	if s.Epoch != 1 || s.Writer.Node != "node-1" || len(s.Followers) != 1 || !s.Followers[0].InSync || s.Alarms == nil || s.LastFailover == nil {
		t.Fatalf("%+v", s)
	}
	for _, kind := range []string{"kill", "stop", "planned"} {
		before := l.standing()
		var r drilled
		l.must(&r, "drill", "--fault", kind, "--json")
		if r.Verdict != "passed" || len(r.Lost) > 0 || r.Acked == 0 || r.EpochAfter <= before.Epoch || r.Failover.Epoch != r.EpochAfter {
			t.Errorf("%s: %+v", kind, r)
		}
		after := l.standing()
		if after.Writer.Node == before.Writer.Node || after.Epoch != r.EpochAfter || !after.Followers[0].InSync {
			t.Errorf("%s: %+v, then %+v", kind, before, after)
		}
		l.exact()
		if kind == "planned" && (len(r.Failed) > 0 || r.Unknown > 0 || after.Followers[0].PID != before.Writer.PID) {
			t.Errorf("a switchover has failed requests, or restarted a node: %+v, %+v, then %+v", r, before, after)
		}
	}
	if _, said, code := l.run("promote"); code == 0 {
		t.Errorf("a writer that is well was replaced:\n%s", said)
	}
	l.byScript()
	l.named()
	if _, said, code := l.run("up", "--detach"); code == 0 || !strings.Contains(said, "is up already") {
		t.Errorf("up twice: code %d\n%s", code, said)
	}
	before := l.standing()
	pids := []int{before.Writer.PID, before.Followers[0].PID}
	l.must(nil, "down")
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is left: %v", pid, err)
		}
	}
	l.must(nil, "up", "--detach")
	if after := l.standing(); after.Epoch <= before.Epoch || !after.Followers[0].InSync {
		t.Errorf("%+v after %+v", after, before)
	}
	l.rows()
}

// exact: what the last failover lost is known, as its old writer is back. It is nothing that
// was acknowledged, but a frame that only the old writer had may be there.
func (l *local) exact() {
	l.t.Helper()
	settle.Eventually(l.t, "the report is exact", func() error {
		if last := l.standing().LastFailover; last["lost_exact"] != true {
			return fmt.Errorf("it is %v", last)
		}
		return nil
	})
}

// byScript makes the follower the writer as promote-follower.sh does, from a process of
// its own: first dry, then twice.
func (l *local) byScript() {
	l.t.Helper()
	before := l.standing()
	args := []string{"--provider", "local", "--dir", l.dir, "--writer-instance", before.Writer.Node, "--follower-instance", before.Followers[0].Node}
	for _, c := range []struct {
		more   []string
		epoch  uint64
		writer string
		steps  string
	}{
		{[]string{"--dry-run"}, before.Epoch, before.Writer.Node, "[8/8] record … would"},
		{nil, before.Epoch + 1, before.Followers[0].Node, "[8/8] record … ok"},
		{nil, before.Epoch + 1, before.Followers[0].Node, "[8/8] record … ok"},
	} {
		out, err := exec.Command(promote, append(args, c.more...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.steps) {
			l.t.Fatalf("promote %q: %v\n%s", c.more, err, out)
		}
		if s := l.standing(); s.Epoch != c.epoch || s.Writer.Node != c.writer {
			l.t.Errorf("promote %q: %+v\n%s", c.more, s, out)
		}
	}
}

// endpoints is endpoints.json.
func (l *local) endpoints() map[string]any {
	l.t.Helper()
	b, err := os.ReadFile(filepath.Join(l.dir, "endpoints.json"))
	if err != nil {
		l.t.Fatal(err)
	}
	var e map[string]any
	if err := json.Unmarshal(b, &e); err != nil {
		l.t.Fatal(err)
	}
	return e
}

// named: the name of the instance is the writer's address, in DNS and in the endpoints.
func (l *local) named() {
	l.t.Helper()
	e, s := l.endpoints(), l.standing()
	if e["writer"] != s.Writer.Address {
		l.t.Errorf("endpoints.json names %v, %s writes", e["writer"], s.Writer.Address)
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, e["dns"].(string))
	}}
	ips, err := resolver.LookupHost(l.t.Context(), "writer.local.db.originchain.test.")
	if err != nil || len(ips) != 1 || !strings.HasPrefix(s.Writer.Address, "http://"+ips[0]+":") {
		l.t.Errorf("the name is %v (%v), %s writes", ips, err, s.Writer.Address)
	}
}

// rows: what the drills have written is there through the endpoint.
func (l *local) rows() {
	l.t.Helper()
	e := l.endpoints()
	token, err := os.ReadFile(e["token_file"].(string))
	if err != nil {
		l.t.Fatal(err)
	}
	client := &call.Client{URL: e["endpoint"].(string), Token: strings.TrimSpace(string(token))}
	out, err := client.Select(l.t.Context(), e["tenant"].(string), "SELECT COUNT(*) AS n FROM drill.writes")
	if err != nil || len(out.Rows) != 1 || strings.Contains(string(out.Rows[0]), ":0}") {
		l.t.Errorf("%v, %v", out, err)
	}
}

// A control plane that is killed takes its nodes with it; the next one goes on.
func TestAKilledControlPlane(t *testing.T) {
	t.Parallel()
	l := up(t)
	before := l.standing()
	parent := parentOf(t, before.Writer.PID)
	if err := syscall.Kill(parent, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the writer ends with its control plane", func() bool { return syscall.Kill(before.Writer.PID, 0) != nil })
	if _, said, code := l.run("status"); code != exitDown {
		t.Errorf("status after a kill: code %d\n%s", code, said)
	}
	l.must(nil, "up", "--detach")
	if after := l.standing(); after.Epoch <= before.Epoch || !after.Followers[0].InSync {
		t.Errorf("%+v after %+v", after, before)
	}
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "PPid:"); ok {
			var parent int
			if err := json.Unmarshal([]byte(strings.TrimSpace(rest)), &parent); err != nil {
				t.Fatal(err)
			}
			return parent
		}
	}
	t.Fatalf("process %d has no parent", pid)
	return 0
}
