package verification

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"originchain/shared/clock"
	"originchain/shared/datadir"
	"originchain/shared/engine"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/table"
	"originchain/shared/tenant"
)

var shop = ulid.MustParse("01JADE0000000000000000000A")

const customersManifest = `
namespace = "shop"
table = "customers"
primary_key = ["id"]
[[columns]]
name = "id"
ty = "i64"
[[columns]]
name = "email"
ty = "str"
[[indexes]]
name = "by_email"
columns = ["email"]
unique = true
`

const ordersManifest = `
namespace = "shop"
table = "orders"
primary_key = ["id"]
[[columns]]
name = "id"
ty = "i64"
[[columns]]
name = "customer"
ty = "i64"
[[foreign_keys]]
from_col = "customer"
target_schema = "shop.customers"
target_col = "id"
`

const rowsEach = 200

func quiet() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// sound makes a data directory as a server leaves it: tables that refer to each
// other, an index made later, a stored answer, several segments.
func sound(t *testing.T) string { return soundLog(t, 16<<10) }

func soundLog(t *testing.T, segmentBytes int64) string {
	t.Helper()
	dir := t.TempDir()
	e, err := engine.Open(t.Context(), engine.Config{DataDir: dir, SegmentBytes: segmentBytes, MemtableBytes: 256 << 10, CacheBytes: 1 << 20},
		engine.Deps{FS: vfs.Default, Log: quiet(), Clock: clock.New(clock.Config{})})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	fill(t, e)
	stop()
	if err := errors.Join(<-done, e.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func fill(t *testing.T, e *engine.Engine) {
	t.Helper()
	commit := func(idem *engine.Idempotency, build func(b *rows.Builder) error) {
		t.Helper()
		if _, err := e.Commit(t.Context(), engine.Proposal{Tenant: shop, Build: build, Idem: idem}); err != nil {
			t.Fatal(err)
		}
	}
	record, err := tenant.NewTenant(tenant.NewTenantParams{ID: shop.String()}, time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	text, err := record.Encode()
	if err != nil {
		t.Fatal(err)
	}
	commit(nil, func(b *rows.Builder) error { return b.PutRecord(table.SpaceTenants, record.ID[:], text, true) })
	for _, manifest := range []string{customersManifest, ordersManifest} {
		if _, _, err := e.CreateTable(t.Context(), shop, []byte(manifest)); err != nil {
			t.Fatal(err)
		}
	}
	cat, err := e.Catalog(shop)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, row schema.Row, idem *engine.Idempotency) {
		t.Helper()
		tbl, _ := cat.Lookup(name)
		p, err := rows.Prepare(tbl, row, nil)
		if err != nil {
			t.Fatal(err)
		}
		commit(idem, func(b *rows.Builder) error { _, err := b.Put(p, rows.Absent()); return err })
	}
	for i := range int64(rowsEach) {
		email := schema.Str(fmt.Sprintf("c%d@example.com", i))
		if i%10 == 0 {
			email = schema.Null()
		}
		put("shop.customers", schema.Row{schema.I64(i), email}, nil)
		put("shop.orders", schema.Row{schema.I64(i), schema.I64(i / 2)}, nil)
	}
	if _, _, err := e.CreateIndex(t.Context(), shop, "shop.customers", table.IndexRecord{Name: "later", Columns: []string{"email", "id"}}); err != nil {
		t.Fatal(err)
	}
	if cat, err = e.Catalog(shop); err != nil {
		t.Fatal(err)
	}
	answer := &engine.Idempotency{Key: "once", Status: 201, Answer: func(lsn.Pos) []byte { return []byte("{}") }}
	put("shop.customers", schema.Row{schema.I64(rowsEach), schema.Null()}, answer)
}

// damaged copies a directory, so that each damage is the only one.
func damaged(t *testing.T, src string) string {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(dst, os.DirFS(src)); err != nil {
		t.Fatal(err)
	}
	return dst
}

// verifyDir runs a verification and requires that it changed nothing.
func verifyDir(t *testing.T, dir string) *Report {
	t.Helper()
	before := contentsOf(t, dir)
	r, err := Run(t.Context(), Options{FS: vfs.Default, DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, contentsOf(t, dir)); diff != "" {
		t.Errorf("the verification changed the directory:\n%s", diff)
	}
	if r.OK != (r.Complete && len(r.Faults) == 0) || r.FoundFaults < uint64(len(r.Faults)) {
		t.Errorf("ok %t with %d faults, %d listed", r.OK, r.FoundFaults, len(r.Faults))
	}
	return r
}

func contentsOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			files[path] = "a directory"
			return err
		}
		text, err := os.ReadFile(path)
		files[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestASoundDirectoryHasNoFaults(t *testing.T) {
	r := verifyDir(t, sound(t))
	if !r.OK {
		t.Fatalf("%d faults: %+v", r.FoundFaults, r.Faults)
	}
	if r.Log.Frames != uint64(r.Log.LastLSN-r.Log.FirstLSN)+1 || r.Log.LastLSN != r.State.LSN || r.Log.Digest != r.State.Digest {
		t.Errorf("log %+v, state %+v", r.Log, r.State)
	}
	want := State{LSN: r.Log.LastLSN, Epoch: r.Log.LastEpoch, Digest: r.Log.Digest, Keys: r.State.Keys, Tenants: 1, Tables: 2,
		Rows: 2*rowsEach + 1, IndexEntries: 3*rowsEach + 2, References: rowsEach}
	if diff := cmp.Diff(want, r.State); diff != "" || r.State.Keys < want.Rows+want.IndexEntries {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}

// TestProgressEndsWhereItWasToldTo: what the phases count is what they announced.
func TestProgressEndsWhereItWasToldTo(t *testing.T) {
	totals, counted, ended := map[string]int64{}, map[string]int64{}, 0
	_, err := Run(t.Context(), Options{FS: vfs.Default, DataDir: sound(t), Begin: func(name, _ string, total int64) (func(int64), func()) {
		totals[name] = total
		return func(n int64) { counted[name] += n }, func() { ended++ }
	}})
	if err != nil || ended != 3 || counted["tables"] != totals["tables"] {
		t.Errorf("%v: announced %v, counted %v, %d ended", err, totals, counted, ended)
	}
	for name, total := range totals { // files have headers, and a few records have no counter
		if counted[name] < total*8/10 || counted[name] > total*12/10 {
			t.Errorf("%s: announced %d, counted %d", name, total, counted[name])
		}
	}
}

func has(r *Report, check string) bool {
	for _, f := range r.Faults {
		if f.Check == check {
			return true
		}
	}
	return false
}

// flip changes one byte of a file.
func flip(t *testing.T, path string, at func(size int64) int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at(int64(len(b)))] ^= 0x10
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("nothing matches %s: %v", pattern, err)
	}
	return found
}

// TestAFlippedByteOfATableFile: every byte of the data that the state needs.
func TestAFlippedByteOfATableFile(t *testing.T) {
	src := sound(t)
	for _, at := range []int64{10, 200, 1000} {
		dir := damaged(t, src)
		flip(t, glob(t, filepath.Join(dir, "state", "*.sst"))[0], func(int64) int64 { return at })
		if r := verifyDir(t, dir); !has(r, CheckState) {
			t.Errorf("byte %d: %+v", at, r.Faults)
		}
	}
}

func TestAFlippedByteOfTheLog(t *testing.T) {
	src := sound(t)
	segments := len(glob(t, filepath.Join(src, "log", "*.log")))
	for i := range segments {
		for _, at := range []func(int64) int64{
			func(int64) int64 { return 40 },            // header
			func(size int64) int64 { return size / 3 }, // frames
			func(size int64) int64 { return size - 9 }, // footer, or the last frame
		} {
			dir := damaged(t, src)
			path := glob(t, filepath.Join(dir, "log", "*.log"))[i]
			flip(t, path, at)
			r := verifyDir(t, dir)
			found := false
			for _, f := range r.Faults {
				found = found || f.Check == CheckLog && strings.Contains(f.Problem, filepath.Base(path)) && f.Do != ""
			}
			if !found {
				t.Errorf("%s: %+v", filepath.Base(path), r.Faults)
			}
		}
	}
}

func TestAMissingSegmentIsAGap(t *testing.T) {
	dir := damaged(t, soundLog(t, 1<<20))
	for i := range byte(2) { // each in a segment of its own
		write(t, dir, true, func(*table.Store, *table.Catalog) []frame.Op {
			return []frame.Op{put(table.RecordKey(shop, table.SpaceIDs, nil), []byte{4 + i, 0, 0, 0}, []byte{3 + i, 0, 0, 0})}
		})
	}
	if r := verifyDir(t, dir); !r.OK || r.Log.Segments != 3 {
		t.Fatalf("%d segments, %+v", r.Log.Segments, r.Faults)
	}
	if err := os.Remove(glob(t, filepath.Join(dir, "log", "*.log"))[1]); err != nil {
		t.Fatal(err)
	}
	if r := verifyDir(t, dir); !has(r, CheckLog) {
		t.Errorf("%+v", r.Faults)
	}
}

// TestAStateBehindTheLogIsNotGreen: as a kill leaves it, and without any. No
// fault is invented, and what was not looked at is not called good.
func TestAStateBehindTheLogIsNotGreen(t *testing.T) {
	dir := damaged(t, soundLog(t, 1<<20))
	d, err := datadir.Open(datadir.Options{FS: vfs.Default, Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	store, err := table.Open(table.Options{FS: vfs.Default, Dir: d.State(), ReadOnly: true, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	at, err := store.Applied()
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	appendFrame(t, d, at, []frame.Op{put(table.RecordKey(shop, table.SpaceIDs, nil), []byte{9, 0, 0, 0}, []byte{3, 0, 0, 0})})
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if r := verifyDir(t, dir); r.OK || r.Complete || r.FoundFaults > 0 || r.State.Behind != 1 {
		t.Errorf("behind by %d: %+v", r.State.Behind, r.Faults)
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "state")), os.Mkdir(filepath.Join(dir, "state"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if r := verifyDir(t, dir); r.OK || r.Complete || r.FoundFaults > 0 || r.State.Keys != 0 || r.State.Behind != uint64(r.Log.LastLSN) {
		t.Errorf("an empty state: %+v %+v", r.State, r.Faults)
	}
	if err := os.Remove(glob(t, filepath.Join(dir, "log", "*.log"))[0]); err != nil {
		t.Fatal(err)
	}
	if r := verifyDir(t, dir); !has(r, CheckDigest) {
		t.Errorf("an empty state, and a log that does not begin at its beginning: %+v", r)
	}
}

// TestAStateOfAnotherHistory: intact by itself, and not what this log makes.
func TestAStateOfAnotherHistory(t *testing.T) {
	one, other := sound(t), sound(t)
	dir := damaged(t, one)
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "state")), os.CopyFS(filepath.Join(dir, "state"), os.DirFS(filepath.Join(other, "state")))); err != nil {
		t.Fatal(err)
	}
	r := verifyDir(t, dir)
	want := []Fault{{Check: CheckDigest, Do: doRebuild}}
	if diff := cmp.Diff(want, r.Faults, cmpopts.IgnoreFields(Fault{}, "Problem")); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestWhatCannotBeVerified(t *testing.T) {
	dir := sound(t)
	d, err := datadir.Open(datadir.Options{FS: vfs.Default, Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), Options{FS: vfs.Default, DataDir: dir}); !errors.Is(err, datadir.ErrLocked) {
		t.Errorf("a directory that is in use: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	nowhere := filepath.Join(t.TempDir(), "nothing")
	if _, err := Run(t.Context(), Options{FS: vfs.Default, DataDir: nowhere}); !errors.Is(err, datadir.ErrForeign) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := os.Stat(nowhere); err == nil {
		t.Error("a directory was made")
	}
	if err := os.Remove(filepath.Join(dir, "LOCK")); err != nil {
		t.Fatal(err)
	}
	if r := verifyDir(t, dir); !r.OK {
		t.Errorf("a copy without a lock: %+v", r.Faults)
	}
	// Stopped in each of its phases.
	for _, phase := range []string{"log", "state", "tables"} {
		ctx, stop := context.WithCancel(t.Context())
		after := 0
		r, err := Run(ctx, Options{FS: vfs.Default, DataDir: dir, Begin: func(name, _ string, _ int64) (func(int64), func()) {
			if name == phase {
				stop()
			}
			return func(int64) {
				if ctx.Err() != nil {
					after++
				}
			}, func() {}
		}})
		stop()
		if !errors.Is(err, context.Canceled) || r.OK || len(r.Faults) != 0 || after > 1 {
			t.Errorf("stopped in %s: %v, %+v; it went on for %d steps", phase, err, r, after)
		}
	}
}
