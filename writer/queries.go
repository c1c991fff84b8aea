package writer

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/tenant"
)

// queries are the statements that run right now, by tenant: what can be
// cancelled, and what usage counts.
type queries struct {
	mu      sync.Mutex
	tenants map[ulid.ULID]map[ulid.ULID]*query
}

// query is one running statement.
type query struct {
	logical string // the caller's id of the operation, or ""
	cancel  context.CancelFunc
}

// begin registers a statement and names it in the answer's header. The context
// it runs in ends when the statement is cancelled; done takes it off the list.
func (q *queries) begin(c *httpx.Call) (ctx context.Context, done func(), err error) {
	id := ulid.MustNew(ulid.Timestamp(time.Now()), rand.Reader)
	owner := c.Identity.Tenant
	ctx, cancel := context.WithCancel(c.Context())
	if err := q.add(owner, id, &query{logical: c.Info.LogicalID, cancel: cancel}, c.Identity.Tier); err != nil {
		cancel()
		return nil, nil, err
	}
	c.SetQueryID(id)
	return ctx, func() { q.end(owner, id); cancel() }, nil
}

// cancelAll ends every statement: the engine below is about to be closed.
func (q *queries) cancelAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, of := range q.tenants {
		for _, one := range of {
			one.cancel()
		}
	}
}

func (q *queries) add(owner, id ulid.ULID, one *query, tier *tenant.Tier) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := roomFor(tier, len(q.tenants[owner])); err != nil {
		return err
	}
	if q.tenants == nil {
		q.tenants = map[ulid.ULID]map[ulid.ULID]*query{}
	}
	if q.tenants[owner] == nil {
		q.tenants[owner] = map[ulid.ULID]*query{}
	}
	q.tenants[owner][id] = one
	return nil
}

// roomFor holds a tenant to the statements its tier lets run at once.
func roomFor(t *tenant.Tier, running int) error {
	if t == nil || t.Limits.ConcurrentSQL == 0 || running < t.Limits.ConcurrentSQL {
		return nil
	}
	return fault.New(fault.RateLimited, "the tenant runs %d statements at once, which is what tier %s allows; wait for one to end", running, t.Slug).WithRetry()
}

func (q *queries) end(owner, id ulid.ULID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.tenants[owner], id)
	if len(q.tenants[owner]) == 0 {
		delete(q.tenants, owner)
	}
}

// running is how many statements of a tenant run.
func (q *queries) running(owner ulid.ULID) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(len(q.tenants[owner]))
}

// cancel ends the tenant's statement with this id, or all those that belong to
// this operation of the caller's, and says whether there was one.
func (q *queries) cancel(owner ulid.ULID, name string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if id, err := ulid.ParseStrict(strings.ToUpper(name)); err == nil {
		if found, ok := q.tenants[owner][id]; ok {
			found.cancel()
			return true
		}
	}
	found := false
	for _, other := range q.tenants[owner] {
		if other.logical == name && name != "" {
			other.cancel()
			found = true
		}
	}
	return found
}

// cancelQuery ends a statement; the statement's own answer is 499. A tenant
// finds its own only: another's looks like one that is not there.
func (s *service) cancelQuery(c *httpx.Call) (api.QueryCancelled, error) {
	id := c.Path("id")
	if !s.queries.cancel(c.Identity.Tenant, id) {
		return api.QueryCancelled{}, fault.New(fault.NotFound, "no running query has the id %q; it may have ended. The id is in %s of its answer, or is the %s it was sent with",
			clip(id), api.HeaderQueryID, api.HeaderLogicalRequestID)
	}
	return api.QueryCancelled{ID: id, Cancelled: true}, nil
}
