package pitr

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/archive"
	"originchain/shared/clock"
	"originchain/shared/engine"
	"originchain/shared/lsn"
	"originchain/shared/object"
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

// History is what a line was when it was written: where the state stood after each
// frame, by LSN.
type History []table.Applied

// At is where the state stood after frame n.
func (h History) At(n lsn.LSN) table.Applied { return h[n-1] }

// Last is the last frame.
func (h History) Last() lsn.LSN { return lsn.LSN(len(h)) }

// Stamped is the last frame stamped at or before t.
func (h History) Stamped(t int64) lsn.LSN {
	n := lsn.LSN(0)
	for i := range h {
		if h[i].Stamp <= t {
			n = h[i].Pos.LSN
		}
	}
	return n
}

// Writer is a node that writes an epoch and ships it.
type Writer struct {
	t      testing.TB
	Disk   *simdisk.Disk
	Engine *engine.Engine
	s      *archive.Shipper
	rng    *rand.Rand
	Lived  History
	stop   context.CancelFunc
	done   chan error
	step   func() time.Duration // of the wall clock, away from the bubble's
}

// Begin opens a disk as the writer of an epoch, whose history so far is lived.
func Begin(t testing.TB, fs *simdisk.Disk, store object.Store, dir string, epoch lsn.Epoch, lived History, step func() time.Duration) *Writer {
	t.Helper()
	w := &Writer{t: t, Disk: fs, rng: rand.New(rand.NewPCG(uint64(epoch), 3)), Lived: append(History{}, lived...), step: step}
	wall := func() int64 { return time.Now().Add(step()).UnixMicro() }
	deps := engine.Deps{
		FS: fs, Log: quiet(), Clock: clock.New(clock.Config{Wall: wall}), NoPreallocate: true,
		TakeEpoch: func(context.Context, engine.Opening) (lsn.Epoch, error) {
			return epoch, nil
		},
	}
	var err error
	w.Engine, err = engine.Open(t.Context(), engine.Config{DataDir: dir, SegmentBytes: 8 << 10, MemtableBytes: 64 << 10, CacheBytes: 1 << 20, Shared: true}, deps)
	must(t, err)
	w.note()
	purges, err := w.Engine.Purges()
	must(t, err)
	w.s, err = archive.NewShipper(archive.Config{Instance: w.Engine.Identity().InstanceID, Epoch: epoch, Node: w.Engine.Identity().NodeID, Region: "here", Tail: true, Purges: purges},
		archive.Deps{Store: store, Log: w.Engine.Log(), FS: fs, Logger: quiet()})
	must(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	w.stop, w.done = cancel, make(chan error, 2)
	go func() { w.done <- w.Engine.Run(ctx) }()
	go func() { w.done <- w.s.Run(ctx) }()
	return w
}

// note takes note of where the state stands.
func (w *Writer) note() {
	w.t.Helper()
	at, err := w.Engine.Applied()
	must(w.t, err)
	if at.Pos.LSN == w.Lived.Last() {
		return
	}
	if at.Pos.LSN != w.Lived.Last()+1 {
		w.t.Fatalf("LSN %d came after %d", at.Pos.LSN, w.Lived.Last())
	}
	w.Lived = append(w.Lived, at)
}

// Create makes the table that Write fills.
func (w *Writer) Create() {
	w.t.Helper()
	_, _, err := w.Engine.CreateTable(w.t.Context(), tenant, []byte(itemsManifest))
	must(w.t, err)
	w.note()
}

// Write makes frames, and lets time pass between them.
func (w *Writer) Write(frames int) {
	w.t.Helper()
	for range frames {
		time.Sleep(time.Duration(w.rng.IntN(900)) * time.Millisecond)
		must(w.t, w.put(int64(w.rng.IntN(60)), fmt.Sprintf("%d-%s", w.Lived.Last(), strings.Repeat("x", w.rng.IntN(300)))))
		w.note()
	}
}

func (w *Writer) put(id int64, name string) error {
	cat, err := w.Engine.Catalog(tenant)
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
	_, err = w.Engine.Commit(w.t.Context(), engine.Proposal{Tenant: tenant, Build: func(b *rows.Builder) error {
		_, err := b.Put(p, rows.Expect{})
		return err
	}})
	return err
}

// Checkpoint ships one of the state as it is.
func (w *Writer) Checkpoint() lsn.LSN { return w.checkpoint(func(string) {}) }

// checkpoint ships one after spoil had its way with the copy of the state.
func (w *Writer) checkpoint(spoil func(dir string)) lsn.LSN {
	w.t.Helper()
	const dir = "shipped-copy"
	if err := w.Disk.RemoveAll(dir); !errors.Is(err, iofs.ErrNotExist) {
		must(w.t, err)
	}
	at, err := w.Engine.CopyState(dir)
	must(w.t, err)
	spoil(dir)
	_, err = w.s.ShipCheckpoint(w.t.Context(), dir, at, w.Engine.Durable)
	must(w.t, err)
	return at.Pos.LSN
}

// settle waits until its last part is shipped.
func (w *Writer) settle() { time.Sleep(2 * time.Minute) }

// End stops the node; all that it wrote is in the archive.
func (w *Writer) End() {
	w.t.Helper()
	w.settle()
	w.stop()
	must(w.t, errors.Join(<-w.done, <-w.done))
	must(w.t, w.Engine.Close())
}

// Workload is the archive of an instance whose history forks twice: epoch 2 goes on
// behind the last frame of epoch 1, epoch 3 further below.
type Workload struct {
	Store object.Store
	Lines map[lsn.Epoch]History
	// Checkpoints are their LSNs by line.
	Checkpoints map[lsn.Epoch][]lsn.LSN
}

// Straight is a wall clock that is never stepped.
func Straight() time.Duration { return 0 }

// Record writes the workload. It is to run in a bubble.
func Record(t testing.TB, store object.Store, frames int) *Workload {
	t.Helper()
	w := &Workload{Store: store, Lines: map[lsn.Epoch]History{}, Checkpoints: map[lsn.Epoch][]lsn.LSN{}}
	first := Begin(t, simdisk.New(), w.Store, "data", 1, nil, Straight)
	first.Create()
	first.Write(frames)
	w.Checkpoints[1] = append(w.Checkpoints[1], first.Checkpoint())
	first.Write(frames / 2)
	below, fork := first.Disk.KillClone(), first.Lived
	first.Write(frames / 2)
	w.Checkpoints[1] = append(w.Checkpoints[1], first.Checkpoint())
	first.Write(frames / 3)
	above := first.Disk.KillClone()
	first.settle()
	second := Begin(t, above, w.Store, "data", 2, first.Lived, Straight)
	first.StopQuietly()
	second.Write(frames)
	w.Checkpoints[2] = append(w.Checkpoints[2], second.Checkpoint())
	second.Write(frames / 2)
	second.settle()
	third := Begin(t, below, w.Store, "data", 3, fork, Straight)
	second.StopQuietly()
	third.Write(frames)
	w.Checkpoints[3] = append(w.Checkpoints[3], third.Checkpoint())
	third.Write(frames / 2)
	third.End()
	w.Lines[1], w.Lines[2], w.Lines[3] = first.Lived, second.Lived, third.Lived
	return w
}

// StopQuietly ends a node that a higher epoch has fenced.
func (w *Writer) StopQuietly() {
	w.t.Helper()
	time.Sleep(2 * time.Minute)
	w.stop()
	<-w.done
	<-w.done
	must(w.t, w.Engine.Close())
}

// bubble runs f in one: it ends when all goroutines have.
func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }
