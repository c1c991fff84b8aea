package verification

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/datadir"
	"originchain/shared/frame"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// verifyView verifies the state of a directory through a View alone, and counts how
// often it is looked something up.
func verifyView(t *testing.T, dir string, at func(table.Applied) table.Applied) (*Report, int) {
	t.Helper()
	s, err := table.Open(table.Options{FS: vfs.Default, Dir: datadir.StatePath(vfs.Default, dir), Log: quiet(), ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	v := &countedView{View: snap}
	r, err := RunView(t.Context(), ViewOptions{View: v, At: at(snap.Applied())})
	if err != nil {
		t.Fatal(err)
	}
	if err := snap.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return r, v.gets
}

// countedView counts lookups of rows and entries; records are few.
type countedView struct {
	table.View
	gets int
}

func (v *countedView) Get(key []byte) ([]byte, bool, error) {
	if p, ok := table.SplitKey(key); ok && (p.Space == table.SpaceRows || p.Space == table.SpaceIndexes) {
		v.gets++
	}
	return v.View.Get(key)
}

func same(a table.Applied) table.Applied { return a }

// TestAViewIsVerifiedAsADirectoryIs: what a state holds is found to be the same, and
// without a lookup for each entry.
func TestAViewIsVerifiedAsADirectoryIs(t *testing.T) {
	dir := sound(t)
	whole := verifyDir(t, dir)
	r, gets := verifyView(t, dir, same)
	if !r.OK || !r.Complete || r.FoundFaults != 0 || r.State != whole.State {
		t.Errorf("verified %+v, of the directory %+v", r, whole.State)
	}
	// One for each customer that an order points to.
	if gets == 0 || gets > rowsEach {
		t.Errorf("%d lookups for %d rows and %d entries", gets, r.State.Rows, r.State.IndexEntries)
	}
}

// TestAViewOfAnotherDigestIsNotVerified: neither the pairs' nor the recorded one.
func TestAViewOfAnotherDigestIsNotVerified(t *testing.T) {
	dir := sound(t)
	r, _ := verifyView(t, dir, func(a table.Applied) table.Applied {
		a.Digest = a.Digest.Add(frame.PairHash([]byte("a"), []byte("b")))
		return a
	})
	if r.OK || !has(r, CheckDigest) || r.Faults[0].Do != doOther {
		t.Errorf("verified %+v", r)
	}
}

// TestDamagedContentsAreNamedInAView: each damage that a directory is searched for is
// found in a View by the same name, though not looked up one by one.
func TestDamagedContentsAreNamedInAView(t *testing.T) {
	src := sound(t)
	for _, d := range contentDamages {
		t.Run(d.name, func(t *testing.T) {
			dir := damaged(t, src)
			write(t, dir, true, func(s *table.Store, cat *table.Catalog) []frame.Op { return d.ops(t, s, cat) })
			whole := verifyDir(t, dir)
			r, _ := verifyView(t, dir, same)
			if r.OK || !r.Complete {
				t.Fatalf("ok %t, complete %t", r.OK, r.Complete)
			}
			if got, want := kinds(r), kinds(whole); !slices.Equal(got, want) {
				t.Errorf("found\n%s\nin the directory\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if !slices.ContainsFunc(r.Faults, func(f Fault) bool {
				return f.Check == d.want.Check && f.Table == d.want.Table && f.Index == d.want.Index && strings.Contains(f.Problem, d.want.Problem)
			}) {
				t.Errorf("want %+v, found %+v", d.want, r.Faults)
			}
		})
	}
}

// kinds are the faults of a report, in an order, each once; of how many references lead
// to the same nothing a View tells in one.
func kinds(r *Report) (out []string) {
	for _, f := range r.Faults {
		k := fmt.Sprintf("%s %s %s", f.Check, f.Table, f.Index)
		if f.Check != CheckForeignKeys {
			k += " " + f.Key
		}
		out = append(out, k)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestReferencesAreFoundInBatches: a missing row is told once with how many point to
// it, wherever the batches end.
func TestReferencesAreFoundInBatches(t *testing.T) {
	dir := damaged(t, sound(t))
	write(t, dir, true, func(s *table.Store, cat *table.Catalog) []frame.Op {
		tbl, _ := cat.Lookup("shop.customers")
		lower, upper := table.RowRange(tbl)
		return []frame.Op{remove(find(t, s, lower, upper))}
	})
	whole := verifyDir(t, dir)
	refs := 0
	for _, f := range whole.Faults {
		if f.Check == CheckForeignKeys {
			refs++
		}
	}
	s := newSums()
	c := newContents(&run{ctx: t.Context(), report: &Report{}}, table.Empty{})
	tbl := &table.Table{Table: &schema.Table{ID: "shop.orders", Columns: []schema.Column{{Name: "customer"}}}}
	s.links(c, tbl, 3, maxTargetsBytes)
	if refs == 0 || c.report.FoundFaults != 2*3 || s.held != 0 || len(s.targets) != 0 {
		t.Errorf("%d references lead nowhere in the directory; found %d, held %d", refs, c.report.FoundFaults, s.held)
	}
}

// links makes n references to one missing row, then so many to another that the bound
// is met, then ends.
func (s *sums) links(c *contents, tbl *table.Table, n, bound int) {
	fk := schema.ForeignKey{TargetSchema: "shop.customers"}
	for range n {
		s.target(c, reference{tbl, fk, []byte("row")}, []byte("one"))
	}
	s.held += bound // as others would
	s.target(c, reference{tbl, fk, []byte("row")}, []byte("two"))
	for range n - 1 {
		s.target(c, reference{tbl, fk, []byte("row")}, []byte("two"))
	}
	s.find(c)
}
