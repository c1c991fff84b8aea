package pitr

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"originchain/shared/archive"
	"originchain/shared/engine"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/objecttest"
	"originchain/shared/purge"
	"originchain/shared/restore"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/simdisk"
	"originchain/shared/table"
)

// theSubject is the primary key of whom the purges remove. Write never makes it.
const theSubject = 1000

// change commits one frame.
func (w *Writer) change(idem *engine.Idempotency, build func(b *rows.Builder, t *table.Table) error) {
	w.t.Helper()
	cat, err := w.Engine.Catalog(tenant)
	must(w.t, err)
	tbl, err := cat.Table("shop.items")
	must(w.t, err)
	_, err = w.Engine.Commit(w.t.Context(), engine.Proposal{Tenant: tenant, Idem: idem, Build: func(b *rows.Builder) error { return build(b, tbl) }})
	must(w.t, err)
	w.note()
}

func putItem(b *rows.Builder, t *table.Table, id int64, name string) error {
	p, err := rows.Prepare(t, schema.Row{schema.I64(id), schema.Str(name)}, nil)
	if err != nil {
		return err
	}
	_, err = b.Put(p, rows.Expect{})
	return err
}

func deleteItem(b *rows.Builder, t *table.Table, id int64) error {
	key, err := table.RowKeyOf(nil, t, []schema.Value{schema.I64(id)})
	if err != nil {
		return err
	}
	_, err = b.Delete(t, key, rows.Expect{})
	return err
}

// subjects writes what is to be purged: the subject's row, with an answer to its
// request, again under another name, and with its old name taken by somebody else.
func (w *Writer) subjects(mark string) {
	w.t.Helper()
	name, shared := "subject-"+mark, "shared-"+mark // the one that somebody else takes
	idem := &engine.Idempotency{Key: "subject-key-" + mark, Request: sha256.Sum256([]byte(name)), Status: 200,
		Answer: func(lsn.Pos) []byte { return []byte(fmt.Sprintf(`{"pk":"%d"}`, theSubject)) }}
	w.change(idem, func(b *rows.Builder, t *table.Table) error { return putItem(b, t, theSubject, shared) })
	w.Write(3)
	w.change(nil, func(b *rows.Builder, t *table.Table) error {
		if err := putItem(b, t, theSubject, name); err != nil {
			return err
		}
		return putItem(b, t, 2000, shared)
	})
	w.Write(3)
	w.change(nil, func(b *rows.Builder, t *table.Table) error {
		if err := deleteItem(b, t, 2000); err != nil {
			return err
		}
		return putItem(b, t, theSubject, shared)
	})
	w.Write(2)
	w.change(nil, func(b *rows.Builder, t *table.Table) error { return putItem(b, t, theSubject, name+"-again") })
}

// Subjects is an archive with a subject on every line: on a line that was left behind to
// its end, and on the newest one until it was deleted.
func Subjects(t testing.TB, store object.Store) *Workload {
	t.Helper()
	w := &Workload{Store: store, Lines: map[lsn.Epoch]History{}, Checkpoints: map[lsn.Epoch][]lsn.LSN{}}
	first := Begin(t, simdisk.New(), store, "data", 1, nil, Straight)
	first.Create()
	first.Write(8)
	first.subjects("first")
	first.Write(4)
	w.Checkpoints[1] = append(w.Checkpoints[1], first.Checkpoint())
	first.Write(4)
	fork := first.Disk.KillClone()
	lived := first.Lived
	first.subjects("left-behind")
	first.Checkpoint()
	first.Write(3)
	first.settle()
	second := Begin(t, fork, store, "data", 2, lived, Straight)
	first.StopQuietly()
	second.subjects("second")
	second.Write(3)
	second.Checkpoint()
	second.change(nil, func(b *rows.Builder, t *table.Table) error { return deleteItem(b, t, theSubject) })
	second.Write(4)
	// A day later another request takes the answers away that have expired.
	for i := range 6 {
		<-time.After(25 * time.Hour)
		idem := &engine.Idempotency{Key: fmt.Sprintf("other-%d", i), Status: 200, Answer: func(lsn.Pos) []byte { return []byte("{}") }}
		second.change(idem, func(b *rows.Builder, t *table.Table) error { return putItem(b, t, 3000, fmt.Sprintf("other-%d", i)) })
	}
	second.Checkpoint()
	second.Write(3)
	second.End()
	w.Lines[1], w.Lines[2] = first.Lived, second.Lived
	return w
}

