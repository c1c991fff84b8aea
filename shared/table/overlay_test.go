package table

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sort"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"originchain/shared/frame"
	"originchain/shared/lsn"
)

func openStore(t *testing.T) *Store {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	s, err := Open(Options{FS: vfs.NewMem(), Dir: "state", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func set(t *testing.T, s *Store, at lsn.LSN, ops ...frame.Op) {
	t.Helper()
	b := s.NewBatch()
	for i := range ops {
		if err := b.Add(&ops[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Commit(Applied{Pos: lsn.Pos{Epoch: 1, LSN: at}}); err != nil {
		t.Fatal(err)
	}
}

func collect(t *testing.T, v View, lo, hi string, reverse bool) []string {
	t.Helper()
	it, err := v.Iter([]byte(lo), []byte(hi), reverse)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for it.Next() {
		out = append(out, string(it.Key())+"="+string(it.Value()))
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestOverlayReadsAsIfItsWritesWereApplied compares an overlay over a real
// store with a plain map, in both directions and over random ranges.
func TestOverlayReadsAsIfItsWritesWereApplied(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 3))
		s, model := openStore(t), map[string]string{}
		key := func() string { return fmt.Sprintf("\x01k%02d", rng.IntN(40)) }
		for i := range 25 {
			k, v := key(), fmt.Sprint("base", i)
			set(t, s, lsn.LSN(i+1), frame.Op{Type: frame.Put, Key: []byte(k), Value: []byte(v)})
			model[k] = v
		}
		o := NewOverlay(s)
		for i := range rng.IntN(30) {
			k, v := key(), fmt.Sprint("over", i)
			if rng.IntN(3) == 0 {
				o.Set(k, Write{Deleted: true})
				delete(model, k)
				continue
			}
			o.Set(k, Write{Value: []byte(v)})
			model[k] = v
		}
		for range 20 {
			lo, hi, reverse := key(), key(), rng.IntN(2) == 0
			want := expected(model, lo, hi, reverse)
			if diff := cmp.Diff(want, collect(t, o, lo, hi, reverse)); diff != "" {
				t.Fatalf("seed %d, [%q, %q) reverse %v (-model +overlay):\n%s", seed, lo, hi, reverse, diff)
			}
			k := key()
			v, ok, err := o.Get([]byte(k))
			if w, has := model[k]; err != nil || ok != has || string(v) != w {
				t.Fatalf("seed %d: get %q: %q %v %v, want %q %v", seed, k, v, ok, err, w, has)
			}
		}
	}
}

func expected(model map[string]string, lo, hi string, reverse bool) []string {
	var out []string
	for k, v := range model {
		if k >= lo && k < hi {
			out = append(out, k+"="+v)
		}
	}
	sort.Strings(out)
	if reverse {
		sort.Sort(sort.Reverse(sort.StringSlice(out)))
	}
	return out
}

func TestDropKeepsALaterWriteOfTheKey(t *testing.T) {
	o := NewOverlay(openStore(t))
	o.Set("a", Write{Value: []byte("1"), Tag: 1})
	o.Set("a", Write{Value: []byte("2"), Tag: 2})
	o.Drop("a", 1)
	if w, ok := o.Lookup([]byte("a")); !ok || string(w.Value) != "2" {
		t.Fatalf("the write of frame 2 went with frame 1: %v %v", w, ok)
	}
	o.Drop("a", 2)
	if _, ok := o.Lookup([]byte("a")); ok {
		t.Fatal("the write of frame 2 stayed")
	}
}

func TestAppliedTravelsWithTheData(t *testing.T) {
	s := openStore(t)
	if a, err := s.Applied(); err != nil || a != (Applied{}) {
		t.Fatalf("empty state: %+v %v", a, err)
	}
	want := Applied{Pos: lsn.Pos{Epoch: 3, LSN: 9}, Chain: lsn.Chain{1, 2}, Digest: lsn.Digest{Hi: 4, Lo: 5}, Stamp: 77}
	b := s.NewBatch()
	op := frame.Op{Type: frame.Put, Key: []byte("\x01x"), Value: []byte("v")}
	if err := b.Add(&op); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(want); err != nil {
		t.Fatal(err)
	}
	snap, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	set(t, s, 10, frame.Op{Type: frame.Put, Key: []byte("\x01y"), Value: []byte("later")})
	if snap.Applied() != want {
		t.Fatalf("snapshot stands at %+v, want %+v", snap.Applied(), want)
	}
	if got := collect(t, snap, "\x01", "\x02", false); len(got) != 1 {
		t.Fatalf("the snapshot sees %q", got)
	}
	d, n, err := ScanDigest(snap)
	if err != nil || n != 1 || d != frame.PairHash([]byte("\x01x"), []byte("v")) {
		t.Fatalf("digest %s over %d keys, %v: node-local keys must not count", d, n, err)
	}
	if err := snap.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSplitKeyIsTheInverseOfTheKeyspace(t *testing.T) {
	tenant := [16]byte{1, 2, 3}
	for name, c := range map[string]struct {
		key  []byte
		want Parts
	}{
		"counter": {CounterKey(tenant, 7, 8), Parts{Tenant: tenant, Space: SpaceCounters, TableID: 7, IndexID: 8, Rest: []byte{}}},
		"row":     {append(AppendRowPrefix(nil, tenant, 7), "pk"...), Parts{Tenant: tenant, Space: SpaceRows, TableID: 7, Rest: []byte("pk")}},
		"index":   {append(AppendIndexPrefix(nil, tenant, 7, 9), "t"...), Parts{Tenant: tenant, Space: SpaceIndexes, TableID: 7, IndexID: 9, Rest: []byte("t")}},
		"schema":  {RecordKey(tenant, SpaceSchemas, []byte("a.b")), Parts{Tenant: tenant, Space: SpaceSchemas, Rest: []byte("a.b")}},
	} {
		got, ok := SplitKey(c.key)
		if diff := cmp.Diff(c.want, got); !ok || diff != "" {
			t.Errorf("%s: ok %v (-want +got):\n%s", name, ok, diff)
		}
	}
	for _, bad := range [][]byte{nil, {0}, {1, 2}, CounterKey(tenant, 1, 1)[:20]} {
		if _, ok := SplitKey(bad); ok {
			t.Errorf("%x was taken for a key", bad)
		}
	}
	stamp, key, ok := SplitIdemOrderKey(IdemOrderKey(tenant, 123456, "abc"))
	if stamp != 123456 || key != "abc" || !ok {
		t.Errorf("got %d %q %v", stamp, key, ok)
	}
}
