package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"originchain/shared/archive"
	"originchain/shared/clock"
	"originchain/shared/datadir"
	"originchain/shared/engine"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/simdisk"
	"originchain/shared/table"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func quiet() logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// history is what a line was when it was written: where the state stood after each
// frame, by LSN.
type history []table.Applied

func (h history) at(n lsn.LSN) table.Applied { return h[n-1] }
func (h history) last() lsn.LSN              { return lsn.LSN(len(h)) }

// stamped is the last frame stamped at or before t.
func (h history) stamped(t int64) lsn.LSN {
	n := lsn.LSN(0)
	for i := range h {
		if h[i].Stamp <= t {
			n = h[i].Pos.LSN
		}
	}
	return n
}

// writer is a node that writes an epoch and ships it.
type writer struct {
	t     testing.TB
	fs    *simdisk.Disk
	e     *engine.Engine
	s     *archive.Shipper
	rng   *rand.Rand
	lived history
	stop  context.CancelFunc
	done  chan error
	step  func() time.Duration // of the wall clock, away from the bubble's
}

// begin opens a disk as the writer of an epoch, whose history so far is lived.
func begin(t testing.TB, fs *simdisk.Disk, store object.Store, dir string, epoch lsn.Epoch, lived history, step func() time.Duration) *writer {
	t.Helper()
	w := &writer{t: t, fs: fs, rng: rand.New(rand.NewPCG(uint64(epoch), 3)), lived: append(history{}, lived...), step: step}
	wall := func() int64 { return time.Now().Add(step()).UnixMicro() }
	deps := engine.Deps{
		FS: fs, Log: quiet(), Clock: clock.New(clock.Config{Wall: wall}), NoPreallocate: true,
		TakeEpoch: func(context.Context, datadir.Identity, lsn.Pos, func(lsn.Epoch) (lsn.Epoch, error)) (lsn.Epoch, error) {
			return epoch, nil
		},
	}
	var err error
	w.e, err = engine.Open(t.Context(), engine.Config{DataDir: dir, SegmentBytes: 8 << 10, MemtableBytes: 64 << 10, CacheBytes: 1 << 20, Shared: true}, deps)
	must(t, err)
	w.note()
	w.s, err = archive.NewShipper(archive.Config{Instance: w.e.Identity().InstanceID, Epoch: epoch, Node: w.e.Identity().NodeID, Region: "here", Tail: true},
		archive.Deps{Store: store, Log: w.e.Log(), FS: fs, Logger: quiet()})
	must(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	w.stop, w.done = cancel, make(chan error, 2)
	go func() { w.done <- w.e.Run(ctx) }()
	go func() { w.done <- w.s.Run(ctx) }()
	return w
}

// note takes note of where the state stands.
func (w *writer) note() {
	w.t.Helper()
	at, err := w.e.Applied()
	must(w.t, err)
	if at.Pos.LSN == w.lived.last() {
		return
	}
	if at.Pos.LSN != w.lived.last()+1 {
		w.t.Fatalf("LSN %d came after %d", at.Pos.LSN, w.lived.last())
	}
	w.lived = append(w.lived, at)
}

func (w *writer) create() {
	w.t.Helper()
	_, _, err := w.e.CreateTable(w.t.Context(), tenant, []byte(itemsManifest))
	must(w.t, err)
	w.note()
}

// write makes frames, and lets time pass between them.
func (w *writer) write(frames int) {
	w.t.Helper()
	for range frames {
		time.Sleep(time.Duration(w.rng.IntN(900)) * time.Millisecond)
		must(w.t, w.put(int64(w.rng.IntN(60)), fmt.Sprintf("%d-%s", w.lived.last(), strings.Repeat("x", w.rng.IntN(300)))))
		w.note()
	}
}

func (w *writer) put(id int64, name string) error {
	cat, err := w.e.Catalog(tenant)
	if err != nil {
		return err
	}
	tbl, err := cat.Table("shop.items")
	if err != nil {
		return err
	}
	p, err := rows.Prepare(tbl, schema.Row{schema.I64(id), schema.Str(name)}, nil)
	if err != nil {
		return err
	}
	_, err = w.e.Commit(w.t.Context(), engine.Proposal{Tenant: tenant, Build: func(b *rows.Builder) error {
		_, err := b.Put(p, rows.Expect{})
		return err
	}})
	return err
}

// checkpoint ships one of the state as it is.
func (w *writer) checkpoint() lsn.LSN {
	w.t.Helper()
	const dir = "shipped-copy"
	must(w.t, ignoreMissing(w.fs.RemoveAll(dir)))
	at, err := w.e.CopyState(dir)
	must(w.t, err)
	_, err = w.s.ShipCheckpoint(w.t.Context(), dir, at, w.e.Durable)
	must(w.t, err)
	return at.Pos.LSN
}

// end stops the node; all that it wrote is in the archive.
func (w *writer) end() {
	w.t.Helper()
	time.Sleep(2 * time.Minute) // its last part is shipped
	w.stop()
	must(w.t, errors.Join(<-w.done, <-w.done))
	must(w.t, w.e.Close())
}

// workload is the archive of an instance whose history forks twice: epoch 2 goes on
// behind the last frame of epoch 1, epoch 3 further below.
type workload struct {
	store *object.Memory
	lines map[lsn.Epoch]history
	// checkpoints are their LSNs by line.
	checkpoints map[lsn.Epoch][]lsn.LSN
}

func straight() time.Duration { return 0 }

// record writes the workload. It is to run in a bubble.
func record(t testing.TB, frames int) *workload {
	t.Helper()
	w := &workload{store: object.NewMemory("archive"), lines: map[lsn.Epoch]history{}, checkpoints: map[lsn.Epoch][]lsn.LSN{}}
	first := begin(t, simdisk.New(), w.store, "data", 1, nil, straight)
	first.create()
	first.write(frames)
	w.checkpoints[1] = append(w.checkpoints[1], first.checkpoint())
	first.write(frames / 2)
	below, fork := first.fs.KillClone(), first.lived
	first.write(frames / 2)
	w.checkpoints[1] = append(w.checkpoints[1], first.checkpoint())
	first.write(frames / 3)
	above := first.fs.KillClone()
	second := begin(t, above, w.store, "data", 2, first.lived, straight)
	first.stopQuietly()
	second.write(frames)
	w.checkpoints[2] = append(w.checkpoints[2], second.checkpoint())
	second.write(frames / 2)
	third := begin(t, below, w.store, "data", 3, fork, straight)
	second.stopQuietly()
	third.write(frames)
	w.checkpoints[3] = append(w.checkpoints[3], third.checkpoint())
	third.write(frames / 2)
	third.end()
	w.lines[1], w.lines[2], w.lines[3] = first.lived, second.lived, third.lived
	return w
}

// stopQuietly ends a node that a higher epoch has fenced.
func (w *writer) stopQuietly() {
	w.t.Helper()
	time.Sleep(2 * time.Minute)
	w.stop()
	<-w.done
	<-w.done
	must(w.t, w.e.Close())
}

// options are those of a restore to disk.
func options(store object.Store, fs vfs.FS, req Request) Options {
	return Options{Store: store, Request: req, FS: fs, DataDir: "/restored", NodeID: "node-r", CacheBytes: 1 << 20, MemtableBytes: 256 << 10}
}

// bubble runs f in one.
func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

func openEngineWith(disk *simdisk.Disk, shared bool) (*engine.Engine, error) {
	return engine.Open(context.Background(), engine.Config{DataDir: "/restored", Shared: shared, MemtableBytes: 64 << 10, CacheBytes: 1 << 20},
		engine.Deps{FS: disk, Log: quiet(), Clock: clock.New(clock.Config{}), NoPreallocate: true})
}

func openEngine(t testing.TB, disk *simdisk.Disk, shared bool) *engine.Engine {
	t.Helper()
	e, err := openEngineWith(disk, shared)
	must(t, err)
	return e
}
