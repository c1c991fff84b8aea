package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"originchain/scripts/call"
)

// ask sends one request of the tenant; path is what follows /v1/tenants/:t.
func (n *node) ask(method, path, body string, headers ...string) (int, string) {
	n.c.t.Helper()
	resp, err := n.asTenant().Do(n.c.t.Context(), call.Request{
		Method: method, Path: "/v1/tenants/" + n.c.tenant + path, ContentType: "application/json", Body: []byte(body), Header: headers,
	})
	if err != nil {
		n.c.t.Fatal(err)
	}
	return resp.Status, string(resp.Body)
}

// Every way to read is there on a follower and on a replica, and gives what the writer
// gives; every way to write is refused with where the writer is.
func TestFollowersServeEveryRead(t *testing.T) {
	t.Parallel()
	c, a, b := newPair(t, time.Second)
	r := c.node("r", followerBin, "--leader-addr", a.replication())
	r.start()
	a.mustPut("one")
	last := a.mustPut("two")
	atLeast := []string{"X-OC-Min-LSN", fmt.Sprint(last.lsn)}
	reads := []struct{ method, path, body string }{
		{http.MethodGet, "/rows/" + writesID + "/one", ""},
		{http.MethodGet, "/schemas", ""},
		{http.MethodGet, "/schemas/" + writesID, ""},
		{http.MethodPost, "/sql", `{"sql":"SELECT id, text FROM c.writes WHERE id >= ? ORDER BY id DESC","params":["one"]}`},
		{http.MethodPost, "/sql", `{"sql":"EXPLAIN SELECT COUNT(*) FROM c.writes"}`},
	}
	for _, x := range reads {
		wantStatus, want := a.ask(x.method, x.path, x.body, atLeast...)
		if wantStatus != http.StatusOK {
			t.Errorf("the writer answers %s %s with %d %s", x.method, x.path, wantStatus, want)
		}
		for _, n := range []*node{b, r} {
			if status, got := n.ask(x.method, x.path, x.body, atLeast...); status != wantStatus || plain(got) != plain(want) {
				t.Errorf("%s answers %s %s with %d %s, the writer with %s", n.name, x.method, x.path, status, got, want)
			}
		}
	}
	writes := []struct{ method, path, body string }{
		{http.MethodPost, "/rows/" + writesID, `{"id":"x"}`},
		{http.MethodPut, "/rows/" + writesID + "/x", `{"id":"x"}`},
		{http.MethodDelete, "/rows/" + writesID + "/one", ""},
		{http.MethodPost, "/rows/" + writesID + "/_batch", `[{"id":"x"}]`},
		{http.MethodPost, "/sql", `{"sql":"INSERT INTO c.writes (id) VALUES ('x')"}`},
		{http.MethodPost, "/sql", `{"sql":"DROP TABLE c.writes"}`},
	}
	for _, n := range []*node{b, r} {
		for _, x := range writes {
			status, body := n.ask(x.method, x.path, x.body)
			var got refusal
			if err := json.Unmarshal([]byte(body), &got); err != nil || status != http.StatusServiceUnavailable || got.Error.Error != "read_only" || got.Leader != a.url() || got.Outcome != "" {
				t.Errorf("%s answers %s %s with %d %s", n.name, x.method, x.path, status, body)
			}
		}
		if status, body := n.ask(http.MethodGet, "/usage", ""); status != http.StatusOK || !strings.Contains(body, writesID) {
			t.Errorf("%s answers /usage with %d %s", n.name, status, body)
		}
		s := n.mustStand()
		if s.Role != "follower" || s.Node != n.name || s.Leader != a.url() || s.Epoch != a.mustStand().Epoch || len(s.Followers) != 0 || s.AppliedLSN < last.lsn {
			t.Errorf("%s stands as %+v", n.name, s)
		}
	}
	c.settle(nil)
}

// plain is an answer without what differs between two of the same question.
func plain(body string) string {
	var m map[string]any
	if json.Unmarshal([]byte(body), &m) != nil {
		return body
	}
	for _, name := range []string{"query_id", "duration_ms", "elapsed_ms", "took_ms"} {
		delete(m, name)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return body
	}
	return string(b)
}
