package purge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/oklog/ulid/v2"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// Selector says whose rows are removed: those of a table with a primary key, or those
// that ever had a value in an indexed column.
type Selector struct {
	Tenant ulid.ULID
	// Schema is the table, as "namespace.table".
	Schema string
	// PK is the primary key as answers give it: of one column as a path holds it, of
	// several the text of a JSON array.
	PK string
	// Column and Value select instead, if Column is set.
	Column, Value string
}

// ErrSelector says that a selection cannot be made.
var ErrSelector = errors.New("the rows cannot be selected")

// subject knows the rows in every table that has had the name, and tells what is theirs.
type subject struct {
	sel Selector
	// tables are those that had the name, by id, each as its last record says.
	tables map[uint32]*table.Table
	// keys are the primary key tuples by table id.
	keys map[uint32]map[string]bool
	// texts are the keys as stored answers give them.
	texts map[string]bool
	// indexed says that the column had an index in some record.
	indexed bool
	matched bool // some record's table has a key of this form, or the column
	why     error
}

func newSubject(sel Selector) *subject {
	return &subject{sel: sel, tables: map[uint32]*table.Table{}, keys: map[uint32]map[string]bool{}, texts: map[string]bool{}}
}

// learn takes a stored record of the table.
func (s *subject) learn(value []byte) error {
	t, err := table.DecodeTable(s.sel.Tenant, s.sel.Schema, value)
	if err != nil {
		return err
	}
	s.tables[t.TableID] = t
	if s.keys[t.TableID] == nil {
		s.keys[t.TableID] = map[string]bool{}
	}
	if s.sel.Column != "" {
		return s.learnColumn(t)
	}
	pk, err := t.ParseTuple(s.sel.PK)
	if err != nil {
		s.why = err // another table of the name may have such a key
		return nil
	}
	s.matched = true
	var tuple []byte
	for _, v := range pk {
		tuple = schema.AppendKey(tuple, v)
	}
	s.add(t, pk, tuple)
	return nil
}

func (s *subject) learnColumn(t *table.Table) error {
	if _, _, err := s.column(t); err != nil {
		s.why = err
		return nil
	}
	i, _ := t.ColumnIndex(s.sel.Column)
	for _, ix := range t.Indexes {
		s.indexed = s.indexed || ix.Columns[0] == i
	}
	s.matched = true
	return nil
}

// column is the place of the column that is asked for in a table, and the value.
func (s *subject) column(t *table.Table) (int, schema.Value, error) {
	i, ok := t.ColumnIndex(s.sel.Column)
	if !ok {
		return 0, schema.Value{}, fmt.Errorf("table %s has no column %q", s.sel.Schema, s.sel.Column)
	}
	alone := *t.Table
	alone.PK = []int{i}
	v, err := alone.ParsePK(s.sel.Value)
	return i, v, err
}

func (s *subject) add(t *table.Table, pk []schema.Value, tuple []byte) {
	s.keys[t.TableID][string(tuple)] = true
	// Whoever made the answer may or may not have escaped < and >.
	text := schema.FormatPK(pk)
	for _, escape := range []bool{false, true} {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(escape)
		if err := enc.Encode(text); err == nil { // a string always encodes
			s.texts[string(bytes.TrimSpace(b.Bytes()))] = true
		}
	}
}

// check reports a selection that no table of the archive can answer.
func (s *subject) check() error {
	switch {
	case len(s.tables) == 0:
		return fmt.Errorf("%w: the archive has never had a table %s of tenant %s", ErrSelector, s.sel.Schema, s.sel.Tenant)
	case !s.matched:
		return fmt.Errorf("%w: %w", ErrSelector, s.why)
	case s.sel.Column != "" && !s.indexed:
		return fmt.Errorf("%w: no index of %s begins with column %q; select by an indexed column, or by --pk", ErrSelector, s.sel.Schema, s.sel.Column)
	}
	return nil
}

// none says that no row is known to be the subject's.
func (s *subject) none() bool {
	for _, keys := range s.keys {
		if len(keys) > 0 {
			return false
		}
	}
	return true
}

// look takes the key of a row that has the value, when rows are selected by one.
func (s *subject) look(p table.Parts, value []byte) error {
	t := s.tables[p.TableID]
	if s.sel.Column == "" || t == nil || p.Space != table.SpaceRows {
		return nil
	}
	i, want, err := s.column(t)
	if err != nil {
		return nil //nolint:nilerr // a table of the name that has no such column has no such row
	}
	row, _, err := table.DecodeRowValue(t, value, nil)
	if err != nil || !row[i].Equal(want) {
		return err
	}
	pk := make([]schema.Value, 0, len(t.PK))
	for _, c := range t.PK {
		pk = append(pk, row[c])
	}
	s.add(t, pk, p.Rest)
	return nil
}

// parts takes a key apart, if it is the tenant's.
func (s *subject) parts(key []byte) (table.Parts, bool) {
	p, ok := table.SplitKey(key)
	return p, ok && p.Tenant == s.sel.Tenant
}

// isRecord reports the key of the table's record.
func (s *subject) isRecord(p table.Parts) bool {
	return p.Space == table.SpaceSchemas && string(p.Rest) == s.sel.Schema
}

// isRow reports the key of one of the rows.
func (s *subject) isRow(p table.Parts) bool {
	return p.Space == table.SpaceRows && s.keys[p.TableID][string(p.Rest)]
}

