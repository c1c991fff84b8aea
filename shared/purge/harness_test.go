package purge_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"originchain/shared/archive"
	"originchain/shared/clock"
	"originchain/shared/engine"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/purge"
	"originchain/shared/restore"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/simdisk"
	"originchain/shared/table"
)

var (
	tenantA = ulid.MustParse("01JADE0000000000000000000A")
	tenantB = ulid.MustParse("01JADE0000000000000000000B")
)

// mark is in every key of the subject's, and with a key in every pair: it does not compress.
const mark = "q7Zr0Xk2Vb9TfLw3"

const peopleManifest = `
namespace = "shop"
table = "people"
primary_key = ["region", "name"]
[[columns]]
name = "region"
ty = "u64"
[[columns]]
name = "name"
ty = "str"
[[columns]]
name = "mail"
ty = "str"
[[columns]]
name = "city"
ty = "str"
[[indexes]]
name = "by_mail"
columns = ["mail"]
unique = true
[[indexes]]
name = "by_city"
columns = ["city", "region"]
`

const notesManifest = `
namespace = "shop"
table = "notes"
primary_key = ["id"]
[[columns]]
name = "id"
ty = "str"
[[columns]]
name = "text"
ty = "str"
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

// bubble runs f in one: it ends when all goroutines have.
func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

// node is a writer that ships what it writes.
type node struct {
	t      testing.TB
	disk   *simdisk.Disk
	store  object.Store
	dir    string
	engine *engine.Engine
	s      *archive.Shipper
	stop   context.CancelFunc
	done   chan error
	// last are the states after each frame that this node wrote.
	last lsn.LSN
}

func start(t testing.TB, disk *simdisk.Disk, store object.Store, dir string, epoch lsn.Epoch) *node {
	t.Helper()
	n := &node{t: t, disk: disk, store: store, dir: dir}
	deps := engine.Deps{
		FS: disk, Log: quiet(), Clock: clock.New(clock.Config{}), NoPreallocate: true,
		TakeEpoch: func(context.Context, engine.Opening) (lsn.Epoch, error) { return epoch, nil },
	}
	var err error
	n.engine, err = engine.Open(t.Context(), engine.Config{DataDir: dir, SegmentBytes: 6 << 10, MemtableBytes: 64 << 10, CacheBytes: 1 << 20, Shared: true}, deps)
	must(t, err)
	purges, err := n.engine.Purges()
	must(t, err)
	id := n.engine.Identity()
	n.s, err = archive.NewShipper(archive.Config{Instance: id.InstanceID, Epoch: epoch, Node: id.NodeID, Region: "here", Tail: true, Purges: purges},
		archive.Deps{Store: store, Log: n.engine.Log(), FS: disk, Logger: quiet()})
	must(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	n.stop, n.done = cancel, make(chan error, 2)
	go func() { n.done <- n.engine.Run(ctx) }()
	go func() { n.done <- n.s.Run(ctx) }()
	<-time.After(time.Second) // to find the archive, without which no checkpoint is shipped
	return n
}

// create makes the tables of both tenants.
func (n *node) create() {
	n.t.Helper()
	for _, tenant := range []ulid.ULID{tenantA, tenantB} {
		for _, m := range []string{peopleManifest, notesManifest} {
			_, _, err := n.engine.CreateTable(n.t.Context(), tenant, []byte(m))
			must(n.t, err)
		}
	}
}

// write commits a frame, with an answer stored if key is not "".
func (n *node) write(tenant ulid.ULID, key, answer string, build func(b *rows.Builder, table func(string) *table.Table) error) {
	n.t.Helper()
	cat, err := n.engine.Catalog(tenant)
	must(n.t, err)
	of := func(name string) *table.Table {
		tbl, err := cat.Table("shop." + name)
		must(n.t, err)
		return tbl
	}
	var idem *engine.Idempotency
	if key != "" {
		idem = &engine.Idempotency{Key: key, Request: sha256.Sum256([]byte(key)), Status: 200, Answer: func(lsn.Pos) []byte { return []byte(answer) }}
	}
	_, err = n.engine.Commit(n.t.Context(), engine.Proposal{Tenant: tenant, Idem: idem, Build: func(b *rows.Builder) error { return build(b, of) }})
	must(n.t, err)
}

func put(b *rows.Builder, t *table.Table, values ...schema.Value) error {
	p, err := rows.Prepare(t, values, nil)
	if err != nil {
		return err
	}
	_, err = b.Put(p, rows.Expect{})
	return err
}

func remove(b *rows.Builder, t *table.Table, pk ...schema.Value) error {
	key, err := table.RowKeyOf(nil, t, pk)
	if err != nil {
		return err
	}
	_, err = b.Delete(t, key, rows.Expect{})
	return err
}

func (n *node) person(tenant ulid.ULID, region uint64, name, mail, city string) {
	n.t.Helper()
	n.write(tenant, "", "", func(b *rows.Builder, of func(string) *table.Table) error {
		return put(b, of("people"), schema.U64(region), schema.Str(name), schema.Str(mail), schema.Str(city))
	})
}

func (n *node) forget(tenant ulid.ULID, region uint64, name string) {
	n.t.Helper()
	n.write(tenant, "", "", func(b *rows.Builder, of func(string) *table.Table) error {
		return remove(b, of("people"), schema.U64(region), schema.Str(name))
	})
}

// expire lets stored answers expire, and another request take them away.
func (n *node) expire(tenant ulid.ULID) {
	n.t.Helper()
	<-time.After(25 * time.Hour)
	for i := range 3 {
		n.write(tenant, fmt.Sprintf("later-%d", i), "{}", func(b *rows.Builder, of func(string) *table.Table) error {
			return put(b, of("notes"), schema.Str("later"), schema.Str(fmt.Sprint(i)))
		})
	}
}

// copyState makes a copy of the state, to ship or not.
func (n *node) copyState(dir string) table.Applied {
	n.t.Helper()
	if err := n.disk.RemoveAll(dir); !errors.Is(err, iofs.ErrNotExist) {
		must(n.t, err)
	}
	at, err := n.engine.CopyState(dir)
	must(n.t, err)
	return at
}

func (n *node) checkpoint() {
	n.t.Helper()
	_, err := n.s.ShipCheckpoint(n.t.Context(), "out", n.copyState("out"), n.engine.Durable)
	must(n.t, err)
}

// end lets everything get into the archive, stops the node and says where it ended.
func (n *node) end() lsn.LSN {
	n.t.Helper()
	<-time.After(2 * time.Minute)
	at, err := n.engine.Applied()
	must(n.t, err)
	must(n.t, n.close())
	return at.Pos.LSN
}

// close stops the node, and gives the first error of its two loops.
func (n *node) close() error {
	n.t.Helper()
	n.stop()
	err := errors.Join(<-n.done, <-n.done)
	must(n.t, n.engine.Close())
	return err
}

func optionsOf(store object.Store, s purge.Selector) purge.Options {
	return purge.Options{Store: store, Selector: s, FS: simdisk.New(), Scratch: "/scratch", Actor: "operator", Reason: "asked for", CacheBytes: 1 << 20, MemtableBytes: 256 << 10}
}

// theSubject selects who is purged in most tests.
var theSubject = purge.Selector{Tenant: tenantA, Schema: "shop.people", PK: `[7,"` + mark + `"]`}

// run makes a plan and carries it out.
func run(t testing.TB, o purge.Options) (*purge.Plan, *purge.Result) {
	t.Helper()
	plan, err := purge.MakePlan(t.Context(), o)
	must(t, err)
	got, err := purge.Run(t.Context(), o, plan.ID)
	must(t, err)
	return plan, got
}

// read reads an object.
func read(t testing.TB, store object.Store, key string) []byte {
	t.Helper()
	r, err := store.Get(t.Context(), key, 0, -1)
	must(t, err)
	b, err := io.ReadAll(r)
	must(t, errors.Join(err, r.Close()))
	return b
}

// objects are all there are, by key.
func objects(t testing.TB, store object.Store) map[string][]byte {
	t.Helper()
	names, err := archive.New(store).Names(t.Context(), "")
	must(t, err)
	out := map[string][]byte{}
	for _, info := range names {
		out[info.Key] = read(t, store, info.Key)
	}
	return out
}

// copyOf is another store with the same objects, of the same name, which is part of a plan.
func copyOf(t testing.TB, store object.Store) *object.Memory {
	t.Helper()
	out := object.NewMemory("archive")
	for key, b := range objects(t, store) {
		must(t, out.Put(t.Context(), key, object.Bytes(b)))
	}
	return out
}

// telling lists the objects that have the mark in them: in their bytes, or in the body of
// one of their frames.
func telling(t testing.TB, store object.Store) (out []string) {
	t.Helper()
	a := archive.New(store)
	in, err := a.Instance(t.Context())
	must(t, err)
	for name, b := range objects(t, store) {
		found := bytes.Contains(b, []byte(mark))
		k, err := archive.ParseKey(name)
		must(t, err)
		if f, err := a.OpenFrames(t.Context(), k, in.Instance); err == nil {
			var fr *frame.Frame
			for fr, err = f.Next(); err == nil; fr, err = f.Next() {
				found = found || bytes.Contains(fr.Body, []byte(mark))
			}
			if !errors.Is(err, io.EOF) {
				t.Errorf("%s: %v", name, err)
			}
			must(t, f.Close())
		}
		if found {
			out = append(out, name)
		}
	}
	return out
}

// restored restores to a frame and gives all pairs.
func restored(t testing.TB, store object.Store, epoch lsn.Epoch, at lsn.LSN) (map[string]string, *restore.Result) {
	t.Helper()
	disk := simdisk.New()
	got, err := restore.Run(t.Context(), restore.Options{Store: store, FS: disk, DataDir: "/restored", NodeID: "node-r",
		Request: restore.Request{Epoch: epoch, LSN: at}, CacheBytes: 1 << 20, MemtableBytes: 256 << 10})
	must(t, err)
	s, err := table.Open(table.Options{FS: disk, Dir: "/restored/state", Log: quiet(), ReadOnly: true})
	must(t, err)
	out := map[string]string{}
	lower, upper := table.LoggedRange()
	it, err := s.Iter(lower, upper, false)
	must(t, err)
	for it.Next() {
		out[string(it.Key())] = string(it.Value())
	}
	must(t, errors.Join(it.Err(), it.Close(), s.Close()))
	return out, got
}

// without takes what has the mark out of a state, and counts anew.
func without(t testing.TB, pairs map[string]string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for key, value := range pairs {
		if !bytes.Contains([]byte(key+value), []byte(mark)) {
			out[key] = value
		}
	}
	for key, value := range pairs {
		p, _ := table.SplitKey([]byte(key))
		if _, stays := out[key]; stays || p.Space == table.SpaceIdemOrder {
			continue
		}
		counter := table.CounterKey(p.Tenant, p.TableID, p.IndexID)
		if p.Space == table.SpaceIdem {
			counter = table.CounterKey(p.Tenant, table.IdemTable, 0)
		}
		c, err := table.DecodeCounters([]byte(out[string(counter)]))
		must(t, err)
		c.Entries--
		c.Bytes -= uint64(len(key) + len(value))
		c.Sum = c.Sum.Sub(frame.PairHash([]byte(key), []byte(value)))
		out[string(counter)] = string(c.Append(nil))
	}
	return out
}
