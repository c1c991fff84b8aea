package purge_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/archive"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/objecttest"
	"originchain/shared/purge"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/simdisk"
	"originchain/shared/table"
)

// lived is an archive in which the subject was, and the disk of the node that wrote it.
type lived struct {
	store *object.Memory
	disk  *simdisk.Disk
	// early is the disk as it was before the log gave up what was shipped.
	early *simdisk.Disk
	last  lsn.LSN
}

// live writes the subject, with an answer, over a checkpoint, and deletes it.
func live(t testing.TB) *lived {
	t.Helper()
	l := &lived{store: object.NewMemory("archive"), disk: simdisk.New()}
	n := start(t, l.disk, l.store, "data", 1)
	n.create()
	l.writeSubject(n)
	n.checkpoint()
	n.person(tenantA, 7, mark, mark+"@second", "there")
	n.forget(tenantA, 7, mark)
	l.early = l.disk.KillClone()
	n.person(tenantA, 2, "bea", mark[:4]+"@second", "there") // not the subject's, though it looks like it
	n.expire(tenantA)
	n.checkpoint()
	n.person(tenantA, 2, "cid", "cid@own", "there")
	l.last = n.end()
	return l
}

func (l *lived) writeSubject(n *node) {
	n.t.Helper()
	n.person(tenantA, 1, "amy", "amy@own", "here")
	n.person(tenantB, 7, mark[:8], "same@mail", "here") // another tenant's
	n.write(tenantA, "key-"+mark, `{"pk":"[7,\"`+mark+`\"]"}`, func(b *rows.Builder, of func(string) *table.Table) error {
		return put(b, of("people"), schema.U64(7), schema.Str(mark), schema.Str(mark+"@first"), schema.Str("here"))
	})
}

func TestSelection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := live(t)
		base := optionsOf(l.store, theSubject)
		subject, err := purge.MakePlan(t.Context(), base)
		must(t, err)
		if subject.Keys != 1 || subject.Live || subject.Frames != 4 {
			t.Fatalf("planned %+v", subject)
		}
		for _, c := range []struct {
			name string
			sel  purge.Selector
			keys int    // how many are selected
			says string // or what the error says
			same bool   // the plan is the one by the subject's key
		}{
			{"a key of two columns", theSubject, 1, "", true},
			{"spaces in the array", purge.Selector{Tenant: tenantA, Schema: "shop.people", PK: ` [ 7 , "` + mark + `" ]`}, 1, "", true},
			{"a value that the index begins with", purge.Selector{Tenant: tenantA, Schema: "shop.people", Column: "mail", Value: mark + "@first"}, 1, "", true},
			{"a value that it had at another time", purge.Selector{Tenant: tenantA, Schema: "shop.people", Column: "mail", Value: mark + "@second"}, 1, "", true},
			{"a value of several rows", purge.Selector{Tenant: tenantA, Schema: "shop.people", Column: "city", Value: "here"}, 2, "", false},
			{"a value that nobody had", purge.Selector{Tenant: tenantA, Schema: "shop.people", Column: "mail", Value: "nobody"}, 0, "", false},
			{"a key that nobody had", purge.Selector{Tenant: tenantA, Schema: "shop.people", PK: `[7,"nobody"]`}, 1, "", false},
			{"a key of one column", purge.Selector{Tenant: tenantA, Schema: "shop.notes", PK: "later"}, 1, "", false},
			{"a column that an index only ends with", purge.Selector{Tenant: tenantA, Schema: "shop.people", Column: "region", Value: "7"}, 0, "no index", false},
			{"no such column", purge.Selector{Tenant: tenantA, Schema: "shop.people", Column: "age", Value: "7"}, 0, "no column", false},
			{"no such table", purge.Selector{Tenant: tenantA, Schema: "shop.cats", PK: "7"}, 0, "never had a table", false},
			{"another tenant", purge.Selector{Tenant: [16]byte{9}, Schema: "shop.people", PK: theSubject.PK}, 0, "never had a table", false},
			{"one value of two", purge.Selector{Tenant: tenantA, Schema: "shop.people", PK: "7"}, 0, "is not a key", false},
			{"an element too many", purge.Selector{Tenant: tenantA, Schema: "shop.people", PK: `[7,"x",1]`}, 0, "is not a key", false},
			{"a number as text", purge.Selector{Tenant: tenantA, Schema: "shop.people", PK: `["7","x"]`}, 0, "is not a key", false},
			{"another spelling of a number", purge.Selector{Tenant: tenantA, Schema: "shop.people", PK: `[7.0,"x"]`}, 0, "is not a key", false},
			{"null", purge.Selector{Tenant: tenantA, Schema: "shop.people", PK: `[null,"x"]`}, 0, "is not a key", false},
			{"more behind the array", purge.Selector{Tenant: tenantA, Schema: "shop.people", PK: `[7,"x"] 1`}, 0, "is not a key", false},
		} {
			o := base
			o.Selector = c.sel
			plan, err := purge.MakePlan(t.Context(), o)
			switch {
			case c.says != "":
				if !errors.Is(err, purge.ErrSelector) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s: %v", c.name, err)
				}
			case err != nil || plan.Keys != c.keys || (plan.ID == subject.ID) != c.same:
				t.Errorf("%s: %v, %+v", c.name, err, plan)
			}
		}
	})
}