func purgeOptions(store object.Store) purge.Options {
	return purge.Options{
		Store: store, Selector: purge.Selector{Tenant: tenant, Schema: "shop.items", PK: fmt.Sprint(theSubject)}, FS: simdisk.New(), Scratch: "/scratch",
		Actor: "operator", Reason: "asked for", CacheBytes: 1 << 20, MemtableBytes: 256 << 10,
	}
}

// copyOf is another store with the same objects.
func copyOf(t testing.TB, store object.Store) object.Store {
	t.Helper()
	out := object.NewMemory("archive") // the name is part of a plan
	names, err := archive.New(store).Names(t.Context(), "")
	must(t, err)
	for _, info := range names {
		must(t, out.Put(t.Context(), info.Key, object.Bytes(read(t, store, info.Key))))
	}
	return out
}

func read(t testing.TB, store object.Store, key string) []byte {
	t.Helper()
	r, err := store.Get(t.Context(), key, 0, -1)
	must(t, err)
	var b strings.Builder
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			break
		}
	}
	must(t, r.Close())
	return []byte(b.String())
}

// pairsAt restores to a frame and gives all pairs.
func pairsAt(t testing.TB, store object.Store, epoch lsn.Epoch, at lsn.LSN) (map[string]string, *restore.Result) {
	t.Helper()
	disk := simdisk.New()
	got, err := restore.Run(t.Context(), options(store, disk, restore.Request{Epoch: epoch, LSN: at}))
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
	must(t, it.Err())
	must(t, it.Close())
	must(t, s.Close())
	return out, got
}

// without takes rows out of a state, and answers to requests for the subject, by looking
// at every pair and counting anew.
func without(t testing.TB, pairs map[string]string, ids ...int64) map[string]string {
	t.Helper()
	pks := map[string]bool{}
	for _, id := range ids {
		pks[string(schema.AppendKey(nil, schema.I64(id)))] = true
	}
	out := maps.Clone(pairs)
	gone := map[string]bool{}
	for key, value := range pairs {
		p, _ := table.SplitKey([]byte(key))
		mine := false
		switch p.Space {
		case table.SpaceRows:
			mine = pks[string(p.Rest)]
		case table.SpaceIndexes:
			mine = pks[string(table.IndexValuePK([]byte(value)))]
		case table.SpaceIdem:
			mine = strings.HasPrefix(string(p.Rest), "subject-key-")
		case table.SpaceIdemOrder:
			mine = strings.Contains(string(p.Rest), "subject-key-")
		}
		if mine {
			delete(out, key)
			gone[key] = true
		}
	}
	for key := range gone {
		p, _ := table.SplitKey([]byte(key))
		counter := table.CounterKey(p.Tenant, p.TableID, p.IndexID)
		if p.Space == table.SpaceIdem {
			counter = table.CounterKey(p.Tenant, table.IdemTable, 0)
		} else if p.Space == table.SpaceIdemOrder {
			continue
		}
		c, err := table.DecodeCounters([]byte(out[string(counter)]))
		must(t, err)
		c.Entries--
		c.Bytes -= uint64(len(key) + len(pairs[key]))
		c.Sum = c.Sum.Sub(pairHash(key, pairs[key]))
		out[string(counter)] = string(c.Append(nil))
	}
	return out
}

