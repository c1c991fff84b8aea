package promote_test

import (
	"encoding/json"
	"strings"
	"testing"

	"originchain/lambdas/instancetest"
	"originchain/lambdas/promote"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/registry"
)

// What is said of who was stopped names all of them, who is started and who is not: of a node
// that is not registered any more it is said once.
func TestLettingGoNamesAll(t *testing.T) {
	i := instancetest.New(t, lease.NewMemory(lease.Hooks{}), registry.NewMemory(), 2)
	i.Kill("acme-a")
	report, err := failover.Execute(t.Context(), i.Deps(), failover.Request{To: "acme-b", Zone: instancetest.Zone, Allow: failover.Overrides{AllowLag: failover.DefaultAllowLag}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, i, "acme-x", "acme-y")
	ask, err := json.Marshal(promote.Ask{Step: promote.LetGo, Run: report.Run})
	if err != nil {
		t.Fatal(err)
	}
	h := promote.New(i.Deps(), instancetest.Zone)
	i.Fail("start", 1)
	a, err := h.Handle(t.Context(), ask)
	if err == nil || a.Outcome != failover.Failed {
		t.Fatalf("%+v, %v", a, err)
	}
	for _, name := range []string{"acme-x is not started", "acme-y is not started", "the server of acme-a may be held"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("it is not said that %s: %v", name, err)
		}
	}
	holds(t, i, "acme-x", "acme-y")
	a, err = h.Handle(t.Context(), ask)
	if err != nil || a.Outcome != failover.Left {
		t.Fatalf("%+v, %v", a, err)
	}
	for _, name := range []string{"acme-x is not started", "acme-y is not started", "acme-a is started, and follows acme-b"} {
		if !strings.Contains(a.Detail, name) {
			t.Errorf("it is not said that %s: %s", name, a.Detail)
		}
	}
	if a, err = h.Handle(t.Context(), ask); err != nil || a.Outcome != failover.OK || !strings.Contains(a.Detail, "nobody is held") {
		t.Errorf("and then: %+v, %v", a, err)
	}
}

// holds has the journal say that nodes are held which nobody knows.
func holds(t *testing.T, i *instancetest.Instance, nodes ...string) {
	const key = "failover"
	doc, err := i.Registry.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	var journal map[string]any
	if err := json.Unmarshal(doc.Body, &journal); err != nil {
		t.Fatal(err)
	}
	held, _ := journal["held"].([]any)
	for _, n := range nodes {
		held = append(held, map[string]any{"node": n, "epoch": 1, "n": 7})
	}
	journal["held"] = held
	body, err := json.Marshal(journal)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Registry.Save(t.Context(), key, doc.Version, body); err != nil {
		t.Fatal(err)
	}
}
