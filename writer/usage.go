package writer

import (
	"github.com/oklog/ulid/v2"

	"originchain/shared/api"
	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/table"
	"originchain/shared/tenant"
)

// storedTable is what one table holds, by its counters.
type storedTable struct {
	rows    table.Counters
	entries uint64 // of its indexes
	indexed uint64 // their bytes
	keys    uint64 // counters that exist
}

// bytes is the table's size with its indexes.
func (u *storedTable) bytes() uint64 { return u.rows.Bytes + u.indexed }

// tableUsage reads a table's counters, one per index and one for the rows.
func tableUsage(v table.View, t *table.Table) (u storedTable, err error) {
	if u.rows, err = u.read(v, table.CounterKey(t.Tenant, t.TableID, 0)); err != nil {
		return u, err
	}
	for _, ix := range t.Indexes {
		n, err := u.read(v, table.CounterKey(t.Tenant, t.TableID, ix.ID))
		if err != nil {
			return u, err
		}
		u.entries += n.Entries
		u.indexed += n.Bytes
	}
	return u, nil
}

func (u *storedTable) read(v table.View, key []byte) (table.Counters, error) {
	raw, ok, err := v.Get(key)
	if err != nil || !ok {
		return table.Counters{}, err
	}
	u.keys++
	return table.DecodeCounters(raw)
}

// getUsage answers from counters alone: its cost grows with the number of
// tables and indexes, not with what is in them, and every figure is exact at
// the position the answer names.
func (s *service) getUsage(c *httpx.Call) (answer api.Usage, err error) {
	if err := s.awaitPosition(c); err != nil {
		return answer, err
	}
	id := c.Identity.Tenant
	snap, err := s.engine.Begin(id) // a snapshot with the catalog that belongs to it
	if err != nil {
		return answer, err
	}
	defer snap.Close()
	raw, ok, err := snap.Get(table.RecordKey(table.System, table.SpaceTenants, id[:]))
	if err != nil {
		return answer, err
	}
	if !ok {
		return answer, fault.New(fault.NotFound, "there is no tenant %s", id)
	}
	record, err := tenant.DecodeTenant(raw)
	if err != nil {
		return answer, err
	}
	answer = api.Usage{
		Tenant: id.String(), Schemas: []api.SchemaUsage{}, Vectors: []api.VectorUsage{}, AddonCalls: []api.AddonCalls{},
		InFlight: api.InFlight{SQL: s.queries.running(id)}, Subscription: subscription(record.Subscription),
	}
	if err := s.addStored(&answer, snap, id); err != nil {
		return answer, err
	}
	addTier(&answer, c.Identity.Tier)
	c.SetPosition(snap.Pos())
	return answer, nil
}

// addStored fills in what the tenant stores.
func (s *service) addStored(answer *api.Usage, snap *engine.Tx, id ulid.ULID) error {
	cat, err := snap.Catalog()
	if err != nil {
		return err
	}
	segments := uint64(len(s.engine.Log().Segments()))
	used := &answer.Used
	for _, name := range cat.Names() {
		t, _ := cat.Lookup(name)
		u, err := tableUsage(snap, t)
		if err != nil {
			return err
		}
		answer.Schemas = append(answer.Schemas, api.SchemaUsage{Schema: name, Rows: u.rows.Entries, Bytes: u.bytes(), Segments: segments})
		used.Rows += u.rows.Entries
		used.Bytes += u.bytes()
		used.Vectors += u.rows.Vectors
		used.StoreKeys += 1 + u.keys + u.rows.Entries + u.entries // 1 is its record
	}
	if _, ok, err := snap.Get(table.RecordKey(id, table.SpaceIDs, nil)); err != nil {
		return err
	} else if ok {
		used.StoreKeys++
	}
	return addAnswers(used, snap, id)
}

// addAnswers counts the keys of stored answers: each has its own, and one in
// the order in which they expire.
func addAnswers(used *api.UsageUsed, snap *engine.Tx, id ulid.ULID) error {
	var u storedTable
	n, err := u.read(snap, table.CounterKey(id, table.IdemTable, 0))
	if err != nil {
		return err
	}
	used.StoreKeys += u.keys + 2*n.Entries
	return nil
}

// addTier fills in what the tier is; a tenant without one has none of it.
func addTier(answer *api.Usage, t *tenant.Tier) {
	if t == nil {
		return
	}
	answer.Tier = t.Slug
	answer.Configuration = &api.Configuration{
		Slug: t.Slug, Label: t.Label, VCPU: t.VCPU, RAMGB: t.RAMGB, StorageGB: t.StorageGB, HA: t.HA, MonthlyPrice: t.MonthlyPrice,
	}
	l := t.Limits
	answer.Limits = &api.UsageLimits{
		RequestsPerSecond: l.RequestsPerSecond, Burst: l.Burst, Rows: l.Rows, Bytes: l.Bytes, ConcurrentSQL: l.ConcurrentSQL, ConcurrentAsk: l.ConcurrentAsk,
	}
}

func subscription(s tenant.Subscription) api.Subscription {
	out := api.Subscription{Status: s.Status}
	if !s.CurrentPeriodEnd.IsZero() {
		end := s.CurrentPeriodEnd
		out.CurrentPeriodEnd = &end
	}
	return out
}
