package table

import "github.com/oklog/ulid/v2"

// CountedKeys is about how many keys a state has, as its counters say, for those who
// show how far a scan of it is. What it cannot read it leaves out: the scan meets that.
func CountedKeys(v View) int64 {
	n := uint64(0)
	for _, id := range tenantIDs(v) {
		lower, upper := RecordRange(id, SpaceCounters)
		it, err := v.Iter(lower, upper, false)
		if err != nil {
			continue
		}
		for it.Next() {
			if counters, err := DecodeCounters(it.Value()); err == nil {
				n += counters.Entries
			}
		}
		_ = it.Close() // the scan meets this as well
	}
	return int64(min(n, 1<<62))
}

// tenantIDs are the tenants that have a record, read without judgement.
func tenantIDs(v View) (ids []ulid.ULID) {
	lower, upper := RecordRange(System, SpaceTenants)
	it, err := v.Iter(lower, upper, false)
	if err != nil {
		return nil
	}
	for it.Next() {
		if p, ok := SplitKey(it.Key()); ok && len(p.Rest) == len(ulid.ULID{}) {
			ids = append(ids, ulid.ULID(p.Rest))
		}
	}
	_ = it.Close() // the scan reads the same keys and reports
	return ids
}
