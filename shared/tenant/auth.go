package tenant

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/fault"
)

// Records reads the visible state. It is asked on every request, so that a
// token revoked a moment ago is refused by the next one.
type Records interface {
	// Token returns a token's current record; false where there is none.
	Token(id ulid.ULID) (TokenRecord, bool, error)
	// Tenant returns a tenant's current record; false where there is none.
	Tenant(id ulid.ULID) (TenantRecord, bool, error)
}

// Identity is what a valid tenant token stands for.
type Identity struct {
	// Tenant owns the token; a token belongs to one tenant.
	Tenant ulid.ULID
	// Token is the id of the token, which logs and audit lines may name.
	Token ulid.ULID
	// Tier is the tenant's tier; nil means no tier, and so no limit.
	Tier *Tier
}

// Authenticator checks bearer tokens. The slow hash is paid once per token and
// process; after that a request costs one SHA-256, one map read and the
// records' reads. It is safe for concurrent use.
//
// What a stranger can cost: an unknown id or a failed quick check, nothing but
// the record's read; else an Argon2id evaluation, of which maxEvaluations run
// at a time, and after a failure none for that token until its back-off is over.
type Authenticator struct {
	records Records
	*memory
}

// memory is what is kept of tokens, whichever records they are held against.
type memory struct {
	now   func() time.Time
	tiers map[string]*Tier
	slots chan struct{}

	mu       sync.RWMutex
	verified map[ulid.ULID]verified
	failed   map[ulid.ULID]failure
	waiting  int
}

// verified is a token whose slow hash was right.
type verified struct {
	// sum is the SHA-256 of the whole token; another secret has another one.
	sum [sha256.Size]byte
	// hash is the stored sum it was checked against.
	hash []byte
}

// failure is the back-off of one token.
type failure struct {
	count int
	until time.Time
}

const (
	maxEvaluations = 2
	maxWaiting     = 1024
	maxVerified    = 65_536
	maxFailed      = 4096

	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 30 * time.Second
)

// NewAuthenticator makes an Authenticator over the current records.
func NewAuthenticator(records Records, now func() time.Time) *Authenticator {
	a := &Authenticator{records, &memory{now: now, tiers: make(map[string]*Tier), slots: make(chan struct{}, maxEvaluations),
		verified: make(map[ulid.ULID]verified), failed: make(map[ulid.ULID]failure)}}
	for _, t := range Tiers() {
		a.tiers[t.Slug] = &t
	}
	return a
}

// Over is an Authenticator over other records, such as those of the same node in its
// next role. It knows what this one has verified: a token counts by that only while its
// record has the very hash that it was checked against, and is not revoked.
func (a *Authenticator) Over(records Records) *Authenticator {
	return &Authenticator{records, a.memory}
}

// unauthorized is the one answer to a token that opens nothing: not a token,
// unknown, revoked and wrong secret all look the same.
func unauthorized() *fault.Error {
	return fault.New(fault.Unauthorized, "the token is not valid or was revoked; ask an operator for a new one")
}

// Authenticate returns whom the token stands for. Its errors are unauthorized;
// rate_limited while the token backs off; overloaded when too many unverified
// tokens wait; and what the records report.
func (a *Authenticator) Authenticate(ctx context.Context, token string) (Identity, error) {
	id, ok := parseToken(token)
	if !ok {
		return Identity{}, unauthorized()
	}
	record, found, err := a.records.Token(id)
	if err != nil {
		return Identity{}, fmt.Errorf("read token record %s: %w", id, err)
	}
	if !found || record.IsRevoked() {
		return Identity{}, unauthorized()
	}
	sum := sumOf(token)
	if !a.isVerified(id, sum, record.Hash.Sum) {
		if err := a.verify(ctx, token, sum, &record); err != nil {
			return Identity{}, err
		}
	}
	return a.identity(&record)
}

