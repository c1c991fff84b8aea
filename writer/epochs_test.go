package writer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/archive"
	"originchain/shared/datadir"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/objecttest"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
	"originchain/test/output"
)

// folder is an archive in a folder.
func folder(t *testing.T) object.Store {
	return object.NewFolder(filepath.Join(t.TempDir(), "archive"))
}

func named(node string) option {
	return func(c *Config, _ *Deps) { c.Engine.NodeID, c.Engine.Shared = node, true }
}

// highest is the newest epoch that the archive knows.
func highest(t *testing.T, store object.Store) lsn.Epoch {
	t.Helper()
	e, err := archive.New(store).HighestEpoch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// fenced requires that a start ends because the archive knows of another writer, and
// that it takes no epoch.
func fenced(t *testing.T, fs vfs.FS, store object.Store, opts ...option) {
	t.Helper()
	before := highest(t, store)
	n := launch(t, fs, Replication{}, append([]option{archived(store)}, opts...)...)
	err := n.opened()
	var other *MustFollowError
	if !errors.As(err, &other) || !strings.Contains(err.Error(), fmt.Sprintf("epoch %d", before)) {
		t.Errorf("the start ended with %v", err)
	}
	n.do(t.Context(), "", "GET", "/v1/topology", nil).refused(503, "fenced")
	if err := n.stop(); err != nil {
		t.Error(err)
	}
	if got := highest(t, store); got != before {
		t.Errorf("the archive's epoch went from %d to %d", before, got)
	}
}

// restarts starts a writer and stops it again, some times, and requires an epoch of
// its own each time.
func restarts(t *testing.T, times int, fs vfs.FS, store object.Store, opts ...option) {
	t.Helper()
	for range times {
		before := highest(t, store)
		n := open(t, fs, append([]option{archived(store)}, opts...)...)
		n.shippedAll()
		if got := n.w.own.Epoch(); got <= before || got != highest(t, store) {
			t.Errorf("it took epoch %d, the archive was at %d and is at %d", got, before, highest(t, store))
		}
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// shippedAll waits until the archive has all frames of a node.
func (n *node) shippedAll() {
	n.t.Helper()
	last := uint64(n.w.Visible().LSN)
	becomes(n.t.(*testing.T), "all is recoverable", func() bool {
		return n.w.Shell.archiver.Load().shipper.Status().RecoverableLSN >= last
	})
}

// restored is a copy of what an archive has up to an LSN (0: all), as node-2.
func restored(t *testing.T, store object.Store, at lsn.LSN) *simdisk.Disk {
	t.Helper()
	disk := simdisk.New()
	_, err := restore.Run(t.Context(), restore.Options{
		Store: store, Request: restore.Request{LSN: at, Latest: at == 0}, FS: disk, DataDir: "/data", NodeID: "node-2",
		CacheBytes: 1 << 20, MemtableBytes: 256 << 10,
	})
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

func accept(t *testing.T, disk *simdisk.Disk, store object.Store, ends lsn.Epoch) datadir.Acceptance {
	t.Helper()
	got, err := restore.Accept(t.Context(), restore.Acceptance{FS: disk, DataDir: "/data", Archive: store, Region: "here", Ends: ends})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// A copy that was accepted ends the writer before for good: however often both are
// started, the copy gets its epochs and the old writer none.
func TestAnAcceptedCopyEndsTheWriterBeforeForGood(t *testing.T) {
	store := folder(t)
	disk := simdisk.New()
	n := open(t, disk, archived(store))
	n.tenant, n.token = n.newTenant(`{}`)
	n.register(archivedManifest)
	n.fill(0, 20)
	n.shippedAll()
	target := n.w.Visible().LSN
	n.fill(20, 200)
	n.shippedAll()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	restarts(t, 3, disk, store)

	// It ends below the archive's end of the line: it branches there.
	copied := restored(t, store, target)
	accept(t, copied, store, highest(t, store))
	fenced(t, disk, store)
	early := copied.KillClone()
	restarts(t, 1, copied, store, named("node-2"))
	// The decision counts once: a copy of the accepted directory is none.
	fenced(t, early, store, named("node-2"))
	for range 3 {
		fenced(t, disk, store)
		restarts(t, 2, copied, store, named("node-2"))
	}
	fenced(t, early, store, named("node-2"))
	m := open(t, copied, archived(store), named("node-2"))
	m.tenant, m.token = n.tenant, n.token
	m.call("GET", "/rows/shop.items/19", "").want(200)
	m.call("GET", "/rows/shop.items/20", "").want(404)
	m.fill(20, 40)
	m.shippedAll()
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	fenced(t, disk, store)
}

// Of two directories with the same node id and the same log, the first that is
// started has the instance from then on.
func TestACopiedDirectoryTakesOverOnce(t *testing.T) {
	store := folder(t)
	disk := simdisk.New()
	n := open(t, disk, archived(store))
	n.tenant, n.token = n.newTenant(`{}`)
	n.register(archivedManifest)
	n.shippedAll()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	twin := disk.KillClone()
	restarts(t, 2, twin, store)
	for range 3 {
		fenced(t, disk, store)
		restarts(t, 1, twin, store)
	}
}

// hooked calls after when an object was created.
type hooked struct {
	object.Store
	after func(key string)
}

func (h *hooked) Put(ctx context.Context, key string, body object.Body) error {
	err := h.Store.Put(ctx, key, body)
	if err == nil && h.after != nil {
		h.after(key)
		_, err = h.List(ctx, "epochs/", "", 1) // what the answer goes through
	}
	return err
}

// A node that is killed between taking an epoch and writing its first frame takes a
// next one, as often as that happens; and of two nodes that come out of the same
// moment one alone goes on.
func TestAnEpochWithoutAFrameIsItsNodes(t *testing.T) {
	store := &hooked{Store: folder(t)}
	disk := simdisk.New()
	n := open(t, disk, archived(store))
	n.tenant, n.token = n.newTenant(`{}`)
	n.register(archivedManifest)
	n.shippedAll()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	var died *simdisk.Disk
	store.after = func(key string) {
		if strings.HasPrefix(key, "epochs/") && died == nil {
			died = disk.KillClone()
		}
	}
	for range 3 {
		died = nil
		restarts(t, 1, disk, store)
		if died == nil {
			t.Fatal("no epoch was taken")
		}
		// What went on has the instance, and what stood still has not.
		fenced(t, died, store)
	}
	// And now nobody goes on: each life ends between the two.
	away := objecttest.NewFaulty(store.Store, 1)
	store.Store = away
	for range 3 {
		before := highest(t, store)
		store.after = func(key string) { away.SetAway(strings.HasPrefix(key, "epochs/")) }
		lost := launch(t, disk, Replication{}, archived(store))
		becomes(t, "the epoch is taken", func() bool {
			return strings.Contains(lost.do(t.Context(), "", "GET", "/ready", nil).body, "no route")
		})
		if err := lost.stop(); err == nil {
			t.Error("a start that had no epoch ended without an error")
		}
		away.SetAway(false)
		if got := highest(t, store); got != before+1 {
			t.Fatalf("the archive went from epoch %d to %d", before, got)
		}
	}
	store.after = nil
	restarts(t, 2, disk, store)
}

// A log that has lost what the archive has of it is no writer's: the frames would be
// given up in silence.
func TestALogThatEndsBelowTheArchiveIsNoWriter(t *testing.T) {
	store := folder(t)
	disk := simdisk.New()
	n := open(t, disk, archived(store))
	n.tenant, n.token = n.newTenant(`{}`)
	n.register(archivedManifest)
	n.shippedAll()
	snapshot := disk.KillClone()
	n.fill(0, 5)
	n.shippedAll()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		m := launch(t, snapshot, Replication{}, archived(store))
		err := m.opened()
		var behind *archive.BehindError
		if !errors.As(err, &behind) || !strings.Contains(err.Error(), "oc-pitr restore") {
			t.Errorf("the start ended with %v", err)
		}
		if err := m.stop(); err != nil {
			t.Error(err)
		}
		if got := highest(t, store); got != 1 {
			t.Errorf("it took epoch %d", got)
		}
	}
	restarts(t, 2, disk, store)
}

// An archive that is away decides nothing: the node waits, says for what, and is
// refused when the archive is back.
func TestAStartSaysThatItWaitsForTheArchive(t *testing.T) {
	memory := object.NewMemory("memory")
	disk := simdisk.New()
	n := open(t, disk, archived(memory))
	n.tenant, n.token = n.newTenant(`{}`)
	n.register(archivedManifest)
	n.shippedAll()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	twin := disk.KillClone()
	restarts(t, 1, twin, memory)
	store := objecttest.NewFaulty(memory, 1)
	store.SetAway(true)
	var logs output.Output
	m := launch(t, disk, Replication{}, archived(store), func(_ *Config, d *Deps) { d.Log.SetOutput(&logs) })
	becomes(t, "/ready says what the start waits for", func() bool {
		body := m.do(t.Context(), "", "GET", "/ready", nil).want(503).body
		return strings.Contains(body, `"archive":{"ok":false,"detail":"the start waits for the archive`) && strings.Contains(body, "no route")
	})
	if text := logs.Take(); !strings.Contains(text, "waits for the archive") || !strings.Contains(text, "no route") {
		t.Errorf("the log: %s", text)
	}
	m.do(t.Context(), "", "GET", "/v1/topology", nil).refused(503, "not_ready")
	store.SetAway(false)
	var other *MustFollowError
	if err := m.opened(); !errors.As(err, &other) {
		t.Errorf("the start ended with %v", err)
	}
	if body := m.do(t.Context(), "", "GET", "/ready", nil).body; strings.Contains(body, "waits for the archive") {
		t.Errorf("it has not waited for long: %s", body)
	}
}
