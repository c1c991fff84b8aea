package writer

import (
	"sync"

	"github.com/oklog/ulid/v2"

	"originchain/shared/table"
)

// recordCache reads tenants and tokens as they are visible now. Every request
// asks for two of them, and two reads of the state cost more than all else that
// admits a request; so what was read is kept until the next change of any. Only
// administer changes them, and it forgets before it answers: a revoked token is
// refused from then on. Records that are not there are never kept, or strangers
// could fill the memory.
type recordCache struct {
	view table.View

	mu      sync.RWMutex
	changes uint64 // how often it was forgotten
	known   map[recordID][]byte
}

type recordID struct {
	space table.Space
	id    ulid.ULID
}

// maxKnownRecords bounds the cache; beyond it a record is read each time.
const maxKnownRecords = 65_536

// TokenBytes implements tenant.Stored.
func (r *recordCache) TokenBytes(id ulid.ULID) ([]byte, bool, error) {
	return r.read(recordID{table.SpaceTokens, id})
}

// TenantBytes implements tenant.Stored.
func (r *recordCache) TenantBytes(id ulid.ULID) ([]byte, bool, error) {
	return r.read(recordID{table.SpaceTenants, id})
}

func (r *recordCache) read(id recordID) ([]byte, bool, error) {
	r.mu.RLock()
	b, ok := r.known[id]
	changes := r.changes
	r.mu.RUnlock()
	if ok {
		return b, true, nil
	}
	b, ok, err := r.view.Get(table.RecordKey(table.System, id.space, id.id[:]))
	if err != nil || !ok {
		return nil, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// What was read before a change may be what it changed: it is answered with,
	// as it would be without a cache, and not kept.
	if changes == r.changes && len(r.known) < maxKnownRecords {
		if r.known == nil {
			r.known = map[recordID][]byte{}
		}
		r.known[id] = b
	}
	return b, true, nil
}

// forget drops every record. Call it once a change is visible.
func (r *recordCache) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
	clear(r.known)
}
