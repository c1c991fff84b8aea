package tenant

// Tier is a size a tenant can have: what it costs and what it may use. Tiers
// are a plain table in the code, so that a node can answer from the slug in the
// tenant's record alone.
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
