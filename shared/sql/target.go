package sql

import (
	"strings"
	"sync"

	ast "github.com/dolthub/vitess/go/vt/sqlparser"

	"originchain/shared/fault"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// target is the table that a statement writes.
type target struct {
	tx     Tx
	t      *table.Table
	checks []rows.CheckFunc
}

// target finds the table of a statement that writes.
func (e *Engine) target(tx Tx, name ast.TableName) (*target, error) {
	t, err := findTable(tx, name)
	if err != nil {
		return nil, err
	}
	checks, err := e.checks.of(e.compiler, t.Table)
	if err != nil {
		return nil, err
	}
	return &target{tx: tx, t: t, checks: checks}, nil
}

func findTable(tx Tx, name ast.TableName) (*table.Table, error) {
	if name.DbQualifier.IsEmpty() {
		return nil, errUnqualified(name.Name.String())
	}
	if err := checkNamespace(name); err != nil {
		return nil, err
	}
	cat, err := tx.Catalog()
	if err != nil {
		return nil, err
	}
	if t, ok := lookupTable(cat, name.DbQualifier.String(), name.Name.String()); ok {
		return t, nil
	}
	return cat.Table(name.DbQualifier.String() + "." + name.Name.String())
}

// columnOf finds a column, its name as it is written first, then without regard
// to case, as SQL names are.
func columnOf(t *schema.Table, name string) (int, bool) {
	if i, ok := t.ColumnIndex(name); ok {
		return i, true
	}
	for i := range t.Columns {
		if strings.EqualFold(t.Columns[i].Name, name) {
			return i, true
		}
	}
	return 0, false
}

// settable finds a column that a statement names as one to write.
func (w *target) settable(name string) (int, error) {
	i, ok := columnOf(w.t.Table, name)
	if !ok {
		return 0, fault.New(fault.UnknownColumn, "table %s has no column %q", w.t.Table.ID, name).With("column", name)
	}
	if c := &w.t.Columns[i]; c.Extraction {
		if _, declared := w.t.ColumnIndex(c.Path[0]); declared {
			return 0, fault.New(fault.ValidationFailed, "column %q of table %s is read from column %q; write that one", c.Name, w.t.Table.ID, c.Path[0]).With("column", c.Name)
		}
	}
	return i, nil
}

// prepare completes a row and makes it ready to be written.
func (w *target) prepare(row schema.Row) (*rows.Prepared, error) {
	if err := w.t.Derive(row); err != nil {
		return nil, err
	}
	if err := w.t.Check(row); err != nil {
		return nil, err
	}
	return rows.Prepare(w.t, row, w.checks)
}

// create writes a row that must be new.
func (w *target) create(p *rows.Prepared) error {
	_, err := w.tx.Put(p, rows.Absent())
	if fault.CodeOf(err) == fault.AlreadyExists {
		return fault.New(fault.UniqueViolation, "table %s already has a row with this primary key; use INSERT IGNORE, REPLACE or ON DUPLICATE KEY UPDATE where that is meant", w.t.Table.ID).With("index", primaryName)
	}
	return err
}

// holder finds the row that has the values of unique index ix that p has.
func (w *target) holder(p *rows.Prepared, ix schema.Index) (key []byte, ok bool, err error) {
	entry, inValue := table.IndexEntry(nil, w.t, ix, p.Row, table.PKTuple(p.Key()))
	if !inValue {
		return nil, false, nil // not unique, or with a NULL, which is equal to nothing
	}
	value, ok, err := w.tx.Get(entry)
	if err != nil || !ok {
		return nil, false, err
	}
	return append(table.AppendRowPrefix(nil, w.t.Tenant, w.t.TableID), table.IndexValuePK(value)...), true, nil
}

// duplicate finds a row that has the primary key, or the values of a unique
// index, of a row that is to be written: by primary key first, then by the
// indexes in order.
func (w *target) duplicate(p *rows.Prepared) (key []byte, row schema.Row, found bool, err error) {
	if row, _, found, err = table.GetRow(w.tx, w.t, p.Key(), nil); err != nil || found {
		return p.Key(), row, found, err
	}
	for _, ix := range w.t.Usable() {
		if key, found, err = w.holder(p, ix); err != nil {
			return nil, nil, false, err
		}
		if !found {
			continue
		}
		row, _, found, err = table.GetRow(w.tx, w.t, key, nil)
		if err == nil && !found {
			err = &missingRowError{table: w.t.Table.ID, index: ix.Name}
		}
		return key, row, found, err
	}
	return nil, nil, false, nil
}

// rewrite changes the row under key into p. A primary key that changes is a
// delete and an insert.
func (w *target) rewrite(key []byte, p *rows.Prepared) error {
	if string(p.Key()) == string(key) {
		_, err := w.tx.Put(p, rows.Any())
		return err
	}
	if _, err := w.tx.Delete(w.t, key, rows.Any()); err != nil {
		return err
	}
	return w.create(p)
}

// checkCache keeps the compiled constraints of tables. A change of a table makes
// another schema.Table, so an entry never goes stale.
type checkCache struct {
	mu sync.Mutex
	m  map[*schema.Table][]rows.CheckFunc
}

// maxCheckedTables bounds the cache; beyond it, it starts over.
const maxCheckedTables = 1024

func (c *checkCache) of(compiler *Compiler, t *schema.Table) ([]rows.CheckFunc, error) {
	if len(t.Checks) == 0 {
		return nil, nil
	}
	c.mu.Lock()
	have, ok := c.m[t]
	c.mu.Unlock()
	if ok {
		return have, nil
	}
	made, err := compiler.CompileChecks(t)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxCheckedTables {
		c.m = map[*schema.Table][]rows.CheckFunc{}
	}
	c.m[t] = made
	return made, nil
}
