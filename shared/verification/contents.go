package verification

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/oklog/ulid/v2"

	"originchain/shared/frame"
	recovery "originchain/shared/recover"
	"originchain/shared/table"
)

// holder names what a counter counts: the rows of a table (index 0), the
// entries of an index, or a tenant's stored answers (table.IdemTable).
type holder struct {
	tenant       ulid.ULID
	table, index uint32
}

func (h holder) compare(o holder) int {
	return cmp.Or(h.tenant.Compare(o.tenant), cmp.Compare(h.table, o.table), cmp.Compare(h.index, o.index))
}

// contents are the pairs of a state, and what one pass over them gathers.
type contents struct {
	*run
	snap table.View
	// links says how rows, entries and references are held against each other.
	links links
	// tenants have a record; schemas have at least one table.
	tenants, schemas map[ulid.ULID]bool
	// nextID is the next table id of a tenant.
	nextID map[ulid.ULID]uint32
	// counters are what is stored, tallies what is there.
	counters, tallies map[holder]table.Counters
	advance           func(int64)
}

func newContents(r *run, snap table.View) *contents {
	return &contents{run: r, snap: snap, links: lookups{}, tenants: map[ulid.ULID]bool{}, schemas: map[ulid.ULID]bool{}, nextID: map[ulid.ULID]uint32{},
		counters: map[holder]table.Counters{}, tallies: map[holder]table.Counters{}}
}

// scan recomputes the digest, and looks at every pair as it goes by. It reports
// whether it came to the end.
func (c *contents) scan(logSound bool) (whole bool, err error) {
	advance, end := c.opts.Begin("state", "keys", table.CountedKeys(c.snap))
	defer end()
	c.advance = advance
	scanned, err := recovery.VerifyView(&watched{View: c.snap, see: c.see, ended: c.ended}, c.at)
	if stop := c.ended(); stop != nil {
		return false, stop
	}
	var mismatch *recovery.MismatchError
	switch {
	case errors.As(err, &mismatch):
		c.fault(Fault{Check: CheckDigest, Problem: err.Error(), Do: doRebuild})
	case err != nil:
		c.unreadable(err)
		return false, nil
	default:
		c.report.State.Keys = scanned.Keys
		c.proved = logSound && c.history.known && c.history.digest == c.at.Digest
	}
	return true, nil
}

// see looks at one pair: what can be told of it alone is checked, the rest kept.
func (c *contents) see(key, value []byte) {
	c.advance(1)
	p, ok := table.SplitKey(key)
	if !ok {
		c.keyFault(Fault{Check: CheckRecords, Problem: "the key has no known form"}, key)
		return
	}
	switch p.Space {
	case table.SpaceRows:
		c.tally(holder{p.Tenant, p.TableID, 0}, key, value)
		c.report.State.Rows++
	case table.SpaceIndexes:
		c.tally(holder{p.Tenant, p.TableID, p.IndexID}, key, value)
		c.report.State.IndexEntries++
	case table.SpaceCounters:
		counters, err := table.DecodeCounters(value)
		if err != nil {
			c.keyFault(Fault{Check: CheckCounters, Problem: err.Error()}, key)
			return
		}
		c.counters[holder{p.Tenant, p.TableID, p.IndexID}] = counters
	case table.SpaceSchemas:
		c.schemas[p.Tenant] = true
	case table.SpaceIDs:
		if len(value) != 4 {
			c.keyFault(Fault{Check: CheckRecords, Problem: fmt.Sprintf("the next table id has %d bytes, not 4", len(value))}, key)
			return
		}
		c.nextID[p.Tenant] = binary.LittleEndian.Uint32(value)
	default:
		c.seeRecord(p, key, value)
	}
}

func (c *contents) tally(h holder, key, value []byte) {
	n := c.tallies[h]
	n.Entries++
	n.Bytes += uint64(len(key) + len(value))
	n.Sum = n.Sum.Add(frame.PairHash(key, value))
	c.tallies[h] = n
}

// compare checks the tables of every tenant, then the counters.
func (c *contents) compare() error {
	names := map[holder]named{}
	advance, end := c.opts.Begin("tables", "keys", int64(c.report.State.Rows+c.report.State.IndexEntries))
	defer end()
	c.advance = advance
	tenants := slices.SortedFunc(maps.Keys(c.schemas), ulid.ULID.Compare)
	c.report.State.Tenants = uint64(len(c.tenants))
	for _, id := range tenants {
		if err := c.compareTenant(id, names); err != nil {
			return err
		}
	}
	if err := c.links.end(c); err != nil {
		return err
	}
	c.compareCounters(names)
	return nil
}

