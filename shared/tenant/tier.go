package tenant

// Tier is a size a tenant can have: what it costs and what it may use. Tiers
// are a plain table in the code, so that a node can answer from the slug in the
// tenant's record alone, the control plane being away.
type Tier struct {
	Slug  string
	Label string
	// VCPU, RAMGB and StorageGB are the machine behind the tier; gigabytes are 1e9 bytes.
	VCPU      int
	RAMGB     int
	StorageGB int
	// HA says that the tier includes a follower in another availability zone.
	HA bool
	// MonthlyPrice is in US dollars.
	MonthlyPrice int
	Limits       Limits
}

// Limits bound what a tenant may do; 0 means that the tier does not bound it.
type Limits struct {
	// RequestsPerSecond is the sustained rate, Burst what may come at once.
	RequestsPerSecond int
	Burst             int
	// Rows and Bytes bound what is stored, over all schemas of the tenant.
	Rows  uint64
	Bytes uint64
	// ConcurrentSQL and ConcurrentAsk bound queries that run at the same time.
	ConcurrentSQL int
	ConcurrentAsk int
}

const gigabyte = 1_000_000_000

// Tiers returns the tier table, smallest first. The copy is the caller's.
func Tiers() []Tier {
	return []Tier{
		{Slug: "dev", Label: "Developer", VCPU: 1, RAMGB: 1, StorageGB: 5, MonthlyPrice: 0,
			Limits: Limits{RequestsPerSecond: 50, Burst: 100, Rows: 1_000_000, Bytes: 5 * gigabyte, ConcurrentSQL: 4, ConcurrentAsk: 2}},
		{Slug: "starter", Label: "Starter", VCPU: 2, RAMGB: 4, StorageGB: 50, MonthlyPrice: 49,
			Limits: Limits{RequestsPerSecond: 500, Burst: 1000, Rows: 50_000_000, Bytes: 50 * gigabyte, ConcurrentSQL: 16, ConcurrentAsk: 8}},
		{Slug: "pro", Label: "Pro", VCPU: 4, RAMGB: 16, StorageGB: 250, HA: true, MonthlyPrice: 299,
			Limits: Limits{RequestsPerSecond: 5000, Burst: 10_000, Rows: 500_000_000, Bytes: 250 * gigabyte, ConcurrentSQL: 64, ConcurrentAsk: 32}},
		{Slug: "scale", Label: "Scale", VCPU: 16, RAMGB: 64, StorageGB: 1000, HA: true, MonthlyPrice: 1199,
			Limits: Limits{RequestsPerSecond: 20_000, Burst: 40_000, Bytes: 1000 * gigabyte, ConcurrentSQL: 256, ConcurrentAsk: 128}},
		{Slug: "dedicated", Label: "Dedicated", VCPU: 32, RAMGB: 128, StorageGB: 4000, HA: true, MonthlyPrice: 3499,
			Limits: Limits{Bytes: 4000 * gigabyte}},
	}
}

// TierBySlug finds a tier.
func TierBySlug(slug string) (Tier, bool) {
	for _, t := range Tiers() {
		if t.Slug == slug {
			return t, true
		}
	}
	return Tier{}, false
}

// tierSlugs lists the slugs for a message.
func tierSlugs() []string {
	var out []string
	for _, t := range Tiers() {
		out = append(out, t.Slug)
	}
	return out
}
