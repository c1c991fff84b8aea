package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	commands "originchain/lambdas/local/control"
	"originchain/scripts/call"
	"originchain/shared/api"
)

// aside is an instance of which a node can be cut off, and who looks at it from the side
// of that node.
type aside struct {
	*local
	plane  *commands.Client
	tenant string
	token  string
	asked  int
}

func (l *local) aside() *aside {
	l.t.Helper()
	e := l.endpoints()
	token, err := os.ReadFile(e["token_file"].(string))
	if err != nil {
		l.t.Fatal(err)
	}
	return &aside{local: l, plane: commands.NewClient(filepath.Join(l.dir, "control.sock")), tenant: e["tenant"].(string), token: strings.TrimSpace(string(token))}
}

// cut cuts the writer off until the test heals it, or ends.
func (a *aside) cut() (heal func()) {
	a.t.Helper()
	f, err := a.plane.Fault(a.t.Context(), commands.FaultPartition)
	if err != nil {
		a.t.Fatal(err)
	}
	return func() {
		a.t.Helper()
		if err := a.plane.Undo(context.WithoutCancel(a.t.Context()), f); err != nil {
			a.t.Fatal(err)
		}
	}
}

// ask asks a node itself, or the endpoint. It is bounded: a node that is cut off may hang.
// Each write has a key, so that the endpoint takes it to another writer.
func (a *aside) ask(url, method, path, body string) (status int, answer api.Error) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), controlWithin)
	defer cancel()
	client := &call.Client{URL: url, Token: a.token}
	req := call.Request{Method: method, Path: "/v1/tenants/" + a.tenant + path, ContentType: "application/json", Body: []byte(body)}
	if a.asked++; path == asideRow {
		req.Header = []string{api.HeaderIdempotencyKey, "ask-" + strconv.Itoa(a.asked)}
	}
	resp, err := client.Do(ctx, req)
	if err != nil {
		a.t.Fatal(err)
	}
	if resp.Status >= 300 {
		if err := json.Unmarshal(resp.Body, &answer); err != nil {
			a.t.Fatalf("%d %s: %v", resp.Status, resp.Body, err)
		}
	}
	return resp.Status, answer
}

// leaseMS is how long a node says that its lease runs.
func (a *aside) leaseMS(node string) (ms float64) {
	a.t.Helper()
	resp, err := (&call.Client{URL: node}).Do(a.t.Context(), call.Request{Method: http.MethodGet, Path: "/metrics"})
	if err != nil {
		a.t.Fatal(err)
	}
	for line := range strings.Lines(string(resp.Body)) {
		if rest, ok := strings.CutPrefix(line, "oc_lease_remaining_ms "); ok {
			if ms, err = strconv.ParseFloat(strings.TrimSpace(rest), 64); err != nil {
				a.t.Fatal(err)
			}
			return ms
		}
	}
	a.t.Fatalf("%s says nothing of its lease", node)
	return 0
}

const asideRow = "/rows/drill.writes"

// A partition: another node writes, the one that is cut off has fenced itself and answers
// neither writes nor reads, and nothing that was acknowledged is lost on either side.
// Healed it follows, in the same process.
func TestAPartition(t *testing.T) {
	t.Parallel()
	a := up(t).aside()
	var r drilled
	a.must(&r, "drill", "--fault", "partition", "--json")
	if r.Verdict != "passed" || len(r.Lost) > 0 || r.Acked == 0 || r.EpochAfter != 2 || r.Beside == nil || r.Beside.Acked == 0 {
		t.Fatalf("%+v", r)
	}
	before := a.standing()
	if before.Writer.Node != "node-2" || !before.Followers[0].InSync {
		t.Fatalf("%+v", before)
	}
	old := before.Writer.Address
	if status, said := a.ask(old, http.MethodPost, asideRow, `{"id":"before","n":1}`); status != http.StatusOK {
		t.Fatalf("%d %+v", status, said)
	}
	heal := a.cut()
	until(a.t, "another node writes", func() bool { return a.standing().Writer.Node == "node-1" })
	for _, c := range []struct{ method, path, body string }{
		{http.MethodPost, asideRow, `{"id":"during","n":1}`},
		{http.MethodGet, asideRow + "/before", ""},
		{http.MethodPost, "/sql", `{"sql":"SELECT COUNT(*) FROM drill.writes"}`},
	} {
		// It is alone and does not know of the other, but that its lease has run out.
		if status, said := a.ask(old, c.method, c.path, c.body); status != http.StatusServiceUnavailable || said.Error != "lease_lost" && said.Error != "fenced" {
			t.Errorf("%s %s of the writer that is cut off: %d %+v", c.method, c.path, status, said)
		}
	}
	endpoint := a.endpoints()["endpoint"].(string)
	if status, said := a.ask(endpoint, http.MethodPost, asideRow, `{"id":"elsewhere","n":1}`); status != http.StatusOK {
		t.Errorf("%d %+v", status, said)
	}
	heal()
	until(a.t, "the old writer follows in sync", func() bool {
		f := a.standing().Followers[0]
		return f.Node == "node-2" && f.InSync && f.PID == before.Writer.PID
	})
	for id, want := range map[string]int{"before": http.StatusOK, "elsewhere": http.StatusOK, "during": http.StatusNotFound} {
		if status, said := a.ask(endpoint, http.MethodGet, asideRow+"/"+id, ""); status != want {
			t.Errorf("the row %q: %d %+v", id, status, said)
		}
	}
}

// A blip is no partition: the writer misses renewals, nobody is promoted, and what was
// asked meanwhile is answered by the same process in the same epoch.
func TestABlip(t *testing.T) {
	t.Parallel()
	a := up(t).aside()
	endpoint := a.endpoints()["endpoint"].(string)
	a.must(new(drilled), "drill", "--fault", "planned", "--json") // makes the table
	before := a.standing()
	heal := a.cut()
	answered := make(chan int, 1)
	go func() {
		client := &call.Client{URL: endpoint, Token: a.token}
		resp, err := client.Do(context.WithoutCancel(t.Context()), call.Request{Method: http.MethodPost, Path: "/v1/tenants/" + a.tenant + asideRow, ContentType: "application/json", Body: []byte(`{"id":"blip","n":1}`)})
		if err != nil {
			answered <- 0
			return
		}
		answered <- resp.Status
	}()
	// It renews every second, so one renewal at least has failed.
	until(a.t, "the writer misses a renewal", func() bool { return a.leaseMS(before.Writer.Address) < 2800 })
	select {
	case status := <-answered:
		t.Errorf("a request came through a way that is cut: %d", status)
	default:
	}
	heal()
	if status := <-answered; status != http.StatusOK {
		t.Errorf("what was asked meanwhile: %d", status)
	}
	until(a.t, "the writer renews, and its follower is in sync", func() bool {
		return a.leaseMS(before.Writer.Address) > 3000 && a.standing().Followers[0].InSync
	})
	after := a.standing()
	if after.Epoch != before.Epoch || after.Writer != before.Writer || after.Followers[0].PID != before.Followers[0].PID {
		t.Errorf("%+v, then %+v", before, after)
	}
}
