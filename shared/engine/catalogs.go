package engine

import (
	"cmp"
	"slices"
	"sync"

	"github.com/oklog/ulid/v2"

	"originchain/shared/lsn"
	"originchain/shared/table"
)

// keptCatalogs is how many versions of a tenant's catalog are kept: readers of
// slightly older snapshots find theirs without loading it.
const keptCatalogs = 4

// catalogCache finds the catalog that belongs to a snapshot.
type catalogCache struct {
	mu      sync.RWMutex
	tenants map[ulid.ULID][]versionedCatalog // ascending by from
}

// versionedCatalog is valid from one frame until the next version's; a nil one
// says that it is another one from there on, which nobody has loaded yet.
type versionedCatalog struct {
	from    lsn.LSN
	catalog *table.Catalog
}

// find returns the tenant's catalog at frame n, if it is known.
func (c *catalogCache) find(tenant ulid.ULID, n lsn.LSN) (*table.Catalog, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	versions := c.tenants[tenant]
	for i := len(versions) - 1; i >= 0; i-- {
		if v := &versions[i]; v.from <= n {
			return v.catalog, v.catalog != nil
		}
	}
	return nil, false
}

// load returns the tenant's catalog in a snapshot. It must be a snapshot: the
// live state may hold a later change than the frame the catalog is kept under.
func (c *catalogCache) load(snap *table.Snapshot, tenant ulid.ULID) (*table.Catalog, error) {
	n := snap.Applied().Pos.LSN
	if cat, ok := c.find(tenant, n); ok {
		return cat, nil
	}
	cat, err := table.LoadCatalog(snap, tenant)
	if err != nil {
		return nil, err
	}
	c.put(tenant, n, cat)
	return cat, nil
}

// put adds a version that is valid from frame n on.
func (c *catalogCache) put(tenant ulid.ULID, n lsn.LSN, cat *table.Catalog) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tenants == nil {
		c.tenants = map[ulid.ULID][]versionedCatalog{}
	}
	versions := slices.Clone(c.tenants[tenant])
	i, found := slices.BinarySearchFunc(versions, n, func(v versionedCatalog, n lsn.LSN) int {
		return cmp.Compare(v.from, n)
	})
	if !found {
		versions = slices.Insert(versions, i, versionedCatalog{n, cat})
	} else if versions[i].catalog == nil {
		versions[i].catalog = cat
	}
	if len(versions) > keptCatalogs {
		versions = versions[len(versions)-keptCatalogs:]
	}
	c.tenants[tenant] = versions
}
