package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"originchain/shared/clock"
	"originchain/shared/datadir"
	"originchain/shared/fault"
	"originchain/shared/lsn"
	recovery "originchain/shared/recover"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/simdisk"
	"originchain/shared/table"
)

var tenant = ulid.MustParse("01JADE0000000000000000000A")

const itemsManifest = `
namespace = "shop"
table = "items"
primary_key = ["id"]
[[columns]]
name = "id"
ty = "i64"
[[columns]]
name = "name"
ty = "str"
[[indexes]]
name = "by_name"
columns = ["name"]
unique = true
`

// node is an engine that runs.
type node struct {
	*Engine
	t    *testing.T
	stop context.CancelFunc
	done chan error
}

func testConfig() Config {
	return Config{DataDir: "data", SegmentBytes: 32 << 10, MemtableBytes: 64 << 10, CacheBytes: 1 << 20}
}

func testDeps(fs vfs.FS) Deps {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return Deps{FS: fs, Log: log, Clock: clock.New(clock.Config{})}
}

func start(t *testing.T, fs vfs.FS) *node {
	t.Helper()
	return startWith(t, testDeps(fs))
}

func startWith(t *testing.T, deps Deps) *node {
	t.Helper()
	e, err := Open(context.Background(), testConfig(), deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{Engine: e, t: t, stop: cancel, done: make(chan error, 1)}
	go func() { n.done <- e.Run(ctx) }()
	return n
}

// close stops the engine as SIGTERM does and returns what Run returned.
func (n *node) close() error {
	n.stop()
	return errors.Join(<-n.done, n.Close())
}

func (n *node) mustClose() {
	n.t.Helper()
	if err := n.close(); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) create() {
	n.t.Helper()
	if _, _, err := n.CreateTable(context.Background(), tenant, []byte(itemsManifest)); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) items() *table.Table {
	n.t.Helper()
	cat, err := n.Catalog(tenant)
	if err != nil {
		n.t.Fatal(err)
	}
	tbl, err := cat.Table("shop.items")
	if err != nil {
		n.t.Fatal(err)
	}
	return tbl
}

func (n *node) put(id int64, name string, e rows.Expect) (lsn.Pos, error) {
	n.t.Helper()
	p, err := rows.Prepare(n.items(), schema.Row{schema.I64(id), schema.Str(name)}, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	out, err := n.Commit(context.Background(), Proposal{Tenant: tenant, Build: func(b *rows.Builder) error {
		_, err := b.Put(p, e)
		return err
	}})
	return out.Pos, err
}

func (n *node) name(id int64) (string, bool) {
	n.t.Helper()
	key, err := table.RowKeyOf(nil, n.items(), []schema.Value{schema.I64(id)})
	if err != nil {
		n.t.Fatal(err)
	}
	row, _, ok, err := table.GetRow(n.View(), n.items(), key, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	if !ok {
		return "", false
	}
	return row[1].AsStr(), true
}

func TestWhatWasAcknowledgedIsThereAfterAReopening(t *testing.T) {
	disk := simdisk.New()
	n := start(t, disk)
	n.create()
	epoch := n.Epoch()
	for i := range int64(500) {
		if _, err := n.put(i, fmt.Sprint("item ", i), rows.Absent()); err != nil {
			t.Fatal(err)
		}
	}
	n.mustClose()
	n = start(t, disk)
	defer n.mustClose()
	if n.Epoch() <= epoch {
		t.Fatalf("epoch %d after %d", n.Epoch(), epoch)
	}
	for i := range int64(500) {
		if got, ok := n.name(i); !ok || got != fmt.Sprint("item ", i) {
			t.Fatalf("row %d: %q %v", i, got, ok)
		}
	}
	n.verify()
}

func (n *node) verify() {
	n.t.Helper()
	snap, err := n.Snapshot()
	if err != nil {
		n.t.Fatal(err)
	}
	_, err = recovery.VerifyFull(snap)
	if err = errors.Join(err, snap.Close()); err != nil {
		n.t.Fatal(err)
	}
}

func TestPowerLossKeepsEveryAnsweredCommit(t *testing.T) {
	disk := simdisk.New()
	n := start(t, disk)
	n.create()
	for i := range int64(200) {
		if _, err := n.put(i, fmt.Sprint(i), rows.Any()); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range uint64(5) {
		after := start(t, disk.CrashClone(rand.New(rand.NewPCG(seed, 2))))
		for i := range int64(200) {
			if got, ok := after.name(i); !ok || got != fmt.Sprint(i) {
				t.Fatalf("seed %d: row %d is lost: %q %v", seed, i, got, ok)
			}
		}
		after.verify()
		after.mustClose()
	}
	n.mustClose()
}

func TestConcurrentWritersShareFsyncsAndStayExact(t *testing.T) {
	n := start(t, simdisk.New())
	defer n.mustClose()
	n.create()
	const writers, each = 16, 50
	var wg sync.WaitGroup
	won := make([]int, writers)
	for w := range writers {
		wg.Go(func() {
			for i := range int64(each) {
				// Everybody wants the same names: exactly one may have each.
				_, err := n.put(int64(w)*1000+i, fmt.Sprint("name ", i), rows.Absent())
				switch {
				case err == nil:
					won[w]++
				case fault.CodeOf(err) != fault.UniqueViolation:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for _, n := range won {
		total += n
	}
	if total != each {
		t.Fatalf("%d rows took %d unique names", total, each)
	}
	n.verify()
}

func TestFirstCommitterWins(t *testing.T) {
	n := start(t, simdisk.New())
	defer n.mustClose()
	n.create()
	if _, err := n.put(1, "one", rows.Any()); err != nil {
		t.Fatal(err)
	}
	a, b := n.begin(), n.begin()
	for i, tx := range []*Tx{a, b} {
		p, err := rows.Prepare(n.items(), schema.Row{schema.I64(1), schema.Str(fmt.Sprint("tx ", i))}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Put(p, rows.Any()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Commit(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	_, err := b.Commit(context.Background(), nil)
	if f := fault.From(err); f.Code != fault.Conflict || !f.Retry {
		t.Fatalf("the second committer: %v", err)
	}
	if got, _ := n.name(1); got != "tx 0" {
		t.Fatalf("got %q", got)
	}
}

func (n *node) begin() *Tx {
	n.t.Helper()
	tx, err := n.Begin(tenant)
	if err != nil {
		n.t.Fatal(err)
	}
	return tx
}

func TestARepeatedRequestGetsTheFirstAnswer(t *testing.T) {
	disk := simdisk.New()
	n := start(t, disk)
	n.create()
	send := func(n *node, request byte) (Outcome, error) {
		p, err := rows.Prepare(n.items(), schema.Row{schema.I64(7), schema.Str("seven")}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return n.Commit(context.Background(), Proposal{
			Tenant: tenant,
			Build:  func(b *rows.Builder) error { _, err := b.Put(p, rows.Absent()); return err },
			Idem: &Idempotency{Key: "k", Request: [32]byte{request}, Status: 200, Answer: func(p lsn.Pos) []byte {
				return []byte(fmt.Sprint("at ", p.LSN))
			}},
		})
	}
	first, err := send(n, 1)
	if err != nil || first.Stored != nil {
		t.Fatalf("%+v %v", first, err)
	}
	n.mustClose()
	n = start(t, disk)
	defer n.mustClose()
	again, err := send(n, 1)
	if err != nil || again.Stored == nil || string(again.Stored.Body) != fmt.Sprint("at ", first.Pos.LSN) {
		t.Fatalf("repeated after a restart: %+v %v", again, err)
	}
	if _, err := send(n, 2); fault.CodeOf(err) != fault.Conflict {
		t.Fatalf("another request under the key: %v", err)
	}
}

func TestAFailedFsyncStopsEverything(t *testing.T) {
	disk := simdisk.New()
	n := start(t, disk)
	n.create()
	if _, err := n.put(1, "kept", rows.Any()); err != nil {
		t.Fatal(err)
	}
	disk.Inject(simdisk.Fault{From: disk.CallCount() + 1, Ops: simdisk.OpSync, Forever: true, Err: errors.New("EIO")})
	_, err := n.put(2, "lost", rows.Any())
	f := fault.From(err)
	if f.Code != fault.NotReady || f.Fields["outcome"] != "unknown" {
		t.Fatalf("the write whose fsync failed: %v", err)
	}
	if _, ok := n.name(2); ok {
		t.Fatal("a row is visible whose fsync failed")
	}
	if err := <-n.done; err == nil {
		t.Fatal("Run returned nil after a failed fsync")
	}
	if _, err := n.put(3, "late", rows.Any()); fault.CodeOf(err) != fault.NotReady {
		t.Fatalf("a write after the failure: %v", err)
	}
	n.stop()
	_ = n.Close() // the log has failed; its directory is released all the same
	after := start(t, disk.CrashClone(rand.New(rand.NewPCG(1, 2))))
	defer after.mustClose()
	if got, ok := after.name(1); !ok || got != "kept" {
		t.Fatalf("the acknowledged row: %q %v", got, ok)
	}
}

func TestTwoEnginesOnOneDirectory(t *testing.T) {
	disk := simdisk.New()
	n := start(t, disk)
	defer n.mustClose()
	_, err := Open(context.Background(), testConfig(), testDeps(disk))
	if !errors.Is(err, datadir.ErrLocked) {
		t.Fatalf("got %v", err)
	}
}
