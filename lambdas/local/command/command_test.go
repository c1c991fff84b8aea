package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/local/control"
	"originchain/lambdas/local/layout"
)

// run runs a command line against a directory.
func run(t *testing.T, dir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, said bytes.Buffer
	code = Main(t.Context(), Program{
		Version: "test", Args: append(args, "--dir", dir), Stdout: &out, Stderr: &said,
		Up: func(context.Context, UpOptions, func(error) error) error { return errors.New("nothing can be up here") },
	})
	return code, out.String(), said.String()
}

func TestCommandLines(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--help"}, 0, "Exit codes"},
		{[]string{"status"}, ExitDown, "oc-control up --dir " + dir},
		{[]string{"down"}, ExitDown, "oc-control up"},
		{[]string{"promote"}, ExitDown, "oc-control up"},
		{[]string{"drill"}, ExitDown, "oc-control up"},
		{[]string{"drill", "--fault", "rain"}, ExitUsage, "kill, stop, disk, partition, planned"},
		{[]string{"drill", "--runs", "0"}, ExitUsage, "1 to"},
		{[]string{"status", "--loud"}, ExitUsage, "--loud"},
		{[]string{"status", "more"}, ExitUsage, "more"},
		{[]string{"up", "--server", filepath.Join(dir, "absent")}, ExitFailed, "make build"},
		{[]string{"up", "--server", "/bin/sh"}, ExitFailed, "nothing can be up here"},
	} {
		if code, out, said := run(t, dir, c.args...); code != c.code || !strings.Contains(out+said, c.want) {
			t.Errorf("%q: code %d, want %d\n%s%s", c.args, code, c.code, out, said)
		}
	}
}

// plane answers with what it has.
type plane struct {
	control.Plane
	status control.Status
	report string
	asked  control.Promotion
	err    error
}

func (p *plane) Status(context.Context) (control.Status, error) { return p.status, nil }
func (p *plane) Promote(_ context.Context, in control.Promotion, say func(string)) (json.RawMessage, error) {
	p.asked = in
	say("[1/8] confirm … ok (0.01 s)")
	return json.RawMessage(p.report), p.err
}

func served(t *testing.T, p control.Plane) (dir string) {
	t.Helper()
	dir = t.TempDir()
	d, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := control.Listen(d.Socket())
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	server := &http.Server{Handler: control.NewServer(p, log)}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return dir
}

func TestAPromotionThatIsRefused(t *testing.T) {
	p := &plane{report: `{"verdict":"page"}`}
	dir := served(t, p)
	code, out, said := run(t, dir, "promote", "--target", "b", "--allow-lag", "7", "--json")
	if code != ExitRefused || !strings.Contains(said, "[1/8]") || !strings.Contains(out, `"page"`) || p.asked.Target != "b" || p.asked.AllowLag == nil || *p.asked.AllowLag != 7 {
		t.Errorf("code %d, %+v\n%s%s", code, p.asked, out, said)
	}
	// No lag at all is not the lag that is allowed when nothing is said.
	if run(t, dir, "promote", "--allow-lag", "0"); p.asked.AllowLag == nil || *p.asked.AllowLag != 0 {
		t.Errorf("%+v", p.asked)
	}
	if run(t, dir, "promote"); p.asked.AllowLag != nil {
		t.Errorf("%+v", p.asked)
	}
	// What a standing guard is refused with says how to give it up, and is no failure.
	p.report, p.err = `{"verdict":"page","reasons":[{"code":"not_entitled","detail":"x"}]}`, errors.New("nothing was done (page): x. To do it all the same: --accept-data-loss")
	if code, _, said := run(t, dir, "promote"); code != ExitRefused || !strings.Contains(said, "--accept-data-loss") {
		t.Errorf("code %d\n%s", code, said)
	}
	p.report, p.err = `{"verdict":"wait","reasons":[]}`, errors.New("the registry is away")
	if code, _, said := run(t, dir, "promote"); code != ExitFailed || !strings.Contains(said, "is away") {
		t.Errorf("code %d\n%s", code, said)
	}
	p.report, p.err = `{"verdict":"promote"}`, nil
	if code, _, said := run(t, dir, "promote"); code != 0 {
		t.Errorf("code %d\n%s", code, said)
	}
}

