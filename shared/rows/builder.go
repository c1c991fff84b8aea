// Package rows turns changes of rows, tables and records into the operations
// of one frame: it keeps constraints, indexes and counters exact, relative to
// the state that the previous frame leaves. It does no I/O of its own, reads no
// clock and no randomness (stamps and salts are handed in), and is used by the
// sequencer to decide a commit and by a transaction to see its own writes.
package rows

import (
	"fmt"

	"github.com/oklog/ulid/v2"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/table"
)

// Config is what a Builder stands on.
type Config struct {
	// Base is the state the frame follows, pending frames included.
	Base table.View
	// Catalog returns the tenant's tables in Base.
	Catalog func(ulid.ULID) (*table.Catalog, error)
	// Salt returns 8 fresh random bytes for a value.
	Salt func() uint64
	// LSN and Stamp (micros) are those of the frame; a transaction that has no
	// frame yet uses table.RowVersionPending and 0.
	LSN   lsn.LSN
	Stamp int64
}

// Builder collects the operations of one frame. At most one operation per key
// leaves it, each with the hash of the pair it replaces in Base. It is a View
// of Base with its own writes on top. One goroutine uses it at a time; after an
// error the caller discards it, or rolls back to a Savepoint, or starts over
// with Reset, which keeps the memory of small frames for the next one.
type Builder struct {
	cfg      Config
	ops      map[string]*change
	over     *table.Overlay // the same writes in order; made by the first Iter
	order    []*change
	counters map[string]*counter
	counted  []*counter
	ranges   []frame.Op
	catalogs map[ulid.ULID]*table.Catalog
	undo     []undo
	logging  bool // undo is recorded only once a Savepoint was taken

	changeSlab  slab[change]
	counterSlab slab[counter]
}

// change is the net effect on one key.
type change struct {
	name    string // the key
	key     []byte // the same, as the operation carries it
	value   []byte
	deleted bool
	hash    lsn.Digest // of (key, value) when not deleted
	hadOld  bool
	old     lsn.Digest // of the pair in Base, when hadOld
	oldSize uint64     // its length, when hadOld
}

type counter struct {
	name   string // the key
	key    []byte
	now    table.Counters
	hadOld bool
	old    lsn.Digest
	gone   bool // the table or index was dropped: the counter goes too
	// written says that Finish made an operation of it; value is that put's.
	written bool
	value   []byte
}

// undo restores one change or counter as it was before a statement.
type undo struct {
	change  *change
	was     change
	fresh   bool // the change did not exist before
	counter *counter
	total   table.Counters
}

// New makes an empty Builder.
func New(cfg Config) *Builder {
	return &Builder{cfg: cfg, ops: map[string]*change{}, counters: map[string]*counter{}}
}

// keptChanges is up to how many changes a frame leaves its memory behind for the
// next one; a larger one's maps would cost more to clear than to make.
const keptChanges = 64

// Reset makes the Builder empty, for the frame at this LSN and stamp. What
// Finish returned before stays valid.
func (b *Builder) Reset(at lsn.LSN, stamp int64) {
	b.cfg.LSN, b.cfg.Stamp = at, stamp
	if len(b.order) > keptChanges || len(b.counted) > keptChanges {
		*b = *New(b.cfg)
		return
	}
	clear(b.ops)
	clear(b.counters)
	b.changeSlab.reset()
	b.counterSlab.reset()
	clear(b.order)
	clear(b.counted)
	clear(b.undo)
	b.over, b.catalogs, b.logging = nil, nil, false
	b.order, b.counted, b.undo = b.order[:0], b.counted[:0], b.undo[:0]
	b.ranges = nil
}

// slab hands out values whose addresses stay, in blocks of slabValues.
type slab[T any] struct {
	values []T
	used   int
}

const slabValues = 4

func (s *slab[T]) next() *T {
	if s.used == len(s.values) {
		// What was handed out of the block before stays where it is.
		s.values, s.used = make([]T, slabValues), 0
	}
	s.used++
	return &s.values[s.used-1]
}

// reset takes the last block back: nobody uses its values any more.
func (s *slab[T]) reset() {
	clear(s.values)
	s.used = 0
}

