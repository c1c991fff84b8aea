package engine

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/simdisk"
	"originchain/shared/table"
)

func extraIndex(name string) table.IndexRecord {
	return table.IndexRecord{Name: name, Columns: []string{"name"}}
}

// fill puts n rows.
func (n *node) fill(rowsWanted int64) {
	n.t.Helper()
	for i := range rowsWanted {
		if _, err := n.put(i, fmt.Sprint("item ", i), rows.Any()); err != nil {
			n.t.Fatal(err)
		}
	}
}

// announce begins a build as CreateIndex does.
func (n *node) announce(ix table.IndexRecord) *table.Table {
	n.t.Helper()
	var tbl *table.Table
	_, err := n.Commit(context.Background(), Proposal{Tenant: tenant, Build: func(b *rows.Builder) (err error) {
		tbl, err = b.CreateIndex(tenant, "shop.items", ix)
		return err
	}})
	if err != nil {
		n.t.Fatal(err)
	}
	return tbl
}

// build goes on as CreateIndex does after the announcement.
func (n *node) build(tbl *table.Table, name string) (uint64, lsn.Pos, error) {
	n.t.Helper()
	ix, ok := tbl.Index(name)
	if !ok {
		n.t.Fatalf("no index %s", name)
	}
	return n.buildIndex(context.Background(), tbl, ix)
}

// TestTwoIndexesAreBuiltAtOnce: announcing or finishing one must not end the other.
func TestTwoIndexesAreBuiltAtOnce(t *testing.T) {
	n := start(t, simdisk.New())
	defer n.mustClose()
	n.create()
	n.fill(20)
	one := n.announce(extraIndex("one"))
	two := n.announce(extraIndex("two"))
	for name, tbl := range map[string]*table.Table{"one": one, "two": two} {
		if filled, _, err := n.build(tbl, name); err != nil || filled != 20 {
			t.Fatalf("index %s: %d rows, %v", name, filled, err)
		}
	}
	for _, ix := range n.items().Indexes {
		c, err := table.ReadCounters(n.View(), table.CounterKey(tenant, n.items().TableID, ix.ID))
		if err != nil || !ix.Ready || c.Entries != 20 {
			t.Errorf("index %s: ready %v, %d entries, %v", ix.Name, ix.Ready, c.Entries, err)
		}
	}
	n.verify()
}

// TestABuildThatFailsTakesOnlyItsOwnIndexAway: somebody dropped it meanwhile and
// made another of that name.
func TestABuildThatFailsTakesOnlyItsOwnIndexAway(t *testing.T) {
	n := start(t, simdisk.New())
	defer n.mustClose()
	n.create()
	n.fill(3)
	first := n.announce(extraIndex("extra"))
	if _, err := n.DropIndex(context.Background(), tenant, "shop.items", "extra"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.CreateIndex(context.Background(), tenant, "shop.items", extraIndex("extra")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.build(first, "extra"); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("the build whose index was dropped: %v", err)
	}
	if ix, ok := n.items().Index("extra"); !ok || !ix.Ready {
		t.Error("the other index of that name is gone")
	}
	n.verify()
}

// TestAnIndexIsNotLeftHalfBuilt: whoever asked for it has gone before its
// announcement is visible.
func TestAnIndexIsNotLeftHalfBuilt(t *testing.T) {
	n, stall, goOn := startStalled(t)
	defer n.mustClose()
	n.create()
	n.fill(3)
	release := n.busy()
	stall()
	ctx, leave := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, _, err := n.CreateIndex(ctx, tenant, "shop.items", extraIndex("extra"))
		done <- err
	}()
	for len(n.proposals) == 0 {
		runtime.Gosched()
	}
	release()
	probe := &pending{done: make(chan struct{}, 1), Proposal: Proposal{Tenant: tenant, Build: func(*rows.Builder) error { return nil }}}
	if err := n.propose(probe); err != nil {
		t.Fatal(err)
	}
	for len(n.proposals) > 0 {
		runtime.Gosched()
	}
	leave()
	goOn()
	if err := <-done; fault.CodeOf(err) != fault.Cancelled {
		t.Errorf("CreateIndex: %v", err)
	}
	<-probe.done
	if _, ok := n.items().Index("extra"); ok {
		t.Error("the index of the one who left is half built, and writers maintain it")
	}
	n.verify()
}
