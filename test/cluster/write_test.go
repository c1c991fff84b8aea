package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/test/settle"
)

// put writes one row of the table of writes to a node, once. A bound of 0 is the
// transport's.
func (n *node) put(pk string, bound time.Duration) (*call.Response, error) {
	ctx := context.Background()
	if bound > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, bound)
		defer cancel()
	}
	return n.asTenant().Do(ctx, call.Request{
		Method: http.MethodPut, Path: n.c.rowPath(writesID, pk), ContentType: api.ContentTypeJSON,
		Body: fmt.Appendf(nil, `{"id":%q,"text":"of %s"}`, pk, pk), Header: []string{api.HeaderIdempotencyKey, "key-" + pk},
	})
}

// mustPut is put for a write that must be acknowledged.
func (n *node) mustPut(pk string) ack {
	n.c.t.Helper()
	resp, err := n.put(pk, 0)
	if err != nil {
		n.c.t.Fatal(err)
	}
	a := ack{table: writesID, pk: pk, text: "of " + pk}
	if resp.Status != http.StatusOK {
		n.c.t.Fatalf("%s answers %d %s to a write", n.name, resp.Status, resp.Body)
	}
	if err := a.take(resp); err != nil {
		n.c.t.Fatal(err)
	}
	return a
}

// mustRefuse is put for a write that must be refused with 503 and a code.
func (n *node) mustRefuse(pk, code string) refusal {
	n.c.t.Helper()
	resp, err := n.put(pk, 0)
	if err != nil {
		n.c.t.Fatal(err)
	}
	var r refusal
	if err := json.Unmarshal(resp.Body, &r); err != nil || resp.Status != http.StatusServiceUnavailable || r.Error.Error != code {
		n.c.t.Fatalf("%s answers %d %s to a write, want 503 %s", n.name, resp.Status, resp.Body, code)
	}
	return r
}

// refusal is an error envelope with the fields that the codes of a write have.
type refusal struct {
	api.Error
	Outcome string `json:"outcome"`
	Leader  string `json:"leader"`
}

// has reports whether a node shows a row, as it is without waiting for a place.
func (n *node) has(pk string) (bool, error) {
	resp, err := n.asTenant().Do(context.Background(), call.Request{Method: http.MethodGet, Path: n.c.rowPath(writesID, pk)})
	switch {
	case err != nil:
		return false, err
	case resp.Status == http.StatusOK:
		return true, nil
	case resp.Status == http.StatusNotFound:
		return false, nil
	}
	return false, fmt.Errorf("%s answers %d %s to a read", n.name, resp.Status, resp.Body)
}

// shows waits until a node shows a row.
func (n *node) shows(pk string) {
	n.c.t.Helper()
	settle.Eventually(n.c.t, n.name+" shows "+pk, func() error {
		ok, err := n.has(pk)
		if err == nil && !ok {
			err = errors.New("it does not")
		}
		return err
	})
}

// knows waits until a node knows the tenant's token.
func (n *node) knows() {
	n.c.t.Helper()
	settle.Eventually(n.c.t, n.name+" knows the token", func() error {
		_, err := n.has("anything")
		return err
	})
}

// hides says that a node must not show a row now.
func (n *node) hides(pk string) {
	n.c.t.Helper()
	if ok, err := n.has(pk); err != nil || ok {
		n.c.t.Errorf("%s shows %s, or does not answer: %t, %v", n.name, pk, ok, err)
	}
}

// unready waits until /ready is 503 because of a check, and says so.
func (n *node) unready(check string) {
	n.c.t.Helper()
	settle.Eventually(n.c.t, n.name+" is not ready", func() error {
		status, body, err := n.readiness()
		if err != nil {
			return err
		}
		var ready api.Ready
		if err := json.Unmarshal([]byte(body), &ready); err != nil {
			return err
		}
		if c, ok := ready.Checks[check]; status != http.StatusServiceUnavailable || !ok || c.OK || c.Degraded {
			return fmt.Errorf("/ready is %d %s", status, body)
		}
		return nil
	})
}

// fillLog writes rows of a text that cannot be compressed, so that logs roll and
// states grow.
func (n *node) fillLog(name string, rows, bytes int) {
	n.c.t.Helper()
	var b strings.Builder
	for i := range rows {
		fmt.Fprintf(&b, "{\"id\":\"%s-%05d\",\"text\":%q}\n", name, i, noise(uint64(i)+1, bytes))
	}
	if _, err := n.asTenant().Batch(n.c.t.Context(), n.c.tenant, writesID, []byte(b.String())); err != nil {
		n.c.t.Fatal(err)
	}
}

// noise is a text of n letters that zstd cannot make small.
func noise(seed uint64, n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	b := make([]byte, n)
	x := seed*2654435761 + 88172645463325252
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = letters[x>>58]
	}
	return string(b)
}

var topologyRequest = call.Request{Method: http.MethodGet, Path: "/v1/topology"}

// launchAsWriter starts the node, which is stopped for it, with a writer's unit;
// nil says that it came up.
func (n *node) launchAsWriter() error {
	if err := n.end(); err != nil {
		return err
	}
	if err := n.launch(append(writerArgs(1, time.Second, "--mode", "writer"), n.serving()...)...); err != nil {
		return err
	}
	return n.awaitReady(n.c.t.Context())
}
