package rows

import (
	"bytes"
	"errors"

	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// maxIndexKeyBytes bounds an encoded index key. A value that is longer cannot
// be indexed; it can be stored in a column without an index.
const maxIndexKeyBytes = 4 << 10

// CheckFunc evaluates one check constraint on a row: false is a violation; a
// NULL result is not, as in SQL.
type CheckFunc func(schema.Row) (bool, error)

// Prepared is a row made ready by the caller's goroutine: everything that does
// not depend on the state is done before the single sequencer sees it.
type Prepared struct {
	Table *table.Table
	Row   schema.Row
	key   []byte
	bytes []byte
	index []indexKey // parallel to Table.Indexes
}

type indexKey struct {
	key       []byte
	pkInValue bool
}

// Key is the row's full key.
func (p *Prepared) Key() []byte { return p.key }

// Size is about what the row adds to a frame, in bytes.
func (p *Prepared) Size() int {
	n := len(p.key) + len(p.bytes) + 32
	for i := range p.index {
		n += len(p.index[i].key) + 32
	}
	return n
}

// Prepare checks a row by itself (check constraints, key sizes) and encodes it.
// The row is kept: the caller must not change it after.
func Prepare(t *table.Table, row schema.Row, checks []CheckFunc) (*Prepared, error) {
	for i, check := range checks {
		ok, err := check(row)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fault.New(fault.CheckViolation, "check constraint %q of table %s refuses the row: %s", t.Checks[i].Name, t.Table.ID, t.Checks[i].Expr).With("constraint", t.Checks[i].Name)
		}
	}
	key, err := table.RowKey(nil, t, row)
	if err != nil {
		return nil, err
	}
	p := &Prepared{Table: t, Row: row, key: key, bytes: schema.AppendRow(nil, t.Table, row)}
	if len(t.Indexes) > 0 {
		p.index = make([]indexKey, len(t.Indexes))
	}
	for i, ix := range t.Indexes {
		k, inValue := table.IndexEntry(nil, t, ix, row, table.PKTuple(key))
		if len(k) > maxIndexKeyBytes {
			return nil, fault.New(fault.ValidationFailed, "the value of index %q of table %s takes %d bytes encoded, more than %d; shorten it or drop the index", ix.Name, t.Table.ID, len(k), maxIndexKeyBytes)
		}
		p.index[i] = indexKey{k, inValue}
	}
	return p, nil
}

// Expect is what the caller requires of the row that is there.
type Expect struct {
	mode    expectMode
	version lsn.LSN
}

type expectMode uint8

const (
	expectAny expectMode = iota
	expectAbsent
	expectVersion
	expectUnchanged
)

// Any accepts whatever is there.
func Any() Expect { return Expect{} }

// Absent requires that no row has the key: already_exists otherwise.
func Absent() Expect { return Expect{mode: expectAbsent} }

// Version requires the row to have this version (If-Match): version_mismatch
// otherwise.
func Version(v lsn.LSN) Expect { return Expect{mode: expectVersion, version: v} }

// Unchanged requires the row to be as a snapshot saw it: present with this
// version, or absent when v is table.RowVersionPending. A difference means that
// another transaction committed first: conflict, worth a retry.
func Unchanged(v lsn.LSN) Expect { return Expect{mode: expectUnchanged, version: v} }

func (e Expect) check(t *table.Table, version lsn.LSN, present bool) error {
	switch e.mode {
	case expectAbsent:
		if present {
			return fault.New(fault.AlreadyExists, "table %s already has a row with this primary key; send it without expect=insert to replace it", t.Table.ID)
		}
	case expectVersion:
		if !present {
			return fault.New(fault.VersionMismatch, "the row of table %s does not exist, so it has no version %d; read it again", t.Table.ID, e.version).With("current_version", nil)
		}
		if version != e.version {
			return fault.New(fault.VersionMismatch, "the row of table %s has version %d, not %d; read it again and repeat the change on what it holds now", t.Table.ID, version, e.version).With("current_version", uint64(version))
		}
	case expectUnchanged:
		if present != (e.version != table.RowVersionPending) || present && version != e.version {
			return errConflict(t)
		}
	}
	return nil
}

func errConflict(t *table.Table) error {
	return fault.New(fault.Conflict, "another transaction changed a row of table %s first; run the transaction again", t.Table.ID).WithRetry()
}

// Put writes a prepared row and returns whether it replaced one.
func (b *Builder) Put(p *Prepared, e Expect) (replaced bool, err error) {
	t, err := b.current(p.Table)
	if err != nil {
		return false, err
	}
	old, present, err := b.Get(p.key)
	if err != nil {
		return false, err
	}
	oldRow, err := b.expect(t, e, old, present)
	if err != nil {
		return false, err
	}
	if err := b.putIndexes(t, p, oldRow); err != nil {
		return false, err
	}
	if err := b.checkForeignKeys(t, p, oldRow); err != nil {
		return false, err
	}
	value := table.AppendRowValue(make([]byte, 0, 24+len(p.bytes)), b.cfg.Salt(), b.cfg.LSN, t.Table.Version, p.bytes)
	if err := b.set(table.CounterKey(t.Tenant, t.TableID, 0), p.key, value, old, present); err != nil {
		return false, err
	}
	return present, b.checkReferrers(t, p.key, oldRow, p.Row)
}