// LSN is the frame's LSN, or table.RowVersionPending in a transaction.
func (b *Builder) LSN() lsn.LSN { return b.cfg.LSN }

// Stamp is the frame's stamp in micros.
func (b *Builder) Stamp() int64 { return b.cfg.Stamp }

// Get implements table.View.
func (b *Builder) Get(key []byte) ([]byte, bool, error) {
	if c, ok := b.ops[string(key)]; ok {
		return c.value, !c.deleted, nil
	}
	return b.cfg.Base.Get(key)
}

// Iter implements table.View. Most frames never scan, so the ordered copy of
// the writes is made by the first one that does.
func (b *Builder) Iter(lower, upper []byte, reverse bool) (table.Iterator, error) {
	if b.over == nil {
		b.over = table.NewOverlay(b.cfg.Base)
		for _, c := range b.order {
			b.lay(c)
		}
	}
	return b.over.Iter(lower, upper, reverse)
}

// lay puts a change into the ordered copy, if there is one.
func (b *Builder) lay(c *change) {
	if b.over != nil {
		b.over.Set(c.name, table.Write{Value: c.value, Deleted: c.deleted})
	}
}

// Catalog returns the tenant's tables with this frame's own changes.
func (b *Builder) Catalog(tenant ulid.ULID) (*table.Catalog, error) {
	if c, ok := b.catalogs[tenant]; ok {
		return c, nil
	}
	return b.cfg.Catalog(tenant)
}

// Changed lists the tenants whose catalog this frame changes, with the result.
func (b *Builder) Changed() map[ulid.ULID]*table.Catalog { return b.catalogs }

// Empty reports whether the frame would hold no operation.
func (b *Builder) Empty() bool {
	if len(b.ranges) > 0 {
		return false
	}
	for _, c := range b.order {
		if c.effective() {
			return false
		}
	}
	return true
}

// effective is false for a key that was written and taken back: a delete of an
// absent key is left out of the frame.
func (c *change) effective() bool { return !c.deleted || c.hadOld }

// set writes value under key and counts it under ck (nil: not counted). old and
// hadOld are what Get just returned for key. The keys and the value are kept:
// nobody may change them after.
func (b *Builder) set(ck []byte, key, value, old []byte, hadOld bool) error {
	return b.apply(ck, key, value, false, old, hadOld)
}

// remove deletes key, which Get just returned with this value.
func (b *Builder) remove(ck []byte, key, old []byte) error {
	return b.apply(ck, key, nil, true, old, true)
}

func (b *Builder) apply(ck []byte, key, value []byte, deleted bool, cur []byte, curOK bool) error {
	c, known := b.ops[string(key)]
	var curHash lsn.Digest
	if known {
		curHash = c.hash
		b.rememberChange(c)
	} else {
		c = b.changeSlab.next()
		*c = change{name: string(key), key: key, hadOld: curOK, deleted: true}
		if curOK {
			curHash = frame.PairHash(key, cur)
			c.old, c.oldSize = curHash, uint64(len(key)+len(cur))
		}
		b.ops[c.name] = c
		b.order = append(b.order, c)
		if b.logging {
			b.undo = append(b.undo, undo{change: c, fresh: true})
		}
	}
	c.value, c.deleted = value, deleted
	if !deleted {
		c.hash = frame.PairHash(key, value)
	}
	b.lay(c)
	if ck == nil {
		return nil
	}
	n, err := b.counter(ck)
	if err != nil {
		return err
	}
	if b.logging {
		b.undo = append(b.undo, undo{counter: n, total: n.now})
	}
	if curOK {
		n.now.Entries--
		n.now.Bytes -= uint64(len(key) + len(cur))
		n.now.Sum = n.now.Sum.Sub(curHash)
	}
	if !deleted {
		n.now.Entries++
		n.now.Bytes += uint64(len(key) + len(value))
		n.now.Sum = n.now.Sum.Add(c.hash)
	}
	return nil
}

