package oracle

import (
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/oklog/ulid/v2"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// Model is the state after a prefix of a log.
type Model struct {
	// Last is the frame the model stands at; its Chain says whose history it is.
	Last  frame.Header
	Chain lsn.Chain
	// Pairs are all logged keys with their values.
	Pairs map[string]string

	schemas *Schemas
	tables  map[tableKey]*Table
}

// Table is a table as its record in the log describes it.
type Table struct {
	*table.Record
	Schema *schema.Table
	Tenant ulid.ULID
}

type tableKey struct {
	tenant ulid.ULID
	id     uint32
}

// Schemas remembers compiled manifests: logs are folded many times over.
type Schemas struct {
	mu       sync.Mutex
	compiled map[string]*schema.Table
}

// New is the model of an empty log.
func New(s *Schemas) *Model {
	return &Model{Pairs: map[string]string{}, schemas: s, tables: map[tableKey]*Table{}}
}

// Clone copies the model.
func (m *Model) Clone() *Model {
	c := *m
	c.Pairs, c.tables = maps.Clone(m.Pairs), maps.Clone(m.tables)
	return &c
}

// Tables calls f for every table that exists.
func (m *Model) Tables(f func(*Table)) {
	for _, t := range m.tables {
		f(t)
	}
}

func (s *Schemas) compile(manifest string) (*schema.Table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.compiled[manifest]; ok {
		return t, nil
	}
	m, err := schema.ParseManifest([]byte(manifest))
	if err != nil {
		return nil, err
	}
	t, err := schema.Compile(m)
	if err != nil {
		return nil, err
	}
	if s.compiled == nil {
		s.compiled = map[string]*schema.Table{}
	}
	s.compiled[manifest] = t
	return t, nil
}

// Apply folds one frame in. It requires that the frame follows, that no key
// occurs twice, that each operation names exactly the pair that is there, and
// that the frame's digest is what the operations lead to. It returns what the
// frame means.
func (m *Model) Apply(f *frame.Frame) (Effects, error) {
	if f.LSN != m.Last.LSN+1 {
		return nil, fmt.Errorf("frame %d after %d: LSNs are not dense", f.LSN, m.Last.LSN)
	}
	if f.Epoch < m.Last.Epoch || f.Timestamp < m.Last.Timestamp {
		return nil, fmt.Errorf("frame %d: epoch %d at %d after epoch %d at %d", f.LSN, f.Epoch, f.Timestamp, m.Last.Epoch, m.Last.Timestamp)
	}
	encoded, err := frame.OpsOf(f.Kind, f.Body)
	if err != nil {
		return nil, err
	}
	ops, err := frame.DecodeOps(encoded)
	if err != nil {
		return nil, err
	}
	effects, digest, seen := Effects{}, m.Last.Digest, map[string]bool{}
	for i := range ops {
		op := &ops[i]
		if seen[string(op.Key)] {
			return nil, fmt.Errorf("frame %d touches key %x twice", f.LSN, op.Key)
		}
		seen[string(op.Key)] = true
		if digest, err = m.apply(op, digest, effects); err != nil {
			return nil, fmt.Errorf("frame %d, %s of %x: %w", f.LSN, op.Type, op.Key, err)
		}
	}
	if digest != f.Digest {
		return nil, fmt.Errorf("frame %d: digest %s, the operations lead to %s", f.LSN, f.Digest, digest)
	}
	m.Last, m.Chain = f.Header, f.Chain
	return effects, nil
}

func (m *Model) apply(op *frame.Op, digest lsn.Digest, e Effects) (lsn.Digest, error) {
	if op.Type == frame.RangeDelete {
		return m.applyRange(op, digest, e)
	}
	key := string(op.Key)
	old, had := m.Pairs[key]
	if had != (op.HadOld || op.Type == frame.Delete) {
		return digest, fmt.Errorf("says that the key was there: %v, it was: %v", op.HadOld, had)
	}
	if had {
		hash := frame.PairHash(op.Key, []byte(old))
		if hash != op.Old {
			return digest, fmt.Errorf("replaces pair %s, there is %s", op.Old, hash)
		}
		digest = digest.Sub(hash)
	}
	if op.Type == frame.Delete {
		delete(m.Pairs, key)
		return digest, m.note(e, key, old, true)
	}
	m.Pairs[key] = string(op.Value)
	return digest.Add(frame.PairHash(op.Key, op.Value)), m.note(e, key, string(op.Value), false)
}

func (m *Model) applyRange(op *frame.Op, digest lsn.Digest, e Effects) (lsn.Digest, error) {
	var sum lsn.Digest
	for key, value := range m.Pairs {
		if key < string(op.Key) || key >= string(op.End) {
			continue
		}
		sum = sum.Add(frame.PairHash([]byte(key), []byte(value)))
		delete(m.Pairs, key)
		if err := m.note(e, key, value, true); err != nil {
			return digest, err
		}
	}
	if sum != op.Old {
		return digest, fmt.Errorf("says that it takes %s away, it takes %s", op.Old, sum)
	}
	return digest.Sub(sum), nil
}

// Effects are what a frame means to a client: rows, tables, records and stored
// answers by name, with the value they have after it. Index entries and
// counters are not listed: they follow from the rows, and Check holds them to.
type Effects map[string]string

// Gone is the value of what a frame took away.
const Gone = "gone"

// RowName is the name of a row among Effects: its table and primary key.
func RowName(tableID string, pk []schema.Value) string {
	return "row " + tableID + " " + RowValue(pk)
}

// TableName is the name of a table among Effects.
func TableName(tableID string) string { return "table " + tableID }

// RecordName names a tenant's or token's record.
func RecordName(s table.Space, id []byte) string { return fmt.Sprintf("%s %x", s, id) }

// AnswerName names a stored answer.
func AnswerName(key string) string { return "answer " + key }

// RowValue renders a row.
func RowValue(row []schema.Value) string {
	parts := make([]string, len(row))
	for i, v := range row {
		parts[i] = v.Type().String() + " " + v.String()
	}
	return strings.Join(parts, ", ")
}

// note adds what a change of one pair means. value is the one that is there
// after the change, or the one that it took away.
func (m *Model) note(e Effects, key, value string, gone bool) error {
	p, ok := table.SplitKey([]byte(key))
	if !ok {
		return fmt.Errorf("not a logged key")
	}
	var name, now string
	var err error
	switch p.Space {
	case table.SpaceRows:
		name, now, err = m.row(p, value)
	case table.SpaceSchemas:
		name, now = TableName(string(p.Rest)), "present"
		err = m.noteTable(p, value, gone)
	case table.SpaceTenants, table.SpaceTokens:
		name, now = RecordName(p.Space, p.Rest), value
	case table.SpaceIdem:
		name, now = AnswerName(string(p.Rest)), "present"
	case table.SpaceIndexes, table.SpaceCounters, table.SpaceIDs, table.SpaceIdemOrder:
		return nil
	default:
		return fmt.Errorf("unknown space %s", p.Space)
	}
	if gone {
		now = Gone
	}
	e[name] = now
	return err
}

func (m *Model) row(p table.Parts, value string) (name, now string, err error) {
	t, ok := m.tables[tableKey{p.Tenant, p.TableID}]
	if !ok {
		return "", "", fmt.Errorf("a row of table %d, which does not exist", p.TableID)
	}
	row, _, err := t.Decode(value)
	if err != nil {
		return "", "", err
	}
	return RowName(t.Schema.ID, t.PK(row)), RowValue(row), nil
}

// Decode takes a row value apart.
func (t *Table) Decode(value string) (schema.Row, lsn.LSN, error) {
	h, b, err := table.SplitRowValue([]byte(value))
	if err != nil {
		return nil, 0, err
	}
	row, err := schema.DecodeRow(t.Schema, b, nil)
	return row, h.Version, err
}

// PK picks the primary key's values.
func (t *Table) PK(row schema.Row) []schema.Value {
	pk := make([]schema.Value, len(t.Schema.PK))
	for i, c := range t.Schema.PK {
		pk[i] = row[c]
	}
	return pk
}

func (m *Model) noteTable(p table.Parts, value string, gone bool) error {
	r, err := table.DecodeRecord([]byte(value))
	if err != nil {
		return err
	}
	k := tableKey{p.Tenant, r.TableID}
	if gone {
		delete(m.tables, k)
		return nil
	}
	s, err := m.schemas.compile(r.Manifest)
	if err != nil {
		return err
	}
	m.tables[k] = &Table{Record: r, Schema: s, Tenant: p.Tenant}
	return nil
}
