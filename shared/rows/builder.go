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
// error the caller discards it, or rolls back to a Savepoint.
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
}

// change is the net effect on one key.
type change struct {
	key     string
	value   []byte
	deleted bool
	hash    lsn.Digest // of (key, value) when not deleted
	hadOld  bool
	old     lsn.Digest // of the pair in Base, when hadOld
	oldSize uint64     // its length, when hadOld
}

type counter struct {
	key    []byte
	now    table.Counters
	hadOld bool
	old    lsn.Digest
	gone   bool // the table or index was dropped: the counter goes too
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
		b.over.Set(c.key, table.Write{Value: c.value, Deleted: c.deleted})
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
// hadOld are what Get just returned for key.
func (b *Builder) set(ck []byte, key, value, old []byte, hadOld bool) error {
	return b.apply(ck, key, value, false, old, hadOld)
}

// remove deletes key, which Get just returned with this value.
func (b *Builder) remove(ck []byte, key, old []byte) error {
	return b.apply(ck, key, nil, true, old, true)
}

func (b *Builder) apply(ck []byte, key, value []byte, deleted bool, cur []byte, curOK bool) error {
	k := string(key)
	c, known := b.ops[k]
	var curHash lsn.Digest
	if known {
		curHash = c.hash
		b.remember(undo{change: c, was: *c})
	} else {
		c = &change{key: k, hadOld: curOK, deleted: true}
		if curOK {
			curHash = frame.PairHash(key, cur)
			c.old, c.oldSize = curHash, uint64(len(key)+len(cur))
		}
		b.ops[k] = c
		b.order = append(b.order, c)
		b.remember(undo{change: c, fresh: true})
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
	b.remember(undo{counter: n, total: n.now})
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
	n := &counter{key: key, hadOld: ok}
	if ok {
		if n.now, err = table.DecodeCounters(raw); err != nil {
			return nil, err
		}
		n.old = frame.PairHash(key, raw)
	}
	b.counters[string(key)] = n
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

func (b *Builder) remember(u undo) {
	if b.logging {
		b.undo = append(b.undo, u)
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
			delete(b.ops, u.change.key)
			b.order = b.order[:len(b.order)-1]
			if b.over != nil {
				b.over.Remove(u.change.key)
			}
		default:
			*u.change = u.was
			b.lay(u.change)
		}
	}
	b.undo = b.undo[:savepoint]
}

// Finish returns the frame's operations and what they add to the state digest.
// Counters come last, as absolute puts, once each.
func (b *Builder) Finish() ([]frame.Op, lsn.Digest, error) {
	ops := make([]frame.Op, 0, len(b.ranges)+len(b.order)+len(b.counted))
	var delta lsn.Digest
	for _, r := range b.ranges {
		ops = append(ops, r)
		delta = delta.Sub(r.Old)
	}
	for _, c := range b.order {
		if !c.effective() {
			continue
		}
		op := frame.Op{Type: frame.Put, Key: []byte(c.key), Value: c.value, HadOld: c.hadOld, Old: c.old}
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
	value := n.now.Append(nil)
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

// Writes calls f for every key the frame writes, counters included, so that
// the sequencer can lay them over the state for the frames that follow.
func Writes(ops []frame.Op, f func(key, value []byte, deleted bool)) {
	for i := range ops {
		if ops[i].Type != frame.RangeDelete {
			f(ops[i].Key, ops[i].Value, ops[i].Type == frame.Delete)
		}
	}
}
