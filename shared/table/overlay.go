package table

import (
	"bytes"

	"github.com/tidwall/btree"
)

// Write is one pending change of a key: a value, or nil when it is deleted.
type Write struct {
	Value   []byte
	Deleted bool
	// Tag is the owner's mark, such as the LSN that made the write.
	Tag uint64
}

// Overlay is a View of writes on top of another View. It is used by one
// goroutine at a time. A B-tree and not a hash map, because foreign-key checks
// and transactions scan ranges of it.
type Overlay struct {
	base   View
	writes btree.Map[string, Write]
}

// NewOverlay makes an empty Overlay over base.
func NewOverlay(base View) *Overlay { return &Overlay{base: base} }

// SetBase replaces the state below; the writes stay.
func (o *Overlay) SetBase(base View) { o.base = base }

// Len is the number of keys written.
func (o *Overlay) Len() int { return o.writes.Len() }

// Set records a write, replacing an earlier one of the same key.
func (o *Overlay) Set(key string, w Write) { o.writes.Set(key, w) }

// Lookup returns the pending write of key, if there is one.
func (o *Overlay) Lookup(key []byte) (Write, bool) {
	if o.writes.Len() == 0 {
		return Write{}, false
	}
	return o.writes.Get(string(key))
}

// Drop forgets the write of key if it carries tag: a later write stays.
func (o *Overlay) Drop(key string, tag uint64) {
	if w, ok := o.writes.Get(key); ok && w.Tag == tag {
		o.writes.Delete(key)
	}
}

// Remove forgets the write of key, whoever made it.
func (o *Overlay) Remove(key string) { o.writes.Delete(key) }

// Get implements View.
func (o *Overlay) Get(key []byte) ([]byte, bool, error) {
	if w, ok := o.Lookup(key); ok {
		return w.Value, !w.Deleted, nil
	}
	return o.base.Get(key)
}

// Iter implements View by merging the writes with the state below.
func (o *Overlay) Iter(lower, upper []byte, reverse bool) (Iterator, error) {
	below, err := o.base.Iter(lower, upper, reverse)
	if err != nil || o.writes.Len() == 0 {
		return below, err
	}
	return &mergeIter{below: below, above: o.collect(lower, upper, reverse), reverse: reverse}, nil
}

type overlayPair struct {
	key string
	w   Write
}

// collect copies the writes of a range, so that the owner may go on writing
// while the iterator lives (UPDATE … reads what it changes).
func (o *Overlay) collect(lower, upper []byte, reverse bool) []overlayPair {
	var out []overlayPair
	hi := string(upper)
	o.writes.Ascend(string(lower), func(k string, w Write) bool {
		if k >= hi {
			return false
		}
		out = append(out, overlayPair{k, w})
		return true
	})
	if reverse {
		for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
	}
	return out
}

// mergeIter merges two ordered sources; the upper one wins on equal keys.
type mergeIter struct {
	below   Iterator
	above   []overlayPair
	reverse bool

	belowReady, belowValid bool
	key, value             []byte
}

func (m *mergeIter) Next() bool {
	for {
		if !m.belowReady {
			m.belowValid, m.belowReady = m.below.Next(), true
		}
		if !m.belowValid && m.below.Err() != nil {
			return false
		}
		if len(m.above) == 0 {
			return m.takeBelow()
		}
		top := m.above[0]
		order := -1
		if m.belowValid {
			order = bytes.Compare([]byte(top.key), m.below.Key())
			if m.reverse {
				order = -order
			}
		}
		if order > 0 {
			return m.takeBelow()
		}
		m.above = m.above[1:]
		if order == 0 {
			m.belowReady = false
		}
		if !top.w.Deleted {
			m.key, m.value = []byte(top.key), top.w.Value
			return true
		}
	}
}

func (m *mergeIter) takeBelow() bool {
	if !m.belowValid {
		return false
	}
	// The pair stays valid: the source below moves only in our next Next.
	m.key, m.value, m.belowReady = m.below.Key(), m.below.Value(), false
	return true
}

func (m *mergeIter) Key() []byte   { return m.key }
func (m *mergeIter) Value() []byte { return m.value }
func (m *mergeIter) Err() error    { return m.below.Err() }
func (m *mergeIter) Close() error  { return m.below.Close() }
