package sql

import (
	"strings"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression/function"

	"originchain/shared/schema"
	"originchain/shared/table"
)

// provider shows the planner a tenant's namespaces as databases. It holds
// nothing: which tenant, and which state of it, is the statement's matter.
type provider struct {
	// builtIn are the planner's functions, to put a bound around some.
	builtIn function.Registry
}

func newProvider() provider { return provider{builtIn: function.NewRegistry()} }

// Database implements gms.DatabaseProvider.
func (provider) Database(ctx *gms.Context, name string) (gms.Database, error) {
	db := database{st: statementOf(ctx), name: name}
	if !db.exists() {
		return nil, gms.ErrDatabaseNotFound.New(name)
	}
	return db, nil
}

// HasDatabase implements gms.DatabaseProvider.
func (provider) HasDatabase(ctx *gms.Context, name string) bool {
	return database{st: statementOf(ctx), name: name}.exists()
}

// AllDatabases implements gms.DatabaseProvider.
func (provider) AllDatabases(ctx *gms.Context) []gms.Database {
	st := statementOf(ctx)
	var out []gms.Database
	for _, ns := range namespaces(st.catalog) {
		out = append(out, database{st: st, name: ns})
	}
	return out
}

// namespaces lists the namespaces of a tenant, in order.
func namespaces(c *table.Catalog) []string {
	var out []string
	if c == nil {
		return nil
	}
	for _, id := range c.Names() {
		ns, _, _ := strings.Cut(id, ".")
		if len(out) == 0 || out[len(out)-1] != ns {
			out = append(out, ns)
		}
	}
	return out
}

// database is one namespace in one statement.
type database struct {
	st   *statement
	name string
}

func (d database) exists() bool {
	if d.name == scratchDatabase {
		return d.st.scratch != nil
	}
	for _, ns := range namespaces(d.st.catalog) {
		if strings.EqualFold(ns, d.name) {
			return true
		}
	}
	return false
}

// Name implements gms.Database.
func (d database) Name() string { return d.name }

// GetTableInsensitive implements gms.Database.
func (d database) GetTableInsensitive(_ *gms.Context, name string) (gms.Table, bool, error) {
	if d.name == scratchDatabase {
		return d.st.scratch, d.st.scratch != nil, nil
	}
	t, ok := lookupTable(d.st.catalog, d.name, name)
	if !ok {
		return nil, false, nil
	}
	return newScanTable(d.st, t), true, nil
}

// GetTableNames implements gms.Database.
func (d database) GetTableNames(*gms.Context) ([]string, error) {
	var out []string
	for _, id := range d.st.catalog.Names() {
		if ns, name, _ := strings.Cut(id, "."); strings.EqualFold(ns, d.name) {
			out = append(out, name)
		}
	}
	return out, nil
}

// lookupTable finds a table, its name as it is written first, then without
// regard to case, as SQL names are.
func lookupTable(c *table.Catalog, ns, name string) (*table.Table, bool) {
	id := ns + "." + name
	if t, ok := c.Lookup(id); ok {
		return t, true
	}
	for _, have := range c.Names() {
		if strings.EqualFold(have, id) {
			return c.Lookup(have)
		}
	}
	return nil, false
}

// scratchDatabase is the namespace of a statement's scratch table. A manifest
// cannot have this name.
const scratchDatabase = "\x00"

// scratchTable lets the planner bind an expression to the columns of a row that
// is at hand. It has no rows.
type scratchTable struct {
	columns gms.Schema
}

// newScratchTable makes a scratch table of a table's columns, and with incoming
// set, of a second set of them for the row that an INSERT brings.
func newScratchTable(t *schema.Table, incoming bool) *scratchTable {
	s := &scratchTable{}
	add := func(prefix string) {
		for i := range t.Columns {
			c := &t.Columns[i]
			s.columns = append(s.columns, &gms.Column{
				Name: prefix + c.Name, Type: plannerType(c.Type), Nullable: true, Source: scratchName, DatabaseSource: scratchDatabase,
			})
		}
	}
	add("")
	if incoming {
		add(incomingPrefix)
	}
	return s
}

const (
	scratchName = "row"
	// incomingPrefix marks the columns of the row that an INSERT brings.
	incomingPrefix = "\x00"
)

// Name implements gms.Table.
func (s *scratchTable) Name() string { return scratchName }

func (s *scratchTable) String() string { return scratchName }

// Schema implements gms.Table.
func (s *scratchTable) Schema() gms.Schema { return s.columns }

// Collation implements gms.Table.
func (s *scratchTable) Collation() gms.CollationID { return gms.Collation_Default }

// Partitions implements gms.Table: there are none.
func (s *scratchTable) Partitions(*gms.Context) (gms.PartitionIter, error) {
	return gms.PartitionsToPartitionIter(), nil
}

// PartitionRows implements gms.Table.
func (s *scratchTable) PartitionRows(*gms.Context, gms.Partition) (gms.RowIter, error) {
	return gms.RowsToRowIter(), nil
}
