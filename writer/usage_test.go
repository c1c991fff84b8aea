package writer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/table"
	"originchain/shared/tenant"
)

// scanned counts a tenant's keys the slow way.
func (n *node) scanned() (keys, rowsAndIndexBytes uint64) {
	n.t.Helper()
	id := ulid.MustParse(n.tenant)
	lower := table.RecordKey(id, 0, nil)
	upper := table.RecordKey(id, 255, nil)
	it, err := n.w.engine.Load().View().Iter(lower, upper, false)
	if err != nil {
		n.t.Fatal(err)
	}
	defer it.Close()
	for it.Next() {
		keys++
		if p, ok := table.SplitKey(it.Key()); ok && (p.Space == table.SpaceRows || p.Space == table.SpaceIndexes) {
			rowsAndIndexBytes += uint64(len(it.Key()) + len(it.Value()))
		}
	}
	if err := it.Err(); err != nil {
		n.t.Fatal(err)
	}
	return keys, rowsAndIndexBytes
}

// TestUsageIsExact: what the counters say is what a scan finds, after every
// kind of change.
func TestUsageIsExact(t *testing.T) {
	n := start(t)
	check := func(when string, rows int) {
		t.Helper()
		u := n.call("GET", "/usage", "").want(200)
		keys, bytes := n.scanned()
		want := fmt.Sprintf(`"used":{"store_keys":%d,"rows":%d,"vectors":0,"bytes":%d}`, keys, rows, bytes)
		if !strings.Contains(u.body, want) {
			t.Fatalf("%s: want %s: %s", when, want, u.body)
		}
	}
	check("empty", 0)
	n.register(ordersManifest)
	check("registered", 0)
	n.batch("shop.orders", lines(0, 100, nil), idem, "b").want(200)
	n.call("POST", "/rows/shop.orders", `{"id":"x","email":"a"}`, idem, "k").want(200)
	check("written", 101)
	n.call("PUT", "/rows/shop.orders/x", `{"email":"b","total":7}`).want(200)
	n.call("DELETE", "/rows/shop.orders/r000003", "").want(200)
	check("changed", 100)
	n.register(flightsManifest)
	n.batch("air.flights", string(flightRows(0, 50))).want(200)
	n.sql("CREATE INDEX by_delay ON air.flights (delay)").want(200)
	check("indexed", 150)
	n.sql("DROP TABLE air.flights").want(200)
	check("dropped", 100)

	u := n.call("GET", "/usage", "").want(200)
	for _, want := range []string{`"tenant":"` + n.tenant + `","used"`, `"schemas":[{"schema":"shop.orders","rows":100,`, `"vectors":[]`, `"subscription":{"status":"active","current_period_end":null}`, `"addon_calls":[]`, `"in_flight":{"ask":0,"sql":0}`} {
		if !strings.Contains(u.body, want) {
			t.Errorf("usage lacks %s: %s", want, u.body)
		}
	}
	if strings.Contains(u.body, "tier") || strings.Contains(u.body, "limits") || u.header.Get(api.HeaderLSN) == "" {
		t.Errorf("usage without a tier: %s %v", u.body, u.header)
	}
}

// TestQuota: a tier's limits are refused with 402, no tier has none, and
// deleting is always allowed.
func TestQuota(t *testing.T) {
	tier := func(rows, bytes uint64) *tenant.Tier {
		return &tenant.Tier{Slug: "small", Limits: tenant.Limits{Rows: rows, Bytes: bytes}}
	}
	for _, c := range []struct {
		tier  *tenant.Tier
		limit string
	}{
		{tier(0, 0), ""}, {tier(11, 0), ""}, {tier(10, 0), "rows"}, {tier(9, 5000), "rows"}, {tier(0, 1000), "bytes"}, {tier(100, 1001), ""},
	} {
		f := fault.From(overQuota(c.tier, storedTotals{rows: 10, bytes: 1000}))
		if c.limit == "" {
			if f != nil {
				t.Errorf("%+v: %v", c.tier.Limits, f)
			}
			continue
		}
		if f == nil || f.Code != fault.QuotaExceeded || f.Fields["limit"] != c.limit {
			t.Errorf("%+v: %v, want %s", c.tier.Limits, f, c.limit)
		}
	}
}

// TestQuotaReadsTotals: the totals that a write is held to are the tenant's own.
func TestQuotaReadsTotals(t *testing.T) {
	n := start(t)
	n.register(ordersManifest)
	n.batch("shop.orders", lines(0, 20, nil)).want(200)
	s := &service{engine: n.w.engine.Load()}
	id := tenant.Identity{Tenant: ulid.MustParse(n.tenant), Tier: &tenant.Tier{Slug: "small", Limits: tenant.Limits{Rows: 20}}}
	if err := s.checkQuota(id); fault.CodeOf(err) != fault.QuotaExceeded {
		t.Fatalf("20 rows of 20: %v", err)
	}
	id.Tier.Limits.Rows = 21
	if err := s.checkQuota(id); err != nil {
		t.Fatalf("20 rows of 21: %v", err)
	}
	id.Tier = nil
	if err := s.checkQuota(id); err != nil {
		t.Fatalf("no tier: %v", err)
	}
}