// named is whose keys a holder's are, in an operator's words.
type named struct{ table, index string }

func (c *contents) compareTenant(id ulid.ULID, names map[holder]named) error {
	if !c.tenants[id] {
		c.fault(Fault{Check: CheckRecords, Tenant: id.String(), Problem: "the tenant has tables and no record"})
	}
	names[holder{id, table.IdemTable, 0}] = named{table: "(stored answers)"}
	cat, err := table.LoadCatalog(c.snap, id)
	if err != nil {
		c.fault(Fault{Check: CheckRecords, Tenant: id.String(), Problem: "its tables cannot be loaded: " + err.Error()})
		// Without their names nothing can be said of its counters.
		for h := range c.tallies {
			if h.tenant == id {
				names[h] = named{table: fmt.Sprintf("number %d", h.table), index: fmt.Sprintf("number %d", h.index)}
			}
		}
		return nil
	}
	for _, name := range cat.Names() {
		t, _ := cat.Lookup(name)
		c.report.State.Tables++
		names[holder{id, t.TableID, 0}] = named{table: name}
		for _, ix := range t.Indexes {
			names[holder{id, t.TableID, ix.ID}] = named{table: name, index: ix.Name}
		}
		if next := c.nextID[id]; t.TableID >= next {
			c.fault(Fault{Check: CheckRecords, Tenant: id.String(), Table: name, Problem: fmt.Sprintf("it has number %d, and the next table would get %d", t.TableID, next)})
		}
		if err := c.compareTable(cat, t); err != nil {
			return err
		}
	}
	return nil
}

// compareCounters holds what is counted against what is there. Vectors are part
// of rows and have no keys to be counted by.
func (c *contents) compareCounters(names map[holder]named) {
	all := maps.Clone(c.tallies)
	maps.Copy(all, c.counters)
	for _, h := range slices.SortedFunc(maps.Keys(all), holder.compare) {
		is, says := c.tallies[h], c.counters[h]
		name, known := names[h]
		f := Fault{Check: CheckCounters, Tenant: h.tenant.String(), Table: name.table, Index: name.index}
		key := table.CounterKey(h.tenant, h.table, h.index)
		switch {
		case !known && h.table != table.IdemTable:
			f.Check = CheckRecords
			f.Problem = fmt.Sprintf("there are %d keys and a counter of %d for table number %d, index number %d, which no table has", is.Entries, says.Entries, h.table, h.index)
		case is.Entries != says.Entries || is.Bytes != says.Bytes:
			f.Problem = fmt.Sprintf("the counter says %d entries of %d bytes, there are %d of %d", says.Entries, says.Bytes, is.Entries, is.Bytes)
		case is.Sum != says.Sum:
			f.Problem = fmt.Sprintf("the counter says that the entries add up to %s, they add up to %s", says.Sum, is.Sum)
		default:
			continue
		}
		c.keyFault(f, key)
	}
}

// keyFault reports what is wrong under a key.
func (c *contents) keyFault(f Fault, key []byte) {
	f.Key = hex.EncodeToString(key)
	f.Problem += " (" + table.FormatKey(key) + ")"
	c.fault(f)
}

// unreadable reports files of the state that do not read back.
func (c *contents) unreadable(err error) {
	c.fault(Fault{Check: CheckState, Problem: "the state cannot be read to its end: " + err.Error(), Do: doRebuild})
}

// watched is a View whose pairs are seen as they are read.
type watched struct {
	table.View
	see   func(key, value []byte)
	ended func() error
}

// Iter implements table.View.
func (w *watched) Iter(lower, upper []byte, reverse bool) (table.Iterator, error) {
	it, err := w.View.Iter(lower, upper, reverse)
	if err != nil {
		return nil, err
	}
	return &watchedIter{Iterator: it, of: w}, nil
}

type watchedIter struct {
	table.Iterator
	of *watched
}

// Next implements table.Iterator; it stops early when the verification does.
func (i *watchedIter) Next() bool {
	if i.of.ended() != nil || !i.Iterator.Next() {
		return false
	}
	i.of.see(i.Key(), i.Value())
	return true
}
