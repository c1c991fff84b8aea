package table

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"originchain/shared/frame"
)

const (
	// deltaBatchBytes is how much of a Delta is applied at once.
	deltaBatchBytes = 1 << 20
	// maxDroppedRanges is how many ranges that were deleted a Delta holds in memory.
	maxDroppedRanges = 1 << 18
)

// What a Delta keeps under a key.
const (
	deltaGone = 0 // the state below may have it: it is deleted
	deltaPut  = 1 // the value follows
)

// ErrDroppedRanges says that more ranges were deleted than a Delta can hold.
var ErrDroppedRanges = fmt.Errorf("more than %d ranges that do not touch were deleted", maxDroppedRanges)

// Delta is a View of the operations of frames on top of a View that nothing changes,
// for frames that memory is too small for: what they have put and deleted is on disk,
// in a Store of its own, and nothing of the state below is. It takes operations, is
// settled, and is read then, forwards.
type Delta struct {
	base View
	s    *Store
	b    *pebble.Batch
	// dropped are the ranges that were deleted, in order, none touching another: what
	// the state below has in them is gone.
	dropped []keyRange
}

type keyRange struct{ from, to []byte }

// OpenDelta makes an empty Delta over base in o.Dir, which is empty.
func OpenDelta(o Options, base View) (*Delta, error) {
	s, err := Open(o)
	if err != nil {
		return nil, err
	}
	return &Delta{base: base, s: s, b: s.db.NewBatch()}, nil
}

// Add adds an operation after those that were added before.
func (d *Delta) Add(op *frame.Op) (err error) {
	switch op.Type {
	case frame.Put:
		w := d.b.SetDeferred(len(op.Key), 1+len(op.Value))
		copy(w.Key, op.Key)
		w.Value[0] = deltaPut
		copy(w.Value[1:], op.Value)
		err = w.Finish()
	case frame.Delete:
		err = d.b.Set(op.Key, []byte{deltaGone}, nil)
	case frame.RangeDelete:
		if err = d.drop(op.Key, op.End); err == nil {
			err = d.b.DeleteRange(op.Key, op.End, nil)
		}
	default:
		err = fmt.Errorf("state: unknown operation %d", op.Type)
	}
	if err != nil || d.b.Len() < deltaBatchBytes {
		return err
	}
	return d.Settle()
}

// drop notes that [from, to) of the state below is gone.
func (d *Delta) drop(from, to []byte) error {
	if bytes.Compare(from, to) >= 0 {
		return nil
	}
	r := keyRange{bytes.Clone(from), bytes.Clone(to)}
	// Those that it meets or touches become one with it.
	first, _ := slices.BinarySearchFunc(d.dropped, from, func(x keyRange, k []byte) int { return bytes.Compare(x.to, k) })
	last := first
	for ; last < len(d.dropped) && bytes.Compare(d.dropped[last].from, to) <= 0; last++ {
		if x := d.dropped[last]; bytes.Compare(x.from, r.from) < 0 {
			r.from = x.from
		}
		if x := d.dropped[last]; bytes.Compare(x.to, r.to) > 0 {
			r.to = x.to
		}
	}
	d.dropped = slices.Replace(d.dropped, first, last, r)
	if len(d.dropped) > maxDroppedRanges {
		return ErrDroppedRanges
	}
	return nil
}

// isDropped reports a key of the state below that a range took away.
func (d *Delta) isDropped(key []byte) bool {
	i, found := slices.BinarySearchFunc(d.dropped, key, func(x keyRange, k []byte) int { return bytes.Compare(x.from, k) })
	return found || i > 0 && bytes.Compare(key, d.dropped[i-1].to) < 0
}

// Settle makes what was added readable.
func (d *Delta) Settle() error {
	if d.b.Empty() {
		return nil
	}
	if err := d.s.wait(func() error { return d.s.db.Apply(d.b, pebble.NoSync) }); err != nil {
		return err
	}
	d.b.Reset()
	return nil
}

// DiskBytes is about how much disk it takes, with what is in memory and will be there.
func (d *Delta) DiskBytes() uint64 {
	m := d.s.db.Metrics()
	return m.DiskSpaceUsage() + m.MemTable.Size
}

