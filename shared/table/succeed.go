package table

import (
	"fmt"
	"maps"
	"slices"
	"sort"
)

// With returns the catalog as it is once this record is stored under name. It
// equals what LoadCatalog would read then, and costs one table's decoding: all
// tables that the change does not reach are shared with c, which stays as it is.
//
// Loading the catalog anew instead would parse every manifest of the tenant, and
// that in the one goroutine that orders commits.
func (c *Catalog) With(name string, record []byte) (*Catalog, error) {
	t, err := decodeTable(c.Tenant, name, record)
	if err != nil {
		return nil, err
	}
	if t.Table.ID != name {
		return nil, fmt.Errorf("table %s of tenant %s: its manifest is of table %s", name, c.Tenant, t.Table.ID)
	}
	return c.succeed(name, t)
}

// Without returns the catalog as it is once the record under name is gone.
// Other tables must not have foreign keys to it.
func (c *Catalog) Without(name string) (*Catalog, error) {
	if old, ok := c.tables[name]; ok {
		for _, r := range old.Referrers {
			if r.Child.Table.ID != name {
				return nil, errNoTarget(r.Child.Table.ID, name)
			}
		}
	}
	return c.succeed(name, nil)
}

// succeed makes the catalog in which name is t, nil for no table.
//
// A table is held by pointer in the Referrers of those it points to, so a new
// version of it makes new versions of these, and so on along the foreign keys.
func (c *Catalog) succeed(name string, t *Table) (*Catalog, error) {
	next := &Catalog{Tenant: c.Tenant, tables: maps.Clone(c.tables), names: namesWith(c.names, name, t != nil)}
	delete(next.tables, name)
	if t != nil {
		next.tables[name] = t
	}
	var pending, renewed []string
	reached := map[string]bool{name: true}
	reach := func(child *Table) {
		for _, fk := range child.ForeignKeys {
			if target := fk.TargetSchema; !reached[target] {
				reached[target] = true
				pending = append(pending, target)
			}
		}
	}
	if old, ok := c.tables[name]; ok {
		reach(old)
	}
	if t != nil {
		reach(t)
	}
	for len(pending) > 0 {
		parent := pending[0]
		pending = pending[1:]
		was, ok := c.tables[parent]
		if !ok {
			return nil, errNoTarget(name, parent)
		}
		version := *was
		version.Referrers = nil
		next.tables[parent] = &version
		renewed = append(renewed, parent)
		reach(&version)
	}
	if t != nil {
		renewed = append(renewed, name)
	}
	for _, parent := range renewed {
		next.inherit(parent, c, name)
	}
	if t == nil {
		return next, nil
	}
	return next, next.refer(t)
}

// inherit gives a new version of a table the Referrers of its old one, in their
// new versions, without those of the table changed.
func (c *Catalog) inherit(parent string, from *Catalog, changed string) {
	was, ok := from.tables[parent]
	if !ok {
		return
	}
	to := c.tables[parent]
	for _, r := range was.Referrers {
		if r.Child.Table.ID != changed {
			r.Child = c.tables[r.Child.Table.ID]
			to.Referrers = append(to.Referrers, r)
		}
	}
}

// refer adds a table's foreign keys to the Referrers of their targets, which are
// in the order of the children's names and, of one child, of its declaration.
func (c *Catalog) refer(child *Table) error {
	for _, fk := range child.ForeignKeys {
		r, parent, err := c.referrer(child, fk)
		if err != nil {
			return err
		}
		at := sort.Search(len(parent.Referrers), func(i int) bool {
			return parent.Referrers[i].Child.Table.ID > child.Table.ID
		})
		parent.Referrers = slices.Insert(parent.Referrers, at, r)
	}
	return nil
}

// namesWith returns sorted names with name among them or not.
func namesWith(names []string, name string, present bool) []string {
	i, had := slices.BinarySearch(names, name)
	switch {
	case had == present:
		return names
	case present:
		return slices.Insert(slices.Clone(names), i, name)
	case len(names) == 1:
		return nil
	}
	return slices.Delete(slices.Clone(names), i, i+1)
}
