package httpx

import (
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/time/rate"

	"originchain/shared/fault"
	"originchain/shared/tenant"
)

// limiter holds each tenant to the request rate of its tier. Its map grows with
// tenants that have authenticated and have a tier, never with what a stranger sends.
type limiter struct {
	mu      sync.RWMutex
	tenants map[ulid.ULID]*tenantRate
}

// tenantRate is one tenant's bucket and the limits it was made for.
type tenantRate struct {
	perSecond, burst int
	bucket           *rate.Limiter
}

func newLimiter() *limiter { return &limiter{tenants: make(map[ulid.ULID]*tenantRate)} }

// allow takes one request from the tenant's bucket, or says when to come back.
// A tenant without a tier, or whose tier does not bound the rate, has no limit.
func (l *limiter) allow(id tenant.Identity, now time.Time) error {
	if id.Tier == nil || id.Tier.Limits.RequestsPerSecond <= 0 {
		return nil
	}
	reservation := l.bucket(id.Tenant, id.Tier.Limits).ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait <= 0 {
		return nil
	}
	reservation.CancelAt(now)
	f := fault.New(fault.RateLimited, "the tenant is over %d requests per second of tier %s; slow down or take a larger tier",
		id.Tier.Limits.RequestsPerSecond, id.Tier.Slug)
	f.RetryAfter = wait
	return f
}

// bucket returns the tenant's bucket, made anew when its tier has other limits.
func (l *limiter) bucket(id ulid.ULID, limits tenant.Limits) *rate.Limiter {
	burst := max(1, limits.Burst)
	l.mu.RLock()
	r := l.tenants[id]
	l.mu.RUnlock()
	if r != nil && r.perSecond == limits.RequestsPerSecond && r.burst == burst {
		return r.bucket
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	r = l.tenants[id]
	if r == nil || r.perSecond != limits.RequestsPerSecond || r.burst != burst {
		r = &tenantRate{perSecond: limits.RequestsPerSecond, burst: burst, bucket: rate.NewLimiter(rate.Limit(limits.RequestsPerSecond), burst)}
		l.tenants[id] = r
	}
	return r.bucket
}
