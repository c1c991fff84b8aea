package dns_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"originchain/lambdas/dns"
	"originchain/lambdas/instancetest"
	"originchain/lambdas/outcome"
	"originchain/lambdas/promote"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/registry"
)

// begun is an instance whose writer is dead, and a failover to acme-b.
func begun(t *testing.T) (*instancetest.Instance, string) {
	t.Helper()
	i := instancetest.New(t, lease.NewMemory(lease.Hooks{}), registry.NewMemory(), 2)
	i.Kill("acme-a")
	rep, err := failover.Begin(t.Context(), i.Deps(), failover.Request{To: "acme-b", Allow: failover.Overrides{AllowLag: failover.DefaultAllowLag}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return i, rep.Run
}

func ask(t *testing.T, step, run string) []byte {
	t.Helper()
	b, err := json.Marshal(promote.Ask{Step: step, Run: run})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Each step can be called twice, and the two functions make a writer between them.
func TestStepByStep(t *testing.T) {
	i, run := begun(t)
	// No node and no machine is reached by the function for names.
	names := failover.Deps{Lease: i.Lease, Registry: i.Registry, DNS: i.Deps().DNS}
	steps, name := promote.New(i.Deps(), instancetest.Zone), dns.New(names, instancetest.Zone)
	for _, step := range failover.StepNames()[1:] {
		call := steps.Handle
		if step == "dns" {
			call = name.Handle
		}
		for range 2 {
			a, err := call(t.Context(), ask(t, step, run))
			if err != nil || a.Outcome != failover.OK || a.Step != step || a.Run != run || a.To != "acme-b" || a.From != "acme-a" || a.Detail == "" {
				t.Fatalf("%s: %+v, %v", step, a, err)
			}
		}
	}
	i.IsWriter("acme-b", 2)
	a, err := steps.Handle(t.Context(), ask(t, "smoke", run))
	if err != nil || a.Epoch != 2 {
		t.Errorf("after the end: %+v, %v", a, err)
	}
}

// Errors have the names that the state machine knows.
func TestErrorsHaveNames(t *testing.T) {
	i, run := begun(t)
	h := promote.New(i.Deps(), instancetest.Zone)
	for _, c := range []struct {
		ask  string
		want outcome.Name
	}{
		{`[`, outcome.Input}, {`{}`, outcome.Input}, {`{"step":"fence"}`, outcome.Input}, {`{"step":"confirm","run":"` + run + `"}`, outcome.Input},
		{`{"step":"format","run":"` + run + `"}`, outcome.Input}, {`{"step":"fence","run":"R","force":true}`, outcome.Input},
		{`{"step":"fence","run":"other"}`, outcome.OutOfTurn}, {`{"step":"promote","run":"` + run + `"}`, outcome.OutOfTurn},
	} {
		a, err := h.Handle(t.Context(), []byte(c.ask))
		if err == nil || outcome.Of(err) != c.want || outcome.Of(err).Retryable() {
			t.Errorf("%s: %+v, %v is %s, want %s", c.ask, a, err, outcome.Of(err), c.want)
		}
	}
	if got := i.Calls(); slices.Contains(got, "stop") {
		t.Errorf("something was done: %v", got)
	}
	for _, other := range [][]byte{ask(t, "fence", run), ask(t, promote.Ready, "")} {
		if a, err := dns.New(i.Deps(), instancetest.Zone).Handle(t.Context(), other); outcome.Of(err) != outcome.Input {
			t.Errorf("the function for names did another step: %+v, %v", a, err)
		}
	}
}

// A name that does not follow is tried again, and the writer writes meanwhile. The end says
// what is left.
func TestTheNameDoesNotFollow(t *testing.T) {
	i, run := begun(t)
	steps, name := promote.New(i.Deps(), instancetest.Zone), dns.New(i.Deps(), instancetest.Zone)
	for _, step := range failover.StepNames()[1:6] {
		if _, err := steps.Handle(t.Context(), ask(t, step, run)); err != nil {
			t.Fatal(err)
		}
	}
	i.Fail("dns", 2)
	if a, err := name.Handle(t.Context(), ask(t, "dns", run)); !outcome.Of(err).Retryable() || err == nil || a.Outcome != failover.Left {
		t.Fatalf("%+v, %v", a, err)
	}
	if a, err := steps.Handle(t.Context(), ask(t, "record", run)); err == nil || outcome.Of(err) != outcome.Left {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := name.Handle(t.Context(), ask(t, "dns", run)); err == nil {
		t.Error("the second failure is none")
	}
	if _, err := name.Handle(t.Context(), ask(t, "dns", run)); err != nil {
		t.Fatal(err)
	}
	if _, err := steps.Handle(t.Context(), ask(t, "record", run)); err != nil {
		t.Fatal(err)
	}
	i.IsWriter("acme-b", 2)
}

// What a state machine sends is what is recorded.
func TestRecordedCalls(t *testing.T) {
	i, _ := begun(t)
	for file, want := range map[string]outcome.Name{"fence.json": outcome.OutOfTurn, "malformed.json": outcome.Input} {
		raw, err := os.ReadFile(filepath.Join("..", "promote", "testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := promote.New(i.Deps(), "").Handle(t.Context(), raw); err == nil || outcome.Of(err) != want {
			t.Errorf("%s: %v", file, err)
		}
	}
}
