package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/oklog/ulid/v2"

	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// indexFillRows is how many rows one frame of an index build covers: small
// enough that writers in between wait for a few milliseconds at most.
const indexFillRows = 1000

// CreateTable registers a manifest; created is false when it was there.
func (e *Engine) CreateTable(ctx context.Context, tenant ulid.ULID, manifest []byte) (created bool, pos lsn.Pos, err error) {
	out, err := e.Commit(ctx, Proposal{Tenant: tenant, Long: true, Build: func(b *rows.Builder) (err error) {
		_, created, err = b.CreateTable(tenant, manifest)
		return err
	}})
	return created, out.Pos, err
}

// DropTable removes a table, its rows and its indexes in one frame.
func (e *Engine) DropTable(ctx context.Context, tenant ulid.ULID, name string) (lsn.Pos, error) {
	out, err := e.Commit(ctx, Proposal{Tenant: tenant, Long: true, Build: func(b *rows.Builder) error {
		return b.DropTable(tenant, name)
	}})
	return out.Pos, err
}

// DropIndex removes an index that CreateIndex made.
func (e *Engine) DropIndex(ctx context.Context, tenant ulid.ULID, name, index string) (lsn.Pos, error) {
	out, err := e.Commit(ctx, Proposal{Tenant: tenant, Long: true, Build: func(b *rows.Builder) error {
		return b.DropIndex(tenant, name, index)
	}})
	return out.Pos, err
}

// CreateIndex builds an index while reads and writes go on: one frame announces
// it to writers, many fill it, one makes it usable. When it fails, the caller
// leaves, or the process dies, what was built is taken away again.
func (e *Engine) CreateIndex(ctx context.Context, tenant ulid.ULID, name string, ix table.IndexRecord) (rowsIndexed uint64, pos lsn.Pos, err error) {
	var t *table.Table
	// Not the caller's context: of an announcement whose caller left nobody
	// would know, and writers would maintain the index for ever.
	_, err = e.Commit(context.WithoutCancel(ctx), Proposal{Tenant: tenant, Long: true, Build: func(b *rows.Builder) (err error) {
		t, err = b.CreateIndex(tenant, name, ix)
		return err
	}})
	if err != nil {
		return 0, lsn.Pos{}, err
	}
	announced, ok := t.Index(ix.Name)
	if !ok {
		return 0, lsn.Pos{}, fmt.Errorf("index %s of table %s is not in its catalog", ix.Name, t.Table.ID)
	}
	return e.buildIndex(ctx, t, announced)
}

// buildIndex fills an announced index and makes it usable, or takes it away.
func (e *Engine) buildIndex(ctx context.Context, t *table.Table, ix schema.Index) (rowsIndexed uint64, pos lsn.Pos, err error) {
	rowsIndexed, err = e.fillIndex(ctx, t, ix)
	if err == nil {
		var out Outcome
		out, err = e.Commit(ctx, Proposal{Tenant: t.Tenant, Long: true, Build: func(b *rows.Builder) error { return b.FinishIndex(t, ix.Name) }})
		pos = out.Pos
	}
	if err != nil {
		half := unfinishedIndex{t, ix}
		_, derr := e.Commit(context.WithoutCancel(ctx), Proposal{Tenant: t.Tenant, Long: true, Build: half.drop})
		return 0, lsn.Pos{}, Partly(errors.Join(err, derr))
	}
	return rowsIndexed, pos, nil
}

// fillIndex walks a snapshot taken after the announcement: every row is either
// in it, or was written by a writer that maintains the index already.
func (e *Engine) fillIndex(ctx context.Context, t *table.Table, ix schema.Index) (n uint64, err error) {
	snap, err := e.store.Snapshot()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	lower, upper := table.RowRange(t)
	scan, err := table.ScanRows(snap, t, lower, upper, false)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, scan.Close()) }()
	for {
		keys := nextKeys(scan)
		if len(keys) == 0 {
			return n, scan.Err()
		}
		if err := e.fillRows(ctx, t, ix, keys); err != nil {
			return n, err
		}
		n += uint64(len(keys))
	}
}

func nextKeys(scan *table.RowScan) [][]byte {
	var keys [][]byte
	for len(keys) < indexFillRows && scan.Next() {
		keys = append(keys, append([]byte(nil), scan.Key()...))
	}
	return keys
}

func (e *Engine) fillRows(ctx context.Context, t *table.Table, ix schema.Index, keys [][]byte) error {
	_, err := e.Commit(ctx, Proposal{Tenant: t.Tenant, Long: true, Build: func(b *rows.Builder) error {
		return b.FillIndex(t, ix, keys)
	}})
	return err
}

// unfinishedIndex is what a build left that failed, or that a crash cut short: its
// request was never answered.
type unfinishedIndex struct {
	table *table.Table
	index schema.Index
}

func (e *Engine) unfinishedIndexes() (found []unfinishedIndex, err error) {
	tenants, err := e.tenantIDs()
	if err != nil {
		return nil, err
	}
	for _, tenant := range tenants {
		cat, err := e.Catalog(tenant)
		if err != nil {
			return nil, err
		}
		for _, name := range cat.Names() {
			t, _ := cat.Lookup(name)
			for _, ix := range t.Indexes {
				if !ix.Ready {
					found = append(found, unfinishedIndex{t, ix})
				}
			}
		}
	}
	return found, nil
}

// dropIndexes takes unfinished indexes away. It ends early when ctx does; the
// next start goes on.
func (e *Engine) dropIndexes(ctx context.Context, unfinished []unfinishedIndex) {
	for _, u := range unfinished {
		log := e.deps.Log.WithField("tenant", u.table.Tenant.String()).WithField("table", u.table.Table.ID).WithField("index", u.index.Name)
		_, err := e.Commit(ctx, Proposal{Tenant: u.table.Tenant, Long: true, Build: u.drop})
		switch {
		case err == nil:
			log.Warn("dropped an index whose build did not finish")
		case ctx.Err() != nil:
			return
		default:
			log.WithError(err).Error("an index whose build did not finish could not be dropped; the next start tries again")
		}
	}
}

// drop takes the index away unless a client has: by its id, as a client may
// have made another one of that name since.
func (u *unfinishedIndex) drop(b *rows.Builder) error {
	cat, err := b.Catalog(u.table.Tenant)
	if err != nil {
		return err
	}
	t, ok := cat.Lookup(u.table.Table.ID)
	if !ok || t.TableID != u.table.TableID {
		return nil
	}
	if ix, ok := t.Index(u.index.Name); !ok || ix.ID != u.index.ID {
		return nil
	}
	return b.DropIndex(u.table.Tenant, t.Table.ID, u.index.Name)
}

func (e *Engine) tenantIDs() (ids []ulid.ULID, err error) {
	lower, upper := table.RecordRange(table.System, table.SpaceTenants)
	it, err := e.store.Iter(lower, upper, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.Next() {
		p, ok := table.SplitKey(it.Key())
		if !ok || len(p.Rest) != len(ulid.ULID{}) {
			return nil, fmt.Errorf("malformed tenant key %x", it.Key())
		}
		ids = append(ids, ulid.ULID(p.Rest))
	}
	return ids, it.Err()
}
