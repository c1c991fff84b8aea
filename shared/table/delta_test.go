package table

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"originchain/shared/frame"
)

func openDelta(t *testing.T, base View) *Delta {
	t.Helper()
	d, err := OpenDelta(Options{FS: vfs.NewMem(), Dir: "delta", Log: logrus.New(), MemtableBytes: 64 << 10}, base)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestADeltaIsTheStateThatTheOperationsMake: random puts, deletes and range deletes
// over a state, read whole, in ranges and by key, as a Store has them that took all.
func TestADeltaIsTheStateThatTheOperationsMake(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		key := func() string { return fmt.Sprintf("k%02d", rng.IntN(60)) }
		random := func() frame.Op {
			switch rng.IntN(8) {
			case 0:
				return frame.Op{Type: frame.RangeDelete, Key: []byte(key()), End: []byte(key())}
			case 1, 2:
				return frame.Op{Type: frame.Delete, Key: []byte(key())}
			}
			return frame.Op{Type: frame.Put, Key: []byte(key()), Value: fmt.Appendf(nil, "v%d", rng.IntN(1000))[:rng.IntN(3)]}
		}
		below, all := openStore(t), openStore(t)
		for range 80 {
			op := random()
			set(t, below, 1, op)
			set(t, all, 1, op)
		}
		d := openDelta(t, below)
		for round := range 6 {
			for range rng.IntN(30) {
				op := random()
				if err := d.Add(&op); err != nil {
					t.Fatal(err)
				}
				set(t, all, 1, op)
			}
			if err := d.Settle(); err != nil {
				t.Fatal(err)
			}
			lo, hi := key(), key()
			for _, r := range [][2]string{{"k", "l"}, {lo, hi}} {
				if r[0] >= r[1] {
					continue
				}
				if diff := cmp.Diff(collect(t, all, r[0], r[1], false), collect(t, d, r[0], r[1], false)); diff != "" {
					t.Fatalf("seed %d, round %d, %q (-a store, +a delta):\n%s", seed, round, r, diff)
				}
			}
			for n := range 60 {
				k := fmt.Appendf(nil, "k%02d", n)
				want, wantOK, err := all.Get(k)
				got, gotOK, err2 := d.Get(k)
				if err := errors.Join(err, err2); err != nil || gotOK != wantOK || string(got) != string(want) {
					t.Fatalf("seed %d, key %s: %q %t, want %q %t, %v", seed, k, got, gotOK, want, wantOK, err)
				}
			}
		}
	}
}

// TestADeltaIsReadForwards, and says so.
func TestADeltaIsReadForwards(t *testing.T) {
	if _, err := openDelta(t, Empty{}).Iter([]byte("a"), []byte("b"), true); err == nil {
		t.Error("it goes backwards")
	}
}

// failing is a state whose reading ends in the middle.
type failing struct{ Empty }

var errCut = errors.New("cut")

func (failing) Iter([]byte, []byte, bool) (Iterator, error) { return &failingIter{}, nil }

type failingIter struct {
	emptyIter
	n int
}

func (f *failingIter) Next() bool  { f.n++; return f.n == 1 }
func (f *failingIter) Key() []byte { return []byte("a") }
func (f *failingIter) Err() error {
	if f.n > 1 {
		return errCut
	}
	return nil
}

// TestADeltaDoesNotGoOnWithoutTheStateBelow: what it has itself would be taken for all.
func TestADeltaDoesNotGoOnWithoutTheStateBelow(t *testing.T) {
	d := openDelta(t, failing{})
	op := frame.Op{Type: frame.Put, Key: []byte("z"), Value: []byte("1")}
	if err := errors.Join(d.Add(&op), d.Settle()); err != nil {
		t.Fatal(err)
	}
	it, err := d.Iter([]byte("a"), []byte("zz"), false)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for it.Next() {
		n++
	}
	if n != 1 || !errors.Is(it.Err(), errCut) {
		t.Errorf("%d pairs, %v", n, it.Err())
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
}