// isEntry reports a pair that is an index entry of one of the rows. The entry of a
// unique index says whose it is by its value, and another by its key.
func (s *subject) isEntry(p table.Parts, value []byte) (bool, error) {
	t := s.tables[p.TableID]
	if p.Space != table.SpaceIndexes || t == nil {
		return false, nil
	}
	for _, ix := range t.Indexes {
		if ix.ID != p.IndexID {
			continue
		}
		types := make([]schema.Type, len(ix.Columns))
		for i, c := range ix.Columns {
			types[i] = t.Columns[c].Type
		}
		columns, rest, err := schema.DecodeKeyPrefix(p.Rest, types, nil)
		if err != nil {
			return false, fmt.Errorf("table %s, index %s: %w", s.sel.Schema, ix.Name, err)
		}
		null := false
		for _, v := range columns {
			null = null || v.IsNull()
		}
		if ix.Unique && !null {
			rest = table.IndexValuePK(value)
		}
		return s.keys[p.TableID][string(rest)], nil
	}
	return false, fmt.Errorf("table %s has no index of id %d, and the log has an entry of it", s.sel.Schema, p.IndexID)
}

// tells reports a stored answer that gives one of the keys.
func (s *subject) tells(value []byte) (bool, error) {
	a, err := rows.DecodeAnswer(value)
	if err != nil {
		return false, err
	}
	for text := range s.texts {
		if bytes.Contains(a.Body, []byte(text)) {
			return true, nil
		}
	}
	return false, nil
}

// pair is one of the subject's pairs, as far as the digest and the counters know it.
type pair struct {
	hash  lsn.Digest
	bytes uint64
	// counted says that table and index name the counter that counts it.
	counted      bool
	table, index uint32
}

func pairOf(p table.Parts, key, value []byte) pair {
	x := pair{hash: frame.PairHash(key, value), bytes: uint64(len(key) + len(value))}
	switch p.Space {
	case table.SpaceRows:
		x.counted, x.table = true, p.TableID
	case table.SpaceIndexes:
		x.counted, x.table, x.index = true, p.TableID, p.IndexID
	case table.SpaceIdem:
		x.counted, x.table = true, table.IdemTable
	}
	return x
}

// inState finds the subject's pairs in a whole state: rows and entries by their keys,
// answers by what they say.
func (s *subject) inState(v table.View) (map[string]pair, error) {
	found := map[string]pair{}
	answers := map[string]bool{}
	for _, space := range []table.Space{table.SpaceRows, table.SpaceIndexes, table.SpaceIdem, table.SpaceIdemOrder} {
		lower, upper := table.RecordRange(s.sel.Tenant, space)
		err := each(v, lower, upper, func(key, value []byte) error {
			p, ok := s.parts(key)
			if !ok {
				return nil
			}
			mine, err := s.mine(p, key, value, answers)
			if err == nil && mine {
				found[string(key)] = pairOf(p, key, value)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// mine reports one of the subject's pairs by what it is; answers gathers the keys of
// stored answers that are.
func (s *subject) mine(p table.Parts, key, value []byte, answers map[string]bool) (bool, error) {
	switch p.Space {
	case table.SpaceRows:
		return s.isRow(p), nil
	case table.SpaceIndexes:
		return s.isEntry(p, value)
	case table.SpaceIdem:
		tells, err := s.tells(value)
		if tells {
			answers[string(p.Rest)] = true
		}
		return tells, err
	case table.SpaceIdemOrder:
		_, name, ok := table.SplitIdemOrderKey(key)
		return ok && answers[name], nil
	}
	return false, nil
}

// learnState takes the table's record of a state, and looks at its rows.
func (s *subject) learnState(v table.View) error {
	record, ok, err := v.Get(table.RecordKey(s.sel.Tenant, table.SpaceSchemas, []byte(s.sel.Schema)))
	if err != nil || !ok {
		return err
	}
	if err := s.learn(record); err != nil || s.sel.Column == "" {
		return err
	}
	lower, upper := table.RecordRange(s.sel.Tenant, table.SpaceRows)
	return each(v, lower, upper, func(key, value []byte) error {
		p, ok := s.parts(key)
		if !ok {
			return nil
		}
		return s.look(p, value)
	})
}

// learnOps takes what the operations of a frame tell of the table and its rows.
func (s *subject) learnOps(ops []frame.Op) error {
	for i := range ops {
		if p, ok := s.parts(ops[i].Key); ok && ops[i].Type == frame.Put && s.isRecord(p) {
			if err := s.learn(ops[i].Value); err != nil {
				return err
			}
		}
	}
	for i := range ops {
		if p, ok := s.parts(ops[i].Key); ok && ops[i].Type == frame.Put {
			if err := s.look(p, ops[i].Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// each calls visit for the pairs of a range.
func each(v table.View, lower, upper []byte, visit func(key, value []byte) error) (err error) {
	it, err := v.Iter(lower, upper, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.Next() {
		if err := visit(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	return it.Err()
}

// mayTell reports an operation on rows, entries or answers of the tenant: what a frame
// that cannot be followed may say of the subject.
func (s *subject) mayTell(o *frame.Op) bool {
	p, ok := s.parts(o.Key)
	if !ok {
		return false
	}
	switch p.Space {
	case table.SpaceRows, table.SpaceIndexes, table.SpaceIdem, table.SpaceIdemOrder:
		return true
	}
	return false
}
