package oracle

import (
	"errors"
	"fmt"

	"github.com/oklog/ulid/v2"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// ErrDiffers is what Compare returns of a state that reads well and is not what
// the log leads to.
var ErrDiffers = errors.New("the state is not what the log leads to")

// Compare holds a state to the model, pair by pair.
func (m *Model) Compare(v table.View) (err error) {
	lower, upper := table.LoggedRange()
	it, err := v.Iter(lower, upper, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	n := 0
	for it.Next() {
		want, ok := m.Pairs[string(it.Key())]
		switch {
		case !ok:
			return fmt.Errorf("%w: LSN %d: key %x is not from the log", ErrDiffers, m.Last.LSN, it.Key())
		case want != string(it.Value()):
			return fmt.Errorf("%w: LSN %d: key %x has value %x, want %x", ErrDiffers, m.Last.LSN, it.Key(), it.Value(), want)
		}
		n++
	}
	if err := it.Err(); err != nil {
		return err
	}
	if n != len(m.Pairs) {
		return fmt.Errorf("%w: LSN %d: it has %d keys, want %d: %s", ErrDiffers, m.Last.LSN, n, len(m.Pairs), m.missing(v))
	}
	return nil
}

// missing names one key that the state lacks.
func (m *Model) missing(v table.View) string {
	for k := range m.Pairs {
		if _, ok, err := v.Get([]byte(k)); err == nil && !ok {
			return fmt.Sprintf("key %x is not in it", k)
		}
	}
	return "every key can be read by itself"
}

// Check recomputes everything that follows from the rows: the digest, the
// counters, each index, and that unique and foreign keys hold.
func (m *Model) Check() error {
	var digest lsn.Digest
	totals := map[string]table.Counters{}
	for k, v := range m.Pairs {
		hash := frame.PairHash([]byte(k), []byte(v))
		digest = digest.Add(hash)
		p, _ := table.SplitKey([]byte(k))
		ck := ""
		switch p.Space {
		case table.SpaceRows:
			ck = string(table.CounterKey(p.Tenant, p.TableID, 0))
		case table.SpaceIndexes:
			ck = string(table.CounterKey(p.Tenant, p.TableID, p.IndexID))
		case table.SpaceIdem:
			ck = string(table.CounterKey(p.Tenant, table.IdemTable, 0))
		default:
			continue
		}
		c := totals[ck]
		c.Entries++
		c.Bytes += uint64(len(k) + len(v))
		c.Sum = c.Sum.Add(hash)
		totals[ck] = c
	}
	if digest != m.Last.Digest {
		return fmt.Errorf("LSN %d: digest %s, the pairs add up to %s", m.Last.LSN, m.Last.Digest, digest)
	}
	return errors.Join(m.checkCounters(totals), m.checkTables())
}

func (m *Model) checkCounters(totals map[string]table.Counters) error {
	for k, v := range m.Pairs {
		p, _ := table.SplitKey([]byte(k))
		if p.Space != table.SpaceCounters {
			continue
		}
		got, err := table.DecodeCounters([]byte(v))
		if err != nil {
			return err
		}
		if want := totals[k]; got != want {
			return fmt.Errorf("LSN %d: counters of table %d, index %d are %+v, a count gives %+v", m.Last.LSN, p.TableID, p.IndexID, got, want)
		}
		delete(totals, k)
	}
	for k, c := range totals {
		return fmt.Errorf("LSN %d: no counters under %x, a count gives %+v", m.Last.LSN, k, c)
	}
	return nil
}

func (m *Model) checkTables() error {
	rows, entries := m.rowsByTable()
	for k, t := range m.tables {
		want := map[string]bool{}
		for key, row := range rows[k] {
			t.expectEntries(key, row, want)
		}
		if err := t.compareEntries(want, entries[k]); err != nil {
			return fmt.Errorf("LSN %d: table %s: %w", m.Last.LSN, t.Schema.ID, err)
		}
		for _, fk := range t.Schema.ForeignKeys {
			if err := m.checkReference(t, fk, rows[k]); err != nil {
				return err
			}
		}
		delete(rows, k)
		delete(entries, k)
	}
	if n := len(rows) + len(entries); n > 0 {
		return fmt.Errorf("LSN %d: rows or index entries of %d tables that do not exist", m.Last.LSN, n)
	}
	return nil
}

func (m *Model) rowsByTable() (rows map[tableKey]map[string]schema.Row, entries map[tableKey]map[string]bool) {
	rows, entries = map[tableKey]map[string]schema.Row{}, map[tableKey]map[string]bool{}
	for k, v := range m.Pairs {
		p, _ := table.SplitKey([]byte(k))
		tk := tableKey{p.Tenant, p.TableID}
		switch p.Space {
		case table.SpaceRows:
			if rows[tk] == nil {
				rows[tk] = map[string]schema.Row{}
			}
			if t, ok := m.tables[tk]; ok {
				row, _, err := t.Decode(v)
				if err != nil {
					row = nil
				}
				rows[tk][k] = row
			}
		case table.SpaceIndexes:
			if entries[tk] == nil {
				entries[tk] = map[string]bool{}
			}
			entries[tk][k] = true
		}
	}
	return rows, entries
}

// expectEntries lists the index entries that a row must have. One of an index
// that is being built may be missing, so those are not listed.
func (t *Table) expectEntries(rowKey string, row schema.Row, want map[string]bool) {
	for _, ix := range t.Indexes {
		if ix.Building {
			continue
		}
		key, null := table.AppendIndexPrefix(nil, t.Tenant, t.TableID, ix.ID), false
		for _, name := range ix.Columns {
			c, _ := t.Schema.ColumnIndex(name)
			null = null || row[c].IsNull()
			key = schema.AppendKey(key, row[c])
		}
		if !ix.Unique || null {
			key = append(key, table.PKTuple([]byte(rowKey))...)
		}
		if want[string(key)] {
			key = append(key, " (twice: unique values collide)"...)
		}
		want[string(key)] = true
	}
}

func (t *Table) compareEntries(want, got map[string]bool) error {
	building := map[uint32]bool{}
	for _, ix := range t.Indexes {
		building[ix.ID] = ix.Building
	}
	for k := range got {
		p, _ := table.SplitKey([]byte(k))
		if !want[k] && !building[p.IndexID] {
			return fmt.Errorf("index %d has an entry %x that no row makes", p.IndexID, k)
		}
	}
	for k := range want {
		if !got[k] {
			return fmt.Errorf("a row has no index entry %x", k)
		}
	}
	return nil
}

func (m *Model) checkReference(t *Table, fk schema.ForeignKey, children map[string]schema.Row) error {
	parent := m.find(t.Tenant, fk.TargetSchema)
	if parent == nil {
		return fmt.Errorf("LSN %d: table %s points to %s, which does not exist", m.Last.LSN, t.Schema.ID, fk.TargetSchema)
	}
	c, _ := parent.Schema.ColumnIndex(fk.TargetColumn)
	have := map[schema.Value]bool{}
	for k, v := range m.Pairs {
		p, _ := table.SplitKey([]byte(k))
		if p.Space != table.SpaceRows || p.Tenant != t.Tenant || p.TableID != parent.TableID {
			continue
		}
		row, _, err := parent.Decode(v)
		if err != nil {
			return err
		}
		have[row[c]] = true
	}
	for _, row := range children {
		if v := row[fk.Column]; !v.IsNull() && !have[v] {
			return fmt.Errorf("LSN %d: a row of %s points to %s %s, which does not exist", m.Last.LSN, t.Schema.ID, fk.TargetSchema, v)
		}
	}
	return nil
}

func (m *Model) find(tenant ulid.ULID, id string) *Table {
	for _, t := range m.tables {
		if t.Tenant == tenant && t.Schema.ID == id {
			return t
		}
	}
	return nil
}
