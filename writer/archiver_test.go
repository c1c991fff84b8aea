package writer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"originchain/shared/api"
	"originchain/shared/archive"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/objecttest"
	"originchain/shared/simdisk"
	"originchain/test/output"
)

// archived ships to a store, all the time.
func archived(store object.Store) option {
	return func(c *Config, _ *Deps) {
		c.Region = "here"
		c.Engine.SegmentBytes = 64 << 10
		c.Archive = Archiving{Store: store, Tail: true, TailWindow: 10 * time.Millisecond, CheckpointEvery: time.Hour, Retention: time.Hour}
	}
}

// becomes waits for something that the archive does beside the requests.
func becomes(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func (n *node) archiveOf() (out api.Archive) {
	n.t.Helper()
	a := n.admin("GET", "/archive", "").want(200)
	if err := json.Unmarshal([]byte(a.body), &out); err != nil {
		n.t.Fatal(err)
	}
	return out
}

func (n *node) fill(from, to int) {
	n.t.Helper()
	for i := from; i < to; i++ {
		n.call("PUT", fmt.Sprintf("/rows/shop.items/%d", i), fmt.Sprintf(`{"id":"%d","name":%q}`, i, strings.Repeat("x", 600)+fmt.Sprint(i))).want(200)
	}
}

const archivedManifest = `namespace = "shop"
table = "items"
primary_key = ["id"]
version = 1
[[columns]]
name = "id"
ty = "str"
required = true
[[columns]]
name = "name"
ty = "str"
`

func TestAWriterArchivesWhatItWrites(t *testing.T) {
	store := object.NewMemory("memory")
	n := start(t, archived(store))
	n.register(archivedManifest)
	n.fill(0, 300)
	last := uint64(n.w.Visible().LSN)
	becomes(t, "all is recoverable", func() bool {
		a := n.w.Shell.archiver.Load()
		return a != nil && a.shipper.Status().RecoverableLSN >= last && a.shipper.ShippedLSN() > 0
	})
	var made api.ShippedCheckpoint
	if err := json.Unmarshal([]byte(n.admin("POST", "/checkpoint", "").want(200).body), &made); err != nil || made.LSN < last || made.Epoch != 1 || len(made.Digest) != 32 {
		t.Errorf("the checkpoint: %+v %v", made, err)
	}
	out := n.archiveOf()
	kinds := map[string]int{}
	for _, x := range out.Segments {
		kinds[x.Kind]++
		if x.Key == "" || x.SizeBytes == 0 || x.LSNEnd < x.LSNStart || (x.Kind == "checkpoint" && (x.SHA256 == nil || x.SealedAt == nil)) {
			t.Errorf("%+v", x)
		}
	}
	if kinds["segment"] == 0 || kinds["checkpoint"] != 1 || out.TailStatus != "active" || out.RPOSeconds == nil {
		t.Errorf("%v %+v", kinds, out)
	}
	if got := n.admin("GET", "/archive?limit=1", "").want(200); strings.Count(got.body, `"key"`) != 1 {
		t.Errorf("limit=1: %s", got.body)
	}
	n.admin("GET", "/archive?limit=0", "").refused(400, "validation_failed")

	if s := n.admin("POST", "/archive/tail/pause", "").want(200).str("tail_status"); s != "paused" || n.archiveOf().TailStatus != "paused" {
		t.Errorf("paused: %s", s)
	}
	if s := n.admin("POST", "/archive/tail/resume", "").want(200).str("tail_status"); s != "active" {
		t.Errorf("resumed: %s", s)
	}
	ready := n.do(t.Context(), "", "GET", "/ready", nil).want(200)
	if !strings.Contains(ready.body, `"archive":{"ok":true`) {
		t.Errorf("/ready: %s", ready.body)
	}
}

// An archive that is away keeps nobody from writing, and loses nothing: the log
// stays, /ready says so, and all of it is there when the archive is back.
func TestAnArchiveThatIsAwayHoldsTheLog(t *testing.T) {
	store := objecttest.NewFaulty(object.NewMemory("memory"), 1)
	n := start(t, archived(store))
	n.register(archivedManifest)
	becomes(t, "the archive is connected", func() bool { return n.w.Shell.archiver.Load().shipper.Status().Connected })
	store.SetAway(true)
	n.fill(0, 600)
	first := n.w.own.Log().FirstLSN()
	becomes(t, "/ready says that the archive is away", func() bool {
		body := n.do(t.Context(), "", "GET", "/ready", nil).want(200).body
		return strings.Contains(body, `"archive":{"ok":false,"degraded":true`)
	})
	if first > 1 {
		t.Fatalf("the log begins at LSN %d, and nothing was shipped", first)
	}
	n.admin("GET", "/archive", "").refused(503, "not_ready")
	store.SetAway(false)
	last := uint64(n.w.Visible().LSN)
	becomes(t, "all is in the archive", func() bool { return n.w.Shell.archiver.Load().shipper.Status().RecoverableLSN >= last })
	becomes(t, "what is shipped goes", func() bool {
		n.fill(600, 700)
		return n.w.own.Log().FirstLSN() > 1
	})
}

// Where there is no record, the archive tells two writers of one instance apart.
func TestTheArchiveAllotsEpochs(t *testing.T) {
	store := object.NewMemory("memory")
	disk := simdisk.New()
	n := open(t, disk, archived(store))
	n.tenant, n.token = n.newTenant(`{}`)
	n.register(archivedManifest)
	// A copy of the directory is opened as a writer elsewhere.
	twin := open(t, disk.KillClone(), archived(store))
	if n.w.own.Epoch() != 1 || twin.w.own.Epoch() != 2 {
		t.Fatalf("epochs %d and %d", n.w.own.Epoch(), twin.w.own.Epoch())
	}
	err := n.ended()
	var other *MustFollowError
	if !errors.As(err, &other) || !strings.Contains(err.Error(), "epoch 2") {
		t.Fatalf("the first writer ended with %v", err)
	}
	n.call("PUT", "/rows/shop.items/1", `{"id":"1","name":"of a zombie"}`).refused(503, "fenced")
	if err := n.w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAnEmptyDirectoryIsNoWriterOfAnArchivedInstance(t *testing.T) {
	store := object.NewMemory("memory")
	n := start(t, archived(store))
	n.register(archivedManifest)
	becomes(t, "something is shipped", func() bool { return n.w.Shell.archiver.Load().shipper.Status().RecoverableLSN > 0 })
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	shell := func(o ...option) error {
		cfg, deps := Config{}, Deps{}
		for _, f := range append([]option{func(c *Config, d *Deps) { *c, *d = n.w.cfg, n.w.deps }}, o...) {
			f(&cfg, &deps)
		}
		cfg.FailureGrace = time.Millisecond
		n.metrics = nil
		s := &Shell{cfg: cfg, deps: deps, metrics: n.w.metrics, opened: make(chan struct{}), health: newHealth(time.Now(), cfg.StuckAfter)}
		s.SetRole(alone{})
		w := NewWriter(s, Replication{})
		err := w.Run(context.Background())
		return errors.Join(err, w.Close())
	}
	err := shell(func(c *Config, d *Deps) { d.FS = simdisk.New() })
	if !errors.Is(err, ErrArchived) || !strings.Contains(err.Error(), "oc-pitr restore") {
		t.Fatalf("an empty directory: %v", err)
	}
	// The archive of another instance is no place for a directory with data.
	foreign := object.NewMemory("memory")
	other := start(t, archived(foreign))
	other.register(archivedManifest)
	becomes(t, "something is shipped", func() bool { return other.w.Shell.archiver.Load().shipper.Status().RecoverableLSN > 0 })
	err = shell(func(c *Config, _ *Deps) { c.Archive.Store = foreign })
	var theirs *archive.ForeignError
	if !errors.As(err, &theirs) {
		t.Fatalf("another instance's archive: %v", err)
	}
}

func TestWithoutAnArchive(t *testing.T) {
	n := start(t)
	out := n.archiveOf()
	if len(out.Segments) != 0 || out.TailStatus != "off" || out.RPOSeconds != nil {
		t.Errorf("%+v", out)
	}
	for _, path := range []string{"/checkpoint", "/archive/tail/pause", "/archive/tail/resume"} {
		n.admin("POST", path, "").refused(404, "not_found")
	}
}

// A writer that is stopped ships its last window first, and one whose archive is away
// says from where on its frames are on it alone.
func TestAStopShipsTheLastWindow(t *testing.T) {
	seldom := func(c *Config, _ *Deps) { c.Archive.TailWindow = time.Hour }
	store := object.NewMemory("memory")
	disk := simdisk.New()
	faulty := objecttest.NewFaulty(store, 1)
	var logs output.Output
	n := open(t, disk, archived(faulty), seldom, func(_ *Config, d *Deps) { d.Log.SetOutput(&logs) })
	n.tenant, n.token = n.newTenant(`{}`)
	n.register(archivedManifest)
	becomes(t, "the archive is found", func() bool { return n.w.Shell.archiver.Load().shipper.Status().Connected })
	n.fill(0, 5)
	last := n.w.Visible().LSN
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	recoverable := func() lsn.LSN {
		t.Helper()
		survey, err := archive.New(store).Survey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		line, _ := survey.Line(survey.Newest())
		return line.Recoverable()
	}
	if got := recoverable(); got != last || strings.Contains(logs.Take(), "on this node alone") {
		t.Errorf("the archive is recoverable to %d, the log ended at %d: %s", got, last, logs.Take())
	}

	n = open(t, disk, archived(faulty), seldom, func(_ *Config, d *Deps) { d.Log.SetOutput(&logs) })
	becomes(t, "the archive is found", func() bool { return n.w.Shell.archiver.Load().shipper.Status().Connected })
	n.admin("POST", "/archive/tail/pause", "").want(200)
	n.tenant, n.token = n.newTenant(`{}`)
	ended := n.w.Visible().LSN
	began := time.Now()
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if text := logs.Take(); !strings.Contains(text, "on this node alone") || !strings.Contains(text, fmt.Sprintf("to_lsn=%d", ended)) || time.Since(began) > shipGrace {
		t.Errorf("after %s: %s", time.Since(began), text)
	}
}