// What was lost is told with how well that is known.
func TestStatusTellsWhatWasLost(t *testing.T) {
	for report, want := range map[string]string{
		`{}`: "",
		`{"from":"a","to":"b","epoch":2,"lost_from":5,"lost_to":9}`:                    "from a to b, epoch 2: LSN 5 to 9 lost, as was heard: exact once a is back with its data directory\n",
		`{"from":"a","to":"b","epoch":2,"lost_from":5,"lost_to":12,"lost_exact":true}`: "from a to b, epoch 2: LSN 5 to 12 lost, exact: a keeps them in its divergent files\n",
		`{"from":"a","to":"b","epoch":2}`:                                              "from a to b, epoch 2: no LSN lost, as was heard: exact once a is back with its data directory\n",
		`{"from":"a","to":"b","epoch":2,"lost_exact":true}`:                            "from a to b, epoch 2: no LSN lost, exact\n",
	} {
		dir := served(t, &plane{status: control.Status{LastFailover: json.RawMessage(report)}})
		if code, out, _ := run(t, dir, "status"); code != 0 || !strings.Contains(out, want) || (want == "") != !strings.Contains(out, "failover") {
			t.Errorf("%s: code %d, no %q in\n%s", report, code, want, out)
		}
	}
}

func TestStatusForPeople(t *testing.T) {
	dir := served(t, &plane{status: control.Status{
		Epoch: 7, Writer: control.Node{Node: "node-1", PID: 3, Address: "http://127.0.0.1:1"},
		Followers: []control.Follower{
			{Node: control.Node{Node: "node-2", PID: 4}, InSync: true, Connected: true, AppliedLSN: 9}, {Node: control.Node{Node: "node-3", PID: 5}, Connected: true},
			{Node: control.Node{Node: "node-4"}}, {Node: control.Node{Node: "node-5", PID: 6}},
		},
		Alarms:    []control.Alarm{{Name: "/health", Node: "node-4", Summary: "It is gone.", Runbook: "docs/RUNBOOK.md#health"}},
		Incidents: []control.Incident{{ID: "i-1", Severity: 1, Title: "It fell.", Updates: 1, Owed: 2}, {ID: "i-2", Severity: 2, Title: "It stood up.", Updates: 2, Owed: 1}},
	}})
	code, out, _ := run(t, dir, "status")
	for _, want := range []string{"epoch 7", "node-1", "in sync, applied LSN 9", "catching up", "not running", "not connected", "ALARM     /health node-4", "docs/RUNBOOK.md#health",
		"INCIDENT  severity 1", "i-1, 1 update, 2 deliveries owed\n", "i-2, 2 updates, 1 delivery owed\n"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("code %d, no %q in\n%s", code, want, out)
		}
	}
}

// A seed draws the same load for the same run, and others for others.
func TestASeedDrawsTheLoad(t *testing.T) {
	o, other := drillOptions{seed: 7}, drillOptions{seed: 8}
	seen := make(map[time.Duration]bool)
	counts := make(map[int]bool)
	for run := range 200 {
		writers, before := o.load(run)
		if w, b := o.load(run); w != writers || b != before {
			t.Fatalf("run %d has %d writers for %s, then %d for %s", run, writers, before, w, b)
		}
		if _, b := other.load(run); b == before {
			t.Errorf("another seed has the fault after %s too", before)
		}
		if writers < 1 || writers > seededWriters || before <= 0 || before > seededBefore {
			t.Errorf("%d writers for %s", writers, before)
		}
		seen[before], counts[writers] = true, true
	}
	if len(seen) < 190 || len(counts) != seededWriters {
		t.Errorf("%d moments, %d numbers of writers", len(seen), len(counts))
	}
	if writers, before := new(drillOptions).load(3); writers != drillWriters || before != 0 {
		t.Errorf("without a seed: %d writers for %s", writers, before)
	}
}