// counter loads the counters under key once per frame.
func (b *Builder) counter(key []byte) (*counter, error) {
	if n, ok := b.counters[string(key)]; ok {
		return n, nil
	}
	raw, ok, err := b.cfg.Base.Get(key)
	if err != nil {
		return nil, err
	}
	n := b.counterSlab.next()
	*n = counter{name: string(key), key: key, hadOld: ok}
	if ok {
		if n.now, err = table.DecodeCounters(raw); err != nil {
			return nil, err
		}
		n.old = frame.PairHash(key, raw)
	}
	b.counters[n.name] = n
	b.counted = append(b.counted, n)
	return n, nil
}

// Counters returns the counters under key with this frame's own changes.
func (b *Builder) Counters(key []byte) (table.Counters, error) {
	if n, ok := b.counters[string(key)]; ok {
		return n.now, nil
	}
	return table.ReadCounters(b.cfg.Base, key)
}

// Savepoint marks where a statement starts; Rollback undoes all since.
func (b *Builder) Savepoint() int {
	b.logging = true
	return len(b.undo)
}

func (b *Builder) rememberChange(c *change) {
	if b.logging {
		b.undo = append(b.undo, undo{change: c, was: *c})
	}
}

// Rollback takes back every row change since the Savepoint, so that a failed
// statement leaves its transaction as it was. Changes of tables are frames of
// their own and are never rolled back.
func (b *Builder) Rollback(savepoint int) {
	for i := len(b.undo) - 1; i >= savepoint; i-- {
		u := b.undo[i]
		switch {
		case u.counter != nil:
			u.counter.now = u.total
		case u.fresh:
			delete(b.ops, u.change.name)
			b.order = b.order[:len(b.order)-1]
			if b.over != nil {
				b.over.Remove(u.change.name)
			}
		default:
			*u.change = u.was
			b.lay(u.change)
		}
	}
	b.undo = b.undo[:savepoint]
}

// Finish appends the frame's operations to ops, which may be nil, and returns
// them with what they add to the state digest. Counters come last, as absolute
// puts, once each.
func (b *Builder) Finish(ops []frame.Op) ([]frame.Op, lsn.Digest, error) {
	var delta lsn.Digest
	for _, r := range b.ranges {
		ops = append(ops, r)
		delta = delta.Sub(r.Old)
	}
	for _, c := range b.order {
		if !c.effective() {
			continue
		}
		op := frame.Op{Type: frame.Put, Key: c.key, Value: c.value, HadOld: c.hadOld, Old: c.old}
		if c.deleted {
			op.Type, op.Value = frame.Delete, nil
		} else {
			delta = delta.Add(c.hash)
		}
		if c.hadOld {
			delta = delta.Sub(c.old)
		}
		ops = append(ops, op)
	}
	for _, n := range b.counted {
		op, add, ok := n.operation()
		if ok {
			n.written, n.value = true, op.Value
			ops = append(ops, op)
			delta = delta.Add(add)
		}
	}
	if len(ops) == 0 {
		return nil, delta, fmt.Errorf("rows: an empty frame was finished")
	}
	return ops, delta, nil
}

func (n *counter) operation() (op frame.Op, delta lsn.Digest, ok bool) {
	if n.gone {
		if !n.hadOld {
			return op, delta, false
		}
		return frame.Op{Type: frame.Delete, Key: n.key, HadOld: true, Old: n.old}, lsn.Digest{}.Sub(n.old), true
	}
	value := n.now.Append(make([]byte, 0, table.CountersSize))
	hash := frame.PairHash(n.key, value)
	if n.hadOld && hash == n.old {
		return op, delta, false
	}
	delta = hash
	if n.hadOld {
		delta = delta.Sub(n.old)
	}
	return frame.Op{Type: frame.Put, Key: n.key, Value: value, HadOld: n.hadOld, Old: n.old}, delta, true
}

// Writes calls f for every key that Finish made a put or delete of, so that the
// sequencer can lay them over the state for the frames that follow.
func (b *Builder) Writes(f func(key string, value []byte, deleted bool)) {
	for _, c := range b.order {
		if c.effective() {
			f(c.name, c.value, c.deleted)
		}
	}
	for _, n := range b.counted {
		if n.written {
			f(n.name, n.value, n.gone)
		}
	}
}
