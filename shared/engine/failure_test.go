package engine

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"originchain/shared/fault"
	"originchain/shared/rows"
	"originchain/shared/simdisk"
	"originchain/shared/table"
)

// leaveUnfinishedIndex stops between the announcement of an index and its use,
// as a kill does.
func leaveUnfinishedIndex(t *testing.T, disk *simdisk.Disk) {
	t.Helper()
	n := start(t, disk)
	_, err := n.Commit(context.Background(), Proposal{Build: func(b *rows.Builder) error {
		return b.PutRecord(table.SpaceTenants, tenant[:], []byte("t"), true)
	}})
	if err != nil {
		t.Fatal(err)
	}
	n.create()
	_, err = n.Commit(context.Background(), Proposal{Tenant: tenant, Build: func(b *rows.Builder) error {
		_, err := b.CreateIndex(tenant, "shop.items", table.IndexRecord{Name: "extra", Columns: []string{"name"}})
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	n.mustClose()
}

func TestAFailureWhileTidyingStopsTheEngine(t *testing.T) {
	disk := simdisk.New()
	leaveUnfinishedIndex(t, disk)
	e, err := Open(context.Background(), testConfig(), testDeps(disk))
	if err != nil {
		t.Fatal(err)
	}
	disk.Inject(simdisk.Fault{Ops: simdisk.OpSync, Forever: true, Err: syscall.EIO})
	if err := e.Run(context.Background()); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Run: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Log(err) // the log cannot be settled
	}
}

func TestAnUnfinishedIndexIsDroppedAndAStopIsClean(t *testing.T) {
	disk := simdisk.New()
	leaveUnfinishedIndex(t, disk)
	for range 3 { // a stop at once may come before the tidying; it is clean all the same
		start(t, disk).mustClose()
	}
	n := start(t, disk)
	defer n.mustClose()
	for i := range int64(10_000) {
		if _, ok := n.items().Index("extra"); !ok {
			return
		}
		if _, err := n.put(1, fmt.Sprint(i), rows.Any()); err != nil && fault.CodeOf(err) != fault.Conflict {
			t.Fatal(err)
		}
	}
	t.Fatal("the unfinished index is still there")
}

// TestAFailedStateStopsTheEngine: the log is whole and the state cannot be
// written; commits must not wait for ever.
func TestAFailedStateStopsTheEngine(t *testing.T) {
	disk := simdisk.New()
	n := start(t, disk)
	n.create()
	disk.Inject(simdisk.Fault{Ops: simdisk.OpWrite, Path: "/data/state/*", Forever: true, Err: syscall.ENOSPC})
	for i := int64(0); ; i++ {
		_, err := n.put(i, fmt.Sprint(i), rows.Any())
		if fault.CodeOf(err) == fault.NotReady {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := <-n.done; !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Run: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAFailureInTheBackgroundIsNoticed: no commit is there to meet it.
func TestAFailureInTheBackgroundIsNoticed(t *testing.T) {
	disk := simdisk.New()
	n := start(t, disk)
	n.create()
	disk.Inject(simdisk.Fault{Ops: simdisk.OpWrite, Path: "/data/state/*", Forever: true, Err: syscall.ENOSPC})
	if err := n.store.Flush(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Flush: %v", err)
	}
	if err := <-n.done; !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Run: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}
