package promote_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/lambdas/instancetest"
	"originchain/lambdas/outcome"
	"originchain/lambdas/promote"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/registry"
)

// away is a registry that cannot be read, noLease a record.
type away struct{ registry.Store }

func (away) List(context.Context, string) ([]registry.Document, error) {
	return nil, instancetest.ErrAway
}

type noLease struct{ lease.Store }

func (noLease) Load(context.Context) (lease.Record, bool, error) {
	return lease.Record{}, false, instancetest.ErrAway
}

// Who is asked whether it could carry a step out reads what each reads, whether a failover is
// under way or not, and changes nothing: no record, no document, no server.
func TestReadyChangesNothing(t *testing.T) {
	ask, err := os.ReadFile(filepath.Join("testdata", "ready.json"))
	if err != nil {
		t.Fatal(err)
	}
	i := instancetest.New(t, lease.NewMemory(lease.Hooks{}), registry.NewMemory(), 2)
	for _, begun := range []bool{false, true} {
		if begun {
			i.Kill("acme-a")
			if _, err := failover.Begin(t.Context(), i.Deps(), failover.Request{To: "acme-b", Allow: failover.Overrides{AllowLag: failover.DefaultAllowLag}}, nil); err != nil {
				t.Fatal(err)
			}
		}
		documents := func() (out []registry.Document) {
			if out, err = i.Registry.List(t.Context(), ""); err != nil || len(out) < 3 {
				t.Fatalf("%d documents, %v", len(out), err)
			}
			return out
		}
		record, before, calls := i.Record(), documents(), i.Calls()
		a, err := promote.New(i.Deps(), instancetest.Zone).Handle(t.Context(), ask)
		if want := "acme-a writes epoch 1, and 3 nodes are known"; err != nil || a.Detail != want || a.Outcome != failover.OK || a.Step != promote.Ready || a.Epoch != 1 || a.Run != "" {
			t.Errorf("begun %t: %+v, %v", begun, a, err)
		}
		for _, d := range []string{cmp.Diff(record, i.Record()), cmp.Diff(before, documents()), cmp.Diff(calls, i.Calls())} {
			if d != "" {
				t.Errorf("begun %t: it changed something (-before +after)\n%s", begun, d)
			}
		}
	}
}

// That a step could not be carried out is an error, of which an alarm tells.
func TestNotReady(t *testing.T) {
	i := instancetest.New(t, lease.NewMemory(lease.Hooks{}), registry.NewMemory(), 1)
	for name, c := range map[string]struct {
		deps failover.Deps
		ask  string
		want outcome.Name
	}{
		"the record is not read":     {failover.Deps{Lease: noLease{}, Registry: i.Registry}, `{"step":"ready"}`, outcome.Unavailable},
		"the nodes are not listed":   {failover.Deps{Lease: i.Lease, Registry: away{}}, `{"step":"ready"}`, outcome.Unavailable},
		"it is asked of a run":       {i.Deps(), `{"step":"ready","run":"R"}`, outcome.Input},
		"something of a run is left": {i.Deps(), `{"step":"ready","left":"dns"}`, outcome.Input},
		"another step without a run": {i.Deps(), `{"step":"let go"}`, outcome.Input},
	} {
		if a, err := promote.New(c.deps, "").Handle(t.Context(), []byte(c.ask)); err == nil || outcome.Of(err) != c.want {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	nobody := failover.Deps{Lease: lease.NewMemory(lease.Hooks{}), Registry: registry.NewMemory()}
	if a, err := promote.New(nobody, "").Handle(t.Context(), []byte(`{"step":"ready"}`)); err != nil || a.Detail != "nobody has written yet, and 0 nodes are known" {
		t.Errorf("%+v, %v", a, err)
	}
}