// TestAPurgedArchiveRestoresWithoutTheSubject: at every frame of every line the state is
// what it was without the subject's pairs, counted anew; no checkpoint, segment or part
// tells of it, and nothing of what is not its has changed.
func TestAPurgedArchiveRestoresWithoutTheSubject(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Subjects(t, object.NewMemory("archive"))
		before := copyOf(t, w.Store)
		o := purgeOptions(w.Store)
		plan, err := purge.MakePlan(t.Context(), o)
		must(t, err)
		again, err := purge.MakePlan(t.Context(), o)
		must(t, err)
		if plan.ID != again.ID || plan.Live || plan.Frames < 9 || len(plan.Objects) == 0 || len(plan.Ranges) == 0 || plan.Keys != 1 {
			t.Fatalf("planned %+v, again %s", plan, again.ID)
		}
		got, err := purge.Run(t.Context(), o, plan.ID)
		must(t, err)
		if got.Erased == 0 || got.Frames != plan.Frames || got.Resumed {
			t.Fatalf("purged %+v", got)
		}
		purged := 0
		for epoch, h := range w.Lines {
			for at := lsn.LSN(1); at <= h.Last(); at++ {
				was, _ := pairsAt(t, before, epoch, at)
				want := without(t, was, theSubject)
				now, r := pairsAt(t, w.Store, epoch, at)
				if diff := cmp.Diff(want, now); diff != "" {
					t.Fatalf("LSN %d of the line of epoch %d: %s", at, epoch, diff)
				}
				if !r.Verified || r.Purged != (len(want) != len(was)) || (r.Digest == h.At(at).Digest) == r.Purged {
					t.Fatalf("LSN %d of the line of epoch %d: restored %+v, recorded %s", at, epoch, r, h.At(at).Digest)
				}
				if r.Purged {
					purged++
				}
			}
		}
		if purged < 20 {
			t.Errorf("only %d points were without something", purged)
		}
		silent(t, w.Store, plan)
	})
}

// silent looks into every object for what was the subject's.
func silent(t testing.TB, store object.Store, plan *purge.Plan) {
	t.Helper()
	a := archive.New(store)
	s, err := a.Survey(t.Context())
	must(t, err)
	names, err := a.Names(t.Context(), "")
	must(t, err)
	there := map[string]bool{}
	for _, info := range names {
		there[info.Key] = true
		if strings.Contains(string(read(t, store, info.Key)), "subject") {
			t.Errorf("%s tells of the subject", info.Key)
		}
		k, err := archive.ParseKey(info.Key)
		must(t, err)
		f, err := a.OpenFrames(t.Context(), k, s.Instance.Instance)
		if err != nil {
			continue // a document or a file
		}
		for {
			fr, err := f.Next()
			if err != nil {
				break
			}
			if strings.Contains(string(fr.Body), "subject") {
				t.Errorf("%s: LSN %d tells of the subject", info.Key, fr.LSN)
			}
		}
		must(t, f.Close())
	}
	named := map[string]bool{}
	for i := range s.Checkpoints {
		m, err := a.Manifest(t.Context(), s.Checkpoints[i].Key())
		must(t, err)
		must(t, a.Complete(t.Context(), &m))
		for j := range m.Files {
			named[m.Files[j].Key().String()] = true
		}
	}
	for name := range there {
		if strings.HasPrefix(name, "objects/") && !named[name] {
			t.Errorf("%s is a file of no checkpoint, and still there", name)
		}
	}
	for _, x := range plan.Objects {
		if there[x.Key] {
			t.Errorf("%s is still there", x.Key)
		}
	}
	for _, x := range plan.Checkpoints {
		if there[x.Key] {
			t.Errorf("%s is still there", x.Key)
		}
	}
}

// TestAPurgeKilledAtAnyCall of the store changes nothing that a restore sees, or is
// gone on with: in the end the archive is the same.
func TestAPurgeKilledAtAnyCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Subjects(t, object.NewMemory("archive"))
		o := purgeOptions(w.Store)
		plan, err := purge.MakePlan(t.Context(), o)
		must(t, err)
		h := w.Lines[2]
		for _, after := range []bool{false, true} {
			for at := 1; ; at++ {
				memory := copyOf(t, w.Store)
				store := objecttest.NewFaulty(memory, 1)
				calls := 0
				count := func(c objecttest.Call) error {
					if c.Op != "put" && c.Op != "erase" {
						return nil
					}
					if calls++; calls >= at {
						return object.ErrDenied
					}
					return nil
				}
				hook := objecttest.Hook{Before: func(_ context.Context, c objecttest.Call) error { return count(c) }}
				if after { // it was done, and nobody was told
					hook = objecttest.Hook{After: func(_ context.Context, c objecttest.Call, err error) error {
						if err != nil {
							return err
						}
						return count(c)
					}}
				}
				store.SetHook(hook)
				o.Store = store
				_, err := purge.Run(t.Context(), o, plan.ID)
				if err == nil {
					if at < 8 {
						t.Fatalf("only %d calls", at)
					}
					break
				}
				if _, r := pairsAt(t, memory, 2, h.Last()); !r.Verified {
					t.Fatalf("killed at call %d: restored %+v", at, r)
				}
				o.Store = memory
				if _, err = purge.Run(t.Context(), o, plan.ID); err != nil {
					t.Fatalf("killed at call %d (%t), gone on with: %v", at, after, err)
				}
				silent(t, memory, plan)
			}
		}
	})
}