// Get implements View.
func (d *Delta) Get(key []byte) ([]byte, bool, error) {
	v, ok, err := d.s.Get(key)
	switch {
	case err != nil:
		return nil, false, err
	case ok:
		return deltaValue(key, v)
	case d.isDropped(key):
		return nil, false, nil
	}
	return d.base.Get(key)
}

func deltaValue(key, v []byte) ([]byte, bool, error) {
	switch {
	case len(v) == 1 && v[0] == deltaGone:
		return nil, false, nil
	case len(v) > 0 && v[0] == deltaPut:
		return v[1:], true, nil
	}
	return nil, false, fmt.Errorf("state: a change of key %x that was never made", key)
}

// Iter implements View; it goes forwards only.
func (d *Delta) Iter(lower, upper []byte, reverse bool) (Iterator, error) {
	if reverse {
		return nil, errors.New("state: changes on disk are read forwards only")
	}
	below, err := d.base.Iter(lower, upper, false)
	if err != nil {
		return nil, err
	}
	above, err := d.s.Iter(lower, upper, false)
	if err != nil {
		return nil, errors.Join(err, below.Close())
	}
	return &deltaIter{d: d, below: below, above: above}, nil
}

// Close removes nothing: its directory is the caller's.
func (d *Delta) Close() error { return errors.Join(d.b.Close(), d.s.Close()) }

// deltaIter merges both. A key that both have is the upper one's.
type deltaIter struct {
	d            *Delta
	below, above Iterator
	begun        bool
	// hasBelow and hasAbove say that the iterator stands at a pair that was not given.
	hasBelow, hasAbove bool
	// passed says which of them gave the last pair.
	passedBelow, passedAbove bool
	key, value               []byte
	err                      error
}

// Next implements Iterator.
func (i *deltaIter) Next() bool {
	for i.advance() {
		order := -1 // only below
		switch {
		case i.hasBelow && i.hasAbove:
			order = bytes.Compare(i.below.Key(), i.above.Key())
		case i.hasAbove:
			order = 1
		case !i.hasBelow:
			return false
		}
		i.passedBelow, i.passedAbove = order <= 0, order >= 0
		if order < 0 {
			if i.key, i.value = i.below.Key(), i.below.Value(); i.d.isDropped(i.key) {
				continue
			}
			return true
		}
		i.key = i.above.Key()
		value, ok, err := deltaValue(i.key, i.above.Value())
		if err != nil {
			i.err = err
			return false
		}
		if i.value = value; ok {
			return true
		}
	}
	return false
}

// advance moves past what was given. An iterator that ends in an error ends the merge:
// what the other has left would be given without it.
func (i *deltaIter) advance() bool {
	if i.err != nil {
		return false
	}
	if !i.begun {
		i.begun, i.passedBelow, i.passedAbove = true, true, true
	}
	if i.passedBelow {
		i.hasBelow = i.below.Next()
	}
	if i.passedAbove {
		i.hasAbove = i.above.Next()
	}
	i.passedBelow, i.passedAbove = false, false
	i.err = errors.Join(i.below.Err(), i.above.Err())
	return i.err == nil
}

// Key implements Iterator.
func (i *deltaIter) Key() []byte { return i.key }

// Value implements Iterator.
func (i *deltaIter) Value() []byte { return i.value }

// Err implements Iterator.
func (i *deltaIter) Err() error { return i.err }

// Close implements Iterator.
func (i *deltaIter) Close() error { return errors.Join(i.below.Close(), i.above.Close()) }

// Empty is the View of a state that has no frame.
type Empty struct{}

// Get implements View.
func (Empty) Get([]byte) ([]byte, bool, error) { return nil, false, nil }

// Iter implements View.
func (Empty) Iter([]byte, []byte, bool) (Iterator, error) { return emptyIter{}, nil }

type emptyIter struct{}

func (emptyIter) Next() bool    { return false }
func (emptyIter) Key() []byte   { return nil }
func (emptyIter) Value() []byte { return nil }
func (emptyIter) Err() error    { return nil }
func (emptyIter) Close() error  { return nil }
