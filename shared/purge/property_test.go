package purge_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/simdisk"
	"originchain/shared/table"
)

// randomly writes frames of one to four rows of both tenants: the subject's among them,
// in two tables, with answers stored, and unique values that go from one row to another.
func randomly(n *node, rng *rand.Rand, frames int) {
	for i := range frames {
		<-time.After(time.Duration(rng.IntN(4000)) * time.Millisecond)
		tenant := []ulid.ULID{tenantA, tenantB}[rng.IntN(2)]
		subject := tenant == tenantA && rng.IntN(3) == 0
		key, answer := "", ""
		if rng.IntN(3) == 0 {
			if key, answer = fmt.Sprintf("key-%d-%d", n.last, i), `{"pk":"other"}`; subject {
				key, answer = key+mark, `{"pk":"[7,\"`+mark+`\"]","lsn":1}`
			}
		}
		n.write(tenant, key, answer, func(b *rows.Builder, of func(string) *table.Table) error {
			if subject {
				if err := onSubject(b, of, rng); err != nil {
					return err
				}
			}
			for range rng.IntN(3) {
				name := fmt.Sprintf("person-%d", rng.IntN(8))
				if err := onOther(b, of, rng, name, subject || key == ""); err != nil {
					return err
				}
			}
			return put(b, of("notes"), schema.Str(fmt.Sprintf("note-%d", rng.IntN(9))), schema.Str(strings.Repeat("n", rng.IntN(400))))
		})
		if rng.IntN(frames/2) == 0 {
			n.checkpoint()
		}
	}
	n.last++
}

func onSubject(b *rows.Builder, of func(string) *table.Table, rng *rand.Rand) error {
	region, name := schema.U64(7), schema.Str(mark)
	if rng.IntN(5) == 0 {
		return remove(b, of("people"), region, name)
	}
	mail := fmt.Sprintf("%d@shared", rng.IntN(3)) // nobody else's now, and perhaps later
	for i := range 8 {
		// Whoever has it gives it up in the same frame.
		if err := put(b, of("people"), schema.U64(uint64(i%2)), schema.Str(fmt.Sprintf("person-%d", i)), schema.Str(fmt.Sprintf("%d@own", i)), schema.Str("here")); err != nil {
			return err
		}
	}
	return put(b, of("people"), region, name, schema.Str(mail), schema.Str([]string{"here", "there"}[rng.IntN(2)]))
}

func onOther(b *rows.Builder, of func(string) *table.Table, rng *rand.Rand, name string, mayMove bool) error {
	region := schema.U64(uint64(name[len(name)-1]-'0') % 2)
	switch how := rng.IntN(6); {
	case how == 0:
		return remove(b, of("people"), region, schema.Str(name))
	case how == 1 && mayMove: // the subject gives its value up, and another takes it
		// An answer that such a frame stores is one to a request for the subject.
		if err := remove(b, of("people"), schema.U64(7), schema.Str(mark)); err != nil {
			return err
		}
		for i := range 8 {
			if err := remove(b, of("people"), schema.U64(uint64(i%2)), schema.Str(fmt.Sprintf("person-%d", i))); err != nil {
				return err
			}
		}
		return put(b, of("people"), region, schema.Str(name), schema.Str(fmt.Sprintf("%d@shared", rng.IntN(3))), schema.Str("here"))
	}
	return put(b, of("people"), region, schema.Str(name), schema.Str(name+"@own"), schema.Str([]string{"here", "there"}[rng.IntN(2)]))
}

// TestNothingOfARandomSubjectIsLeft: after a purge no object of the archive has a byte of
// the subject's, a restore to every frame verifies, and gives what it gave before but for
// the subject's pairs, counted anew.
func TestNothingOfARandomSubjectIsLeft(t *testing.T) {
	taken := 0
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { taken += oneSubject(t, rand.New(rand.NewPCG(seed, 7)), seed%2 == 1) })
		})
	}
	if taken == 0 {
		t.Error("nobody ever took over a pair of the subject's")
	}
}

// oneSubject says how often a pair of the subject's was replaced by somebody else's.
func oneSubject(t *testing.T, rng *rand.Rand, fork bool) (taken int) {
	store := object.NewMemory("archive")
	n := start(t, simdisk.New(), store, "data", 1)
	n.create()
	randomly(n, rng, 24)
	n.checkpoint()
	lines := map[lsn.Epoch]lsn.LSN{}
	if fork { // another line is left behind with the subject in it
		disk := n.disk.KillClone()
		randomly(n, rng, 8)
		lines[1] = n.end()
		n = start(t, disk, store, "data", 2)
	}
	randomly(n, rng, 16)
	n.forget(tenantA, 7, mark)
	n.expire(tenantA)
	n.checkpoint()
	randomOthers(n, 6)
	lines[n.engine.Epoch()] = n.end()
	before := copyOf(t, store)
	told := map[string]int{}
	for _, name := range telling(t, before) {
		told[name[:strings.IndexByte(name, '/')]]++
	}
	if told["log"] == 0 || told["tail"] == 0 || told["objects"] == 0 {
		t.Fatalf("the archive has the subject in %v alone", told)
	}
	_, got := run(t, optionsOf(store, theSubject))
	if got.Frames < 4 || got.Erased == 0 {
		t.Errorf("purged %+v", got)
	}
	if left := telling(t, store); len(left) > 0 {
		t.Errorf("%v tell of the subject", left)
	}
	sameBut(t, before, store, lines)
	return nothingReplacesTheSubject(t, before, store)
}

func randomOthers(n *node, frames int) {
	for i := range frames {
		n.person(tenantA, 3, "after", fmt.Sprintf("after-%d", i), "here")
	}
}

// sameBut holds every point of a purged archive against the one before.
func sameBut(t *testing.T, before, after object.Store, lines map[lsn.Epoch]lsn.LSN) {
	t.Helper()
	purged := 0
	for epoch, last := range lines {
		for at := lsn.LSN(1); at <= last; at++ {
			was, _ := restored(t, before, epoch, at)
			now, r := restored(t, after, epoch, at)
			want := without(t, was)
			if diff := cmp.Diff(want, now); diff != "" {
				t.Fatalf("LSN %d of the line of epoch %d: %s", at, epoch, diff)
			}
			if !r.Verified || r.Purged != (len(want) != len(was)) {
				t.Fatalf("LSN %d of the line of epoch %d: %+v, want %d pairs of %d", at, epoch, r, len(want), len(was))
			}
			if r.Purged {
				purged++
			}
		}
	}
	if purged < 5 {
		t.Errorf("only %d points were without something", purged)
	}
}
