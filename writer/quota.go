package writer

import (
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/fault"
	"originchain/shared/tenant"
)

// quotas holds writers to what their tenant's tier may store. What a tenant
// stores is exact, but reading it costs a counter per table, so for writes it is
// read at most every quotaAge: a tenant can be over by what it writes in that
// time, and no more. Deleting is never refused.
type quotas struct {
	mu   sync.Mutex
	used map[ulid.ULID]storedTotals
}

// quotaAge is how old the totals may be that a write is held to.
const quotaAge = 100 * time.Millisecond

// storedTotals is what a tenant stores in all its tables.
type storedTotals struct {
	rows, bytes uint64
	at          time.Time
}

// checkQuota refuses a write of a tenant that is at a limit of its tier.
func (s *service) checkQuota(id tenant.Identity) error {
	if id.Tier == nil || id.Tier.Limits.Rows == 0 && id.Tier.Limits.Bytes == 0 {
		return nil
	}
	now := time.Now()
	s.quotas.mu.Lock()
	used, ok := s.quotas.used[id.Tenant]
	s.quotas.mu.Unlock()
	if !ok || now.Sub(used.at) > quotaAge {
		var err error
		if used, err = s.totals(id.Tenant); err != nil {
			return err
		}
		used.at = now
		s.quotas.mu.Lock()
		if s.quotas.used == nil {
			s.quotas.used = map[ulid.ULID]storedTotals{}
		}
		s.quotas.used[id.Tenant] = used
		s.quotas.mu.Unlock()
	}
	return overQuota(id.Tier, used)
}

// overQuota is the fault of a tenant at a limit; nil below all of them.
func overQuota(tier *tenant.Tier, used storedTotals) error {
	what, have, most := "rows", used.rows, tier.Limits.Rows
	if most == 0 || have < most {
		what, have, most = "bytes", used.bytes, tier.Limits.Bytes
	}
	if most == 0 || have < most {
		return nil
	}
	return fault.New(fault.QuotaExceeded, "the tenant stores %d %s and tier %s allows %d; delete some, or take a larger tier", have, what, tier.Slug, most).
		With("limit", what).With("used", have).With("allowed", most)
}

// totals adds up the counters of a tenant's tables.
func (s *service) totals(id ulid.ULID) (total storedTotals, err error) {
	snap, err := s.engine.Begin(id)
	if err != nil {
		return total, err
	}
	defer snap.Close()
	cat, err := snap.Catalog()
	if err != nil {
		return total, err
	}
	for _, name := range cat.Names() {
		t, _ := cat.Lookup(name)
		u, err := tableUsage(snap, t)
		if err != nil {
			return total, err
		}
		total.rows += u.rows.Entries
		total.bytes += u.bytes()
	}
	return total, nil
}
