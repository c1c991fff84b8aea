package table

import (
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"originchain/shared/frame"
	"originchain/shared/lsn"
)

func openMem(t *testing.T) *Store {
	t.Helper()
	return openMemOn(t, vfs.NewMem())
}

func openMemOn(t *testing.T, fs vfs.FS) *Store {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	s, err := Open(Options{FS: fs, Dir: "state", Log: log})
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

// A batch of many frames must leave what the frames leave one by one: counters
// that are held back meet deletes and range deletes that are not.
func TestBatchEqualsItsFrames(t *testing.T) {
	tenant := ulid.MustParse("01J00000000000000000000000")
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		keys := [][]byte{CounterKey(tenant, 1, 0), CounterKey(tenant, 1, 1), CounterKey(tenant, 2, 0), RecordKey(tenant, SpaceRows, []byte("a")), RecordKey(tenant, SpaceRows, []byte("b"))}
		together, apart := openMem(t), openMem(t)
		batch := together.NewBatch()
		for n := range 1 + rng.IntN(30) {
			op := frame.Op{Type: frame.Put, Key: keys[rng.IntN(len(keys))], Value: fmt.Appendf(nil, "%d", n)}
			switch rng.IntN(6) {
			case 0:
				op = frame.Op{Type: frame.Delete, Key: op.Key}
			case 1:
				op = frame.Op{Type: frame.RangeDelete, Key: CounterKey(tenant, 1, 0), End: CounterKey(tenant, 1, 1)}
			}
			if err := batch.Add(&op); err != nil {
				t.Fatal(err)
			}
			one := apart.NewBatch()
			if err := one.Add(&op); err != nil {
				t.Fatal(err)
			}
			if err := one.Commit(Applied{Pos: lsn.Pos{LSN: lsn.LSN(n + 1)}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := batch.Commit(Applied{}); err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			got, gotOK, err := together.Get(k)
			want, wantOK, werr := apart.Get(k)
			if err != nil || werr != nil {
				t.Fatal(err, werr)
			}
			if gotOK != wantOK || string(got) != string(want) {
				t.Fatalf("seed %d, key %x: the batch has %q %v, its frames %q %v", seed, k, got, gotOK, want, wantOK)
			}
		}
	}
}

// Frames that count in the same place cost the state one write of the counter.
func TestBatchWritesACounterOnce(t *testing.T) {
	s := openMem(t)
	b := s.NewBatch()
	key := CounterKey(ulid.MustParse("01J00000000000000000000000"), 1, 0)
	for n := range 100 {
		if err := b.Add(&frame.Op{Type: frame.Put, Key: key, Value: fmt.Appendf(nil, "%03d", n)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.settle(); err != nil {
		t.Fatal(err)
	}
	if n := b.b.Count(); n != 1 {
		t.Errorf("%d writes of one counter", n)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