// TestTwoSteps: a plan changes nothing; only the plan that was confirmed is carried out,
// on the archive that it was made for; and nobody who is still there is purged.
func TestTwoSteps(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := live(t)
		o := optionsOf(l.store, theSubject)
		was := objects(t, l.store)
		unchanged := func(what string) {
			t.Helper()
			if diff := cmp.Diff(was, objects(t, l.store)); diff != "" {
				t.Fatalf("%s: %s", what, diff)
			}
		}
		plan, err := purge.MakePlan(t.Context(), o)
		must(t, err)
		unchanged("a plan")
		var other *purge.PlanError
		if _, err := purge.Run(t.Context(), o, "0123"); !errors.As(err, &other) || other.Now != plan.ID {
			t.Errorf("an unknown plan: %v", err)
		}
		o.Selector.PK = `[1,"amy"]`
		var alive *purge.LiveError
		living, err := purge.MakePlan(t.Context(), o)
		must(t, err)
		if !living.Live || living.LiveRows != 1 || living.ID == plan.ID {
			t.Errorf("of who is there: %+v", living)
		}
		if _, err := purge.Run(t.Context(), o, living.ID); !errors.As(err, &alive) || alive.Rows != 1 {
			t.Errorf("of who is there: %v", err)
		}
		if _, err := purge.Run(t.Context(), o, plan.ID); !errors.As(err, &other) {
			t.Errorf("another's plan: %v", err)
		}
		unchanged("what was refused")
		// The archive goes on between the steps.
		o.Selector = theSubject
		n := start(t, l.disk, l.store, "data", 2)
		n.person(tenantA, 1, "dan", "dan@own", "here")
		n.end()
		was = objects(t, l.store)
		if _, err := purge.Run(t.Context(), o, plan.ID); !errors.As(err, &other) {
			t.Errorf("a changed archive: %v", err)
		}
		unchanged("a changed archive")
		// An answer that tells of the subject keeps it alive as a row does.
		n = start(t, l.disk, l.store, "data", 3)
		n.write(tenantA, "again", `{"pk":"[7,\"`+mark+`\"]"}`, func(b *rows.Builder, of func(string) *table.Table) error {
			return put(b, of("notes"), schema.Str("x"), schema.Str("x"))
		})
		n.end()
		if plan, err = purge.MakePlan(t.Context(), o); err != nil || !plan.Live || plan.LiveAnswers != 1 || plan.LiveRows != 0 {
			t.Errorf("with an answer: %v, %+v", err, plan)
		}
		o.Instance = [16]byte{1}
		if _, err := purge.MakePlan(t.Context(), o); !errors.As(err, new(*archive.ForeignError)) {
			t.Errorf("another instance: %v", err)
		}
	})
}

// TestTheArchiveChangesAtTheEnd: what is shipped while the new objects are made keeps the
// purge from counting.
func TestTheArchiveChangesAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := live(t)
		plan, err := purge.MakePlan(t.Context(), optionsOf(l.store, theSubject))
		must(t, err)
		store := objecttest.NewFaulty(l.store, 1)
		puts := 0
		store.SetHook(objecttest.Hook{Before: func(_ context.Context, c objecttest.Call) error {
			if c.Op == "put" {
				if puts++; puts == 3 {
					k := archive.PartKey{Epoch: 1, Segment: l.last + 1, From: l.last + 1, To: l.last + 1}
					return l.store.Put(t.Context(), k.String(), object.Bytes([]byte("x")))
				}
			}
			return nil
		}})
		if _, err := purge.Run(t.Context(), optionsOf(store, theSubject), plan.ID); !errors.As(err, new(*purge.PlanError)) {
			t.Fatal(err)
		}
		s, err := archive.New(l.store).Survey(t.Context())
		must(t, err)
		if len(s.Redactions) != 0 {
			t.Error("the purge counts")
		}
	})
}