// Delete removes the row under key and returns whether there was one.
func (b *Builder) Delete(t *table.Table, key []byte, e Expect) (bool, error) {
	t, err := b.current(t)
	if err != nil {
		return false, err
	}
	old, present, err := b.Get(key)
	if err != nil {
		return false, err
	}
	oldRow, err := b.expect(t, e, old, present)
	if err != nil || !present {
		return false, err
	}
	for _, ix := range t.Indexes {
		if err := b.dropIndexEntry(t, ix, oldRow, table.PKTuple(key)); err != nil {
			return false, err
		}
	}
	// The key may be a scan's, which goes on.
	if err := b.remove(table.CounterKey(t.Tenant, t.TableID, 0), bytes.Clone(key), old); err != nil {
		return false, err
	}
	return true, b.checkReferrers(t, key, oldRow, nil)
}

// expect checks the caller's requirement and decodes the row that is there,
// when its columns matter to an index or a foreign key.
func (b *Builder) expect(t *table.Table, e Expect, old []byte, present bool) (schema.Row, error) {
	if !present {
		return nil, e.check(t, 0, false)
	}
	h, _, err := table.SplitRowValue(old)
	if err != nil {
		return nil, err
	}
	if err := e.check(t, h.Version, true); err != nil {
		return nil, err
	}
	if len(t.Indexes) == 0 && len(t.Referrers) == 0 {
		return nil, nil
	}
	row, _, err := table.DecodeRowValue(t, old, nil)
	return row, err
}

// current returns the table as this frame sees it. A write that was prepared
// under another schema is refused: its bytes may not fit.
func (b *Builder) current(t *table.Table) (*table.Table, error) {
	c, err := b.Catalog(t.Tenant)
	if err != nil {
		return nil, err
	}
	now, ok := c.Lookup(t.Table.ID)
	if !ok || now.TableID != t.TableID || now.ChangedLSN != t.ChangedLSN {
		return nil, fault.New(fault.Conflict, "the schema of table %s changed while the request was prepared; send it again", t.Table.ID).WithRetry().Wrap(ErrSchemaChanged)
	}
	return now, nil
}

// ErrSchemaChanged is in the chain of the conflict for a row that was prepared
// under another schema than the table has now: preparing it again may succeed.
var ErrSchemaChanged = errors.New("the table's schema has changed")

func (b *Builder) putIndexes(t *table.Table, p *Prepared, oldRow schema.Row) error {
	for i, ix := range t.Indexes {
		entry := p.index[i]
		if oldRow != nil {
			oldKey, _ := table.IndexEntry(nil, t, ix, oldRow, table.PKTuple(p.key))
			if string(oldKey) == string(entry.key) {
				if _, ok, err := b.Get(oldKey); err != nil || ok {
					if err != nil {
						return err
					}
					continue // same entry; it stays
				}
			} else if err := b.dropIndexEntry(t, ix, oldRow, table.PKTuple(p.key)); err != nil {
				return err
			}
		}
		if err := b.putIndexEntry(t, ix, entry, table.PKTuple(p.key)); err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) putIndexEntry(t *table.Table, ix schema.Index, entry indexKey, pkTuple []byte) error {
	if entry.pkInValue {
		_, present, err := b.Get(entry.key)
		if err != nil {
			return err
		}
		if present {
			return errUnique(t, ix)
		}
		value := table.AppendIndexValue(nil, b.cfg.Salt(), pkTuple)
		return b.set(table.CounterKey(t.Tenant, t.TableID, ix.ID), entry.key, value, nil, false)
	}
	// A plain entry's key ends with the primary key, so only this row can have
	// it, and only if an earlier change of this same frame took it away.
	var old []byte
	var present bool
	if c, ok := b.ops[string(entry.key)]; ok {
		old, present = c.value, !c.deleted
	}
	value := table.AppendIndexValue(nil, b.cfg.Salt(), nil)
	return b.set(table.CounterKey(t.Tenant, t.TableID, ix.ID), entry.key, value, old, present)
}

// dropIndexEntry takes a row's entry away. In a unique index that is still being
// built the entry may be another row's with the same values: that one stays, or
// the build would go on past it and never put it back.
func (b *Builder) dropIndexEntry(t *table.Table, ix schema.Index, row schema.Row, pkTuple []byte) error {
	key, pkInValue := table.IndexEntry(nil, t, ix, row, pkTuple)
	old, ok, err := b.Get(key)
	if err != nil {
		return err
	}
	if !ok || pkInValue && string(table.IndexValuePK(old)) != string(pkTuple) {
		if ix.Ready {
			return &MissingEntryError{Table: t.Table.ID, Index: ix.Name}
		}
		return nil // the index is still being built and has not reached this row
	}
	return b.remove(table.CounterKey(t.Tenant, t.TableID, ix.ID), key, old)
}

// MissingEntryError says that the state contradicts itself: a row is there and
// its index entry is not. Nothing was written.
type MissingEntryError struct{ Table, Index string }

func (e *MissingEntryError) Error() string {
	return "table " + e.Table + ": index " + e.Index + " lacks the entry of a row; stop the server and restore from the archive, or drop and create the index"
}

func errUnique(t *table.Table, ix schema.Index) error {
	return fault.New(fault.UniqueViolation, "table %s already has a row with these values in unique index %q", t.Table.ID, ix.Name).With("index", ix.Name)
}

// InTransaction is what the expectation means inside a transaction: its own
// snapshot cannot change, so that is not checked before the commit.
func (e Expect) InTransaction() Expect {
	if e.mode == expectUnchanged {
		return Any()
	}
	return e
}

// CheckUnchanged requires that the pair under key is the one in an earlier
// state: a conflict otherwise.
func (b *Builder) CheckUnchanged(earlier table.View, key []byte) error {
	was, had, err := earlier.Get(key)
	if err != nil {
		return err
	}
	now, has, err := b.Get(key)
	if err != nil {
		return err
	}
	if had != has || string(was) != string(now) {
		return fault.New(fault.Conflict, "another transaction changed a row that this one read for update; run the transaction again").WithRetry()
	}
	return nil
}