// TestPurgesFollowOneAnother, retention and a node that was built anew: each purge goes
// by what the last one has left, frames that no checkpoint leads to are blanked, and the
// history goes on from a copy of the purged archive.
func TestPurgesFollowOneAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Subjects(t, object.NewMemory("archive"))
		h := w.Lines[2]
		base := w.Checkpoints[1][0]
		kept, err := archive.New(w.Store).Retain(t.Context(), archive.Retention{Until: time.UnixMicro(h.At(base + 1).Stamp)})
		must(t, err)
		before := copyOf(t, w.Store)
		o := purgeOptions(w.Store)
		for i, pk := range []int64{theSubject, 2000} {
			o.Selector.PK = fmt.Sprint(pk)
			plan, err := purge.MakePlan(t.Context(), o)
			must(t, err)
			if i == 0 && plan.Blanked == 0 {
				t.Errorf("nothing was blanked after %+v: %+v", kept, plan)
			}
			_, err = purge.Run(t.Context(), o, plan.ID)
			must(t, err)
			silent(t, w.Store, plan)
		}
		compared := 0
		for epoch, h := range w.Lines {
			for at := base; at <= h.Last(); at++ {
				was, _ := pairsAt(t, before, epoch, at)
				now, _ := pairsAt(t, w.Store, epoch, at)
				if diff := cmp.Diff(without(t, was, theSubject, 2000), now); diff != "" {
					t.Fatalf("LSN %d of the line of epoch %d: %s", at, epoch, diff)
				}
				compared++
			}
		}
		if compared < 40 {
			t.Errorf("only %d points", compared)
		}
		disk := simdisk.New()
		_, err = restore.Run(t.Context(), options(w.Store, disk, restore.Request{Latest: true}))
		must(t, err)
		_, err = restore.Accept(t.Context(), restore.Acceptance{FS: disk, DataDir: "/restored", Archive: w.Store, Ends: 2})
		must(t, err)
		n := Begin(t, disk, w.Store, "/restored", 4, h, Straight)
		n.Write(12)
		n.Checkpoint()
		n.Write(5)
		n.End()
		got, err := restore.Run(t.Context(), options(w.Store, simdisk.New(), restore.Request{Latest: true}))
		must(t, err)
		sameState(t, n.Lived, n.Lived.Last(), got)
		_, err = archive.New(w.Store).Retain(t.Context(), archive.Retention{Until: time.UnixMicro(n.Lived.At(n.Lived.Last() - 4).Stamp)})
		must(t, err)
		got, err = restore.Run(t.Context(), options(w.Store, simdisk.New(), restore.Request{Latest: true}))
		must(t, err)
		sameState(t, n.Lived, n.Lived.Last(), got)
	})
}

// Segments are the sealed segments of the newest line in the archive as a node's log has
// them, by name.
func (w *Workload) Segments(t testing.TB) map[string][]byte {
	t.Helper()
	s, err := archive.New(w.Store).Survey(t.Context())
	must(t, err)
	dec, err := zstd.NewReader(nil)
	must(t, err)
	defer dec.Close()
	out := map[string][]byte{}
	for _, k := range s.Segments {
		if k.Key.Epoch != 1 {
			continue
		}
		raw, err := dec.DecodeAll(read(t, w.Store, k.Key.String()), nil)
		must(t, err)
		out[fmt.Sprintf("%016x.log", uint64(k.Key.First))] = raw
	}
	if len(out) < 2 {
		t.Fatalf("only %d segments", len(out))
	}
	return out
}