// TestKilledAtAnyCall of the store: the archive restores as before until the purge
// counts, and run again it comes to the same end.
func TestKilledAtAnyCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := live(t)
		plan, err := purge.MakePlan(t.Context(), optionsOf(l.store, theSubject))
		must(t, err)
		whole := copyOf(t, l.store)
		run(t, optionsOf(whole, theSubject))
		want := endOf(t, whole, l.last)
		kinds := map[string]int{}
		for _, after := range []bool{false, true} {
			for at := 1; ; at++ {
				memory := copyOf(t, l.store)
				op, err := killed(t, memory, plan.ID, at, after)
				if err == nil {
					break
				}
				kinds[op]++
				if _, r := restored(t, memory, 1, l.last); !r.Verified {
					t.Fatalf("killed at call %d, %s: restored %+v", at, op, r)
				}
				if _, err := purge.Run(t.Context(), optionsOf(memory, theSubject), plan.ID); err != nil {
					t.Fatalf("killed at call %d, %s (after it: %t), gone on with: %v", at, op, after, err)
				}
				if diff := cmp.Diff(want, endOf(t, memory, l.last)); diff != "" {
					t.Fatalf("killed at call %d, %s (after it: %t): %s", at, op, after, diff)
				}
			}
		}
		if kinds["put"] < 10 || kinds["erase"] < 2 || kinds["erase versions"] < 2 {
			t.Errorf("killed at %v", kinds)
		}
	})
}

// killed runs a purge whose store fails for good from the at-th change on, which is or is
// not made, and says what that was.
func killed(t *testing.T, memory object.Store, plan string, at int, after bool) (op string, err error) {
	t.Helper()
	store := objecttest.NewFaulty(memory, 1)
	calls := 0
	count := func(c objecttest.Call) error {
		if c.Op != "put" && c.Op != "erase" && c.Op != "erase versions" {
			return nil
		}
		if calls++; calls == at {
			op = c.Op
		}
		if calls >= at {
			return object.ErrDenied
		}
		return nil
	}
	hook := objecttest.Hook{Before: func(_ context.Context, c objecttest.Call) error { return count(c) }}
	if after {
		hook = objecttest.Hook{After: func(_ context.Context, c objecttest.Call, err error) error { return errors.Join(err, count(c)) }}
	}
	store.SetHook(hook)
	_, err = purge.Run(t.Context(), optionsOf(store, theSubject), plan)
	return op, err
}

// endOf is what a purge came to, but for the numbers of rewrites and the time.
func endOf(t *testing.T, store object.Store, last lsn.LSN) map[string]any {
	t.Helper()
	a := archive.New(store)
	s, err := a.Survey(t.Context())
	must(t, err)
	out := map[string]any{"tell": telling(t, store), "purges": len(s.Redactions), "unpurged": len(s.Unpurged), "faults": len(s.Faults)}
	for _, r := range s.Redactions {
		out[r.ID] = fmt.Sprint(r.Plan, r.Frames, r.Intervals, len(r.Replaced))
	}
	for _, k := range s.Segments {
		out[archive.Rewritten(k.Key, 0).String()] = true
	}
	for _, k := range s.Parts {
		out[archive.Rewritten(k.Key, 0).String()] = true
	}
	counts, files := 0, map[string]bool{}
	for i := range s.Checkpoints {
		m, err := a.Manifest(t.Context(), s.Checkpoints[i].Key())
		must(t, err)
		must(t, a.Complete(t.Context(), &m))
		out[fmt.Sprint("checkpoint", m.LSN)] = m.Purges
		for j := range m.Files {
			files[m.Files[j].Key().String()] = true
		}
	}
	for name := range objects(t, store) {
		k, err := archive.ParseKey(name)
		must(t, err)
		if f, ok := k.(archive.FileKey); ok && !files[f.String()] {
			out["orphan"] = name
		} else if !ok {
			counts++
		}
	}
	out["objects"] = counts
	pairs, _ := restored(t, store, 1, last)
	out["state"] = maps.Clone(pairs)
	return out
}
