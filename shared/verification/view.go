package verification

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// ViewOptions say of what a state is read that is in no directory.
type ViewOptions struct {
	// View is the state, read forwards; a lookup may be dear.
	View table.View
	// At is the frame that it is to stand at, with the digest that the writer recorded.
	At table.Applied
	// Begin is as in Options.
	Begin func(name, unit string, total int64) (advance func(n int64), end func())
}

// RunView verifies a state that is read through a View, and all of it: the digest of
// every pair, every record and row through the loaders, counters, indexes and
// references, as Run does of a directory's state. There is no log in the report.
//
// It reads the state twice from its beginning to its end and looks up little, which is
// for a state that is far away: see sums.
func RunView(ctx context.Context, o ViewOptions) (*Report, error) {
	if o.Begin == nil {
		o.Begin = func(string, string, int64) (func(int64), func()) { return func(int64) {}, func() {} }
	}
	r := &run{ctx: ctx, opts: Options{Begin: o.Begin}, report: &Report{Faults: []Fault{}}, at: o.At, archived: true, joined: true}
	r.history.chain, r.history.digest, r.history.known = o.At.Chain, o.At.Digest, true
	s := &r.report.State
	s.LSN, s.Epoch, s.Digest = o.At.Pos.LSN, o.At.Pos.Epoch, o.At.Digest.String()
	c := newContents(r, o.View)
	c.links = newSums()
	whole, err := c.scan(true)
	if err == nil && whole {
		err = c.compare()
	}
	r.advise()
	if err == nil {
		err = r.ended()
	}
	if err != nil {
		return r.report, err
	}
	r.report.Complete = whole
	r.report.OK = whole && r.report.FoundFaults == 0
	return r.report, nil
}

// maxTargetsBytes bounds the references that are held until they are looked up.
const maxTargetsBytes = 64 << 20

// targetBytes is about what one takes beside its keys.
const targetBytes = 160

// sums holds rows against indexes without a lookup for each: an entry is what its row
// makes, so the entries that the rows make and the entries that are there, as sets,
// must be equal; their sums mod 2^128 of XXH3-128 are compared, which is what the
// digest of the state is, too. Where they differ the entries are looked up, to name
// them. An index that is being built has fewer entries than rows: its are looked up.
//
// A reference needs one row, however many point to it: they are gathered up to
// maxTargetsBytes and looked up in the order of their keys, so that a block is read
// once for all that are in it.
//
// Refused: references as sums, since a row may be pointed to any number of times; and
// sets of hashes that are sorted on disk, which a state of this reach does not need.
type sums struct {
	made    map[uint32]*setSum // by index of the table that is read
	targets map[string]*target
	held    int
}

type target struct {
	reference
	more uint64 // that point to the same row, of any table
}

// setSum is the sum of a set of entries.
type setSum struct {
	sum lsn.Digest
	n   uint64
}

// add adds an entry: where it is, and of which row.
func (s *setSum) add(key, pk []byte) {
	var size [4]byte
	binary.LittleEndian.PutUint32(size[:], uint32(len(pk)))
	s.sum = s.sum.Add(frame.PairHash(key, append(append(make([]byte, 0, 4+len(pk)), size[:]...), pk...)))
	s.n++
}

func newSums() *sums { return &sums{made: map[uint32]*setSum{}, targets: map[string]*target{}} }

func (s *sums) entry(_ *contents, t *table.Table, ix schema.Index, row schema.Row, pk []byte) {
	of := s.made[ix.ID]
	if of == nil {
		of = &setSum{}
		s.made[ix.ID] = of
	}
	key, _ := table.IndexEntry(nil, t, ix, row, pk)
	of.add(key, pk)
}

func (s *sums) target(c *contents, r reference, proof []byte) {
	if x := s.targets[string(proof)]; x != nil {
		x.more++
		return
	}
	r.key = bytes.Clone(r.key)
	s.targets[string(proof)] = &target{reference: r}
	if s.held += len(proof) + len(r.key) + targetBytes; s.held >= maxTargetsBytes {
		s.find(c)
	}
}

// find looks up the references that are held.
func (s *sums) find(c *contents) {
	for _, proof := range slices.Sorted(maps.Keys(s.targets)) {
		if c.ended() != nil {
			return // which whoever reads the rows finds, too
		}
		_, ok, err := c.snap.Get([]byte(proof))
		x := s.targets[proof]
		switch {
		case err != nil:
			c.unreadable(err)
			return
		case !ok && x.more > 0:
			c.missesTarget(x.reference, fmt.Sprintf(", and so do %d more references", x.more))
			c.report.FoundFaults += x.more
		case !ok:
			c.missesTarget(x.reference, "")
		}
	}
	clear(s.targets)
	s.held = 0
}

func (s *sums) end(c *contents) error {
	s.find(c)
	return c.ended()
}

func (s *sums) indexes(c *contents, t *table.Table) error {
	made := s.made
	s.made = map[uint32]*setSum{}
	for _, ix := range t.Indexes {
		if !ix.Ready {
			if err := c.compareIndex(t, ix); err != nil {
				return err
			}
			continue
		}
		there, err := c.sumIndex(t, ix)
		if err != nil {
			return err
		}
		if there == nil || *there == *cmp.Or(made[ix.ID], &setSum{}) {
			continue
		}
		if err := c.nameEntries(t, ix); err != nil {
			return err
		}
	}
	return nil
}

// sumIndex adds up the entries that are there; nil if they cannot be read, which is
// reported.
func (c *contents) sumIndex(t *table.Table, ix schema.Index) (*setSum, error) {
	lower, upper := table.IndexRange(t, ix)
	scan, err := table.ScanIndex(c.snap, t, ix, lower, upper, false)
	if err != nil {
		c.unreadable(err)
		return nil, nil
	}
	there := &setSum{}
	for scan.Next() {
		if err := c.ended(); err != nil {
			return nil, errors.Join(err, scan.Close())
		}
		c.advance(1)
		there.add(scan.Key(), table.PKTuple(scan.RowKey()))
	}
	if err := errors.Join(scan.Err(), scan.Close()); err != nil {
		f := c.of(CheckIndexes, t, "the index cannot be read to its end: "+err.Error())
		f.Index = ix.Name
		c.fault(f)
		return nil, nil
	}
	return there, nil
}

// nameEntries finds what makes the sums of an index and its rows differ, by looking up
// each.
func (c *contents) nameEntries(t *table.Table, ix schema.Index) error {
	before := c.report.FoundFaults
	lower, upper := table.RowRange(t)
	scan, err := table.ScanRows(c.snap, t, lower, upper, false)
	if err != nil {
		c.unreadable(err)
		return nil
	}
	unread := false
	var row schema.Row
	for scan.Next() {
		if err := c.ended(); err != nil {
			return errors.Join(err, scan.Close())
		}
		read, _, err := scan.Row(row)
		if err != nil {
			unread = true // reported, and its entry is one too many
			continue
		}
		row = read
		c.findEntry(t, ix, row, table.PKTuple(scan.Key()))
	}
	if err := errors.Join(scan.Err(), scan.Close()); err != nil {
		c.unreadable(err)
		return nil
	}
	if err := c.compareIndex(t, ix); err != nil {
		return err
	}
	if c.report.FoundFaults == before && !unread {
		f := c.of(CheckIndexes, t, "the entries are not those that the rows make, and each of them is there when it is looked up")
		f.Index = ix.Name
		c.fault(f)
	}
	return nil
}