// Invalidate forgets that a token was verified. The records already refuse a
// revoked token; this takes its hash out of memory as well.
func (a *Authenticator) Invalidate(token ulid.ULID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.verified, token)
	delete(a.failed, token)
}

// identity reads the tenant of a token that is right.
func (a *Authenticator) identity(record *TokenRecord) (Identity, error) {
	owner, found, err := a.records.Tenant(record.Tenant)
	if err != nil {
		return Identity{}, fmt.Errorf("read tenant record %s: %w", record.Tenant, err)
	}
	if !found {
		return Identity{}, unauthorized()
	}
	identity := Identity{Tenant: owner.ID, Token: record.ID}
	if owner.Tier != "" {
		if identity.Tier = a.tiers[owner.Tier]; identity.Tier == nil {
			// Serving it without limits would be worse than not at all.
			return Identity{}, fmt.Errorf("tenant %s has tier %q, which this server does not know", owner.ID, owner.Tier)
		}
	}
	return identity, nil
}

// isVerified compares with what was verified before, in constant time. The map
// is keyed by the token's id, which is no secret.
func (a *Authenticator) isVerified(id ulid.ULID, sum [sha256.Size]byte, hash []byte) bool {
	a.mu.RLock()
	v, ok := a.verified[id]
	a.mu.RUnlock()
	return ok && subtle.ConstantTimeCompare(v.sum[:], sum[:]) == 1 && bytes.Equal(v.hash, hash)
}

// verify pays for the slow hash, once per token and process.
func (a *Authenticator) verify(ctx context.Context, token string, sum [sha256.Size]byte, record *TokenRecord) error {
	if checkOf(sum) != record.Hash.Check {
		return unauthorized()
	}
	if err := a.acquire(ctx); err != nil {
		return err
	}
	defer a.release()
	if a.isVerified(record.ID, sum, record.Hash.Sum) { // by another request, while this one waited
		return nil
	}
	if wait := a.backoff(record.ID); wait > 0 {
		f := fault.New(fault.RateLimited, "this token failed a moment ago; retry when its back-off is over")
		f.RetryAfter = wait
		return f
	}
	right := record.Hash.matches(token)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !right {
		f := a.failed[record.ID]
		f.count++
		f.until = a.now().Add(min(maxBackoff, firstBackoff<<min(f.count-1, 16)))
		makeRoom(a.failed, maxFailed)
		a.failed[record.ID] = f
		return unauthorized()
	}
	delete(a.failed, record.ID)
	makeRoom(a.verified, maxVerified)
	a.verified[record.ID] = verified{sum: sum, hash: record.Hash.Sum}
	return nil
}

// backoff is how long the token must wait for its next evaluation.
func (a *Authenticator) backoff(id ulid.ULID) time.Duration {
	a.mu.RLock()
	defer a.mu.RUnlock()
	f, ok := a.failed[id]
	if !ok {
		return 0
	}
	return f.until.Sub(a.now())
}

// acquire waits for one of the evaluation slots.
func (a *Authenticator) acquire(ctx context.Context) error {
	if !a.enqueue() {
		return fault.New(fault.Overloaded, "too many new tokens are being checked at once; retry in a moment").WithRetry()
	}
	defer a.dequeue()
	select {
	case a.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errors.Join(ctx.Err(), errors.New("the caller left before its token was checked"))
	}
}

func (a *Authenticator) release() { <-a.slots }

func (a *Authenticator) enqueue() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting >= maxWaiting {
		return false
	}
	a.waiting++
	return true
}

func (a *Authenticator) dequeue() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting--
}

// makeRoom drops an arbitrary entry of a full map: the victim pays one more
// evaluation, which costs less than keeping an order would on every request.
func makeRoom[V any](m map[ulid.ULID]V, most int) {
	if len(m) < most {
		return
	}
	for id := range m {
		delete(m, id)
		return
	}
}

// sumOf is what the cache of verified tokens compares.
func sumOf(token string) [sha256.Size]byte { return sha256.Sum256([]byte(token)) }
