package tenant

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"originchain/shared/fault"
)

var now = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)

// store is a visible state of records; it counts token reads.
type store struct {
	mu      sync.Mutex
	tokens  map[ulid.ULID][]byte
	tenants map[ulid.ULID][]byte
	err     error
}

func (s *store) TokenBytes(id ulid.ULID) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.tokens[id]
	return b, ok, s.err
}

func (s *store) TenantBytes(id ulid.ULID) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.tenants[id]
	return b, ok, s.err
}

func (s *store) putToken(t testing.TB, r TokenRecord) {
	t.Helper()
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[r.ID] = b
}

func (s *store) putTenant(t testing.TB, r TenantRecord) {
	t.Helper()
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tenants[r.ID] = b
}

// world is a state with one tenant and one token, and an authenticator over it.
type world struct {
	*store
	tenant TenantRecord
	token  Token
	record TokenRecord
	auth   *Authenticator
	clock  time.Time
}

func newWorld(t testing.TB, tier string) *world {
	t.Helper()
	w := &world{store: &store{tokens: map[ulid.ULID][]byte{}, tenants: map[ulid.ULID][]byte{}}, clock: now}
	var err error
	if w.tenant, err = NewTenant(NewTenantParams{Name: "acme", Tier: tier}, now); err != nil {
		t.Fatal(err)
	}
	w.token, w.record = MintToken(w.tenant.ID, Live, now)
	w.putTenant(t, w.tenant)
	w.putToken(t, w.record)
	w.auth = NewAuthenticator(NewDecodedRecords(w.store), func() time.Time { return w.clock })
	return w
}

func (w *world) code(t *testing.T, token string) fault.Code {
	t.Helper()
	_, err := w.auth.Authenticate(context.Background(), token)
	return fault.CodeOf(err)
}

// wrongSecret returns the token with another secret; quick says whether the
// quick check shall pass, so that only the slow hash can refuse it.
func (w *world) wrongSecret(t *testing.T, quick bool) string {
	t.Helper()
	text := w.token.Reveal()
	head := text[:len(text)-secretChars]
	if !quick {
		for {
			if wrong := head + randomText(secretChars); checkOf(sumOf(wrong)) != w.record.Hash.Check {
				return wrong
			}
		}
	}
	for range 10_000_000 {
		if wrong := head + randomText(secretChars); checkOf(sumOf(wrong)) == w.record.Hash.Check && wrong != text {
			return wrong
		}
	}
	t.Fatal("no secret with the same quick check")
	return ""
}

func TestAuthenticate(t *testing.T) {
	w := newWorld(t, "pro")
	id, err := w.auth.Authenticate(context.Background(), w.token.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if id.Tenant != w.tenant.ID || id.Token != w.record.ID || id.Tier == nil || id.Tier.Slug != "pro" {
		t.Errorf("identity %+v", id)
	}
	if len(w.auth.verified) != 1 {
		t.Errorf("%d tokens are remembered", len(w.auth.verified))
	}
	text := w.token.Reveal()
	if _, ok := parseToken(text); !ok {
		t.Errorf("a token of ours does not parse")
	}
	if _, ok := parseToken(text + "0"); ok {
		t.Errorf("a token with a character too many parses")
	}
	other := newWorld(t, "")
	for name, token := range map[string]string{
		"nothing": "", "not ours": "secret", "no secret": text[:len(text)-secretChars], "longer": text + "0",
		"other kind": strings.Replace(text, "live", "test", 1), "no such kind": strings.Replace(text, "live", "prod", 1),
		"lower case": strings.ToLower(text), "unknown id": other.token.Reveal(), "wrong secret": w.wrongSecret(t, false),
		"slow wrong secret": w.wrongSecret(t, true),
	} {
		_, err := w.auth.Authenticate(context.Background(), token)
		if !cmp.Equal(fault.From(err).Message, unauthorized().Message) || fault.CodeOf(err) != fault.Unauthorized {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestARightSecretDoesNotOpenForAWrongOne(t *testing.T) {
	w := newWorld(t, "")
	if code := w.code(t, w.token.Reveal()); code != "" {
		t.Fatal(code)
	}
	if code := w.code(t, w.wrongSecret(t, true)); code != fault.Unauthorized {
		t.Errorf("a wrong secret after the right one: %q", code)
	}
	if code := w.code(t, w.token.Reveal()); code != "" {
		t.Errorf("the right secret after a wrong one: %q", code)
	}
}

func TestRevokedTokenStopsAtOnce(t *testing.T) {
	w := newWorld(t, "")
	if code := w.code(t, w.token.Reveal()); code != "" {
		t.Fatal(code)
	}
	w.putToken(t, w.record.Revoke(now))
	if code := w.code(t, w.token.Reveal()); code != fault.Unauthorized {
		t.Errorf("the next request after the revocation: %q", code)
	}
	w.auth.Invalidate(w.record.ID)
	if len(w.auth.verified) != 0 {
		t.Error("the revoked token is still remembered")
	}
	first := w.record.Revoke(now)
	if again := first.Revoke(now.Add(time.Hour)); again.Revoked != first.Revoked {
		t.Error("a second revocation moved the first one's time")
	}
}

func TestAStoredHashThatChangedIsCheckedAgain(t *testing.T) {
	w := newWorld(t, "")
	if code := w.code(t, w.token.Reveal()); code != "" {
		t.Fatal(code)
	}
	_, other := MintToken(w.tenant.ID, Live, now)
	w.record.Hash = other.Hash
	w.record.Hash.Check = checkOf(sumOf(w.token.Reveal()))
	w.putToken(t, w.record)
	if code := w.code(t, w.token.Reveal()); code != fault.Unauthorized {
		t.Errorf("a token that was verified against another hash: %q", code)
	}
}

// What was verified over other records is not paid for again, counts for the very hash
// alone, and opens nothing that is revoked.
func TestWhatWasVerifiedIsKnownOverOtherRecords(t *testing.T) {
	w := newWorld(t, "")
	if code := w.code(t, w.token.Reveal()); code != "" {
		t.Fatal(code)
	}
	next := &store{tokens: map[ulid.ULID][]byte{}, tenants: map[ulid.ULID][]byte{}}
	next.putTenant(t, w.tenant)
	next.putToken(t, w.record)
	w.auth = w.auth.Over(NewDecodedRecords(next))
	for range maxEvaluations { // none is left to check a hash with
		w.auth.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.auth.Authenticate(ctx, w.token.Reveal()); err != nil {
		t.Errorf("a token that was verified before: %v", err)
	}
	_, other := MintToken(w.tenant.ID, Live, now)
	changed := w.record
	changed.Hash = other.Hash
	changed.Hash.Check = checkOf(sumOf(w.token.Reveal()))
	next.putToken(t, changed)
	if _, err := w.auth.Authenticate(ctx, w.token.Reveal()); err == nil {
		t.Error("the token counts for another hash")
	}
	next.putToken(t, w.record.Revoke(now))
	if code := w.code(t, w.token.Reveal()); code != fault.Unauthorized {
		t.Errorf("revoked: %q", code)
	}
}

func TestFailuresBackOff(t *testing.T) {
	w := newWorld(t, "")
	wrong := w.wrongSecret(t, true)
	if code := w.code(t, wrong); code != fault.Unauthorized {
		t.Fatal(code)
	}
	_, err := w.auth.Authenticate(context.Background(), wrong)
	if f := fault.From(err); f.Code != fault.RateLimited || f.RetryAfter != firstBackoff {
		t.Errorf("at once after a failure: %v", err)
	}
	w.clock = w.clock.Add(firstBackoff)
	if code := w.code(t, wrong); code != fault.Unauthorized {
		t.Errorf("after the back-off: %q", code)
	}
	if got := w.auth.backoff(w.record.ID); got != 2*firstBackoff {
		t.Errorf("the second back-off is %s", got)
	}
	for range 20 {
		w.clock = w.clock.Add(maxBackoff)
		f := w.auth.failed[w.record.ID]
		f.count++
		w.auth.failed[w.record.ID] = f
	}
	if code := w.code(t, wrong); code != fault.Unauthorized || w.auth.backoff(w.record.ID) != maxBackoff {
		t.Errorf("code %q, back-off %s", code, w.auth.backoff(w.record.ID))
	}
	w.clock = w.clock.Add(maxBackoff)
	if code := w.code(t, w.token.Reveal()); code != "" || len(w.auth.failed) != 0 {
		t.Errorf("the right token after the back-off: %q, %d failures kept", code, len(w.auth.failed))
	}
}

func TestWrongSecretsCostNoEvaluation(t *testing.T) {
	w := newWorld(t, "")
	// With every slot taken, whatever would evaluate a hash must wait.
	for range maxEvaluations {
		w.auth.slots <- struct{}{}
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.auth.Authenticate(gone, w.wrongSecret(t, false)); fault.CodeOf(err) != fault.Unauthorized {
		t.Errorf("a wrong secret waited for a slot: %v", err)
	}
	if _, err := w.auth.Authenticate(gone, newWorld(t, "").token.Reveal()); fault.CodeOf(err) != fault.Unauthorized {
		t.Errorf("an unknown id waited for a slot: %v", err)
	}
	if _, err := w.auth.Authenticate(gone, w.token.Reveal()); fault.CodeOf(err) != fault.Cancelled {
		t.Errorf("the right token did not wait, or outlived its caller: %v", err)
	}
	w.auth.waiting = maxWaiting
	if _, err := w.auth.Authenticate(context.Background(), w.token.Reveal()); fault.CodeOf(err) != fault.Overloaded {
		t.Errorf("one waiter too many: %v", err)
	}
}

func TestManyFirstRequestsPayOnce(t *testing.T) {
	w := newWorld(t, "")
	var wg sync.WaitGroup
	codes := make(chan fault.Code, 32)
	for range cap(codes) {
		wg.Go(func() {
			_, err := w.auth.Authenticate(context.Background(), w.token.Reveal())
			codes <- fault.CodeOf(err)
		})
	}
	wg.Wait()
	close(codes)
	for code := range codes {
		if code != "" {
			t.Errorf("refused: %q", code)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := make(map[ulid.ULID]int)
	for i := range 100 {
		makeRoom(m, 10)
		m[ulid.ULID{byte(i)}] = i
	}
	if len(m) != 10 {
		t.Errorf("%d entries", len(m))
	}
}

func TestRecordsFailLoudly(t *testing.T) {
	w := newWorld(t, "")
	w.err = errors.New("disk")
	if code := w.code(t, w.token.Reveal()); code != fault.ServerError {
		t.Errorf("an unreadable state: %q", code)
	}
	w.err = nil
	w.tenant.Tier = "of-tomorrow"
	w.putTenant(t, w.tenant)
	if code := w.code(t, w.token.Reveal()); code != fault.ServerError {
		t.Errorf("a tier this server does not know: %q", code)
	}
	delete(w.tenants, w.tenant.ID)
	if code := w.code(t, w.token.Reveal()); code != fault.Unauthorized {
		t.Errorf("a token without its tenant: %q", code)
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	w := newWorld(t, "pro")
	w.tenant.Subscription = Subscription{Status: Trialing, CurrentPeriodEnd: now}
	src, err := w.tenant.Encode()
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := DecodeTenant(src)
	if diff := cmp.Diff(w.tenant, tenant); diff != "" || err != nil {
		t.Errorf("tenant (-want +got) %v:\n%s", err, diff)
	}
	revoked := w.record.Revoke(now)
	if src, err = revoked.Encode(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(src), w.token.Reveal()[len("oc_live_")+idChars:]) {
		t.Error("the record holds the secret")
	}
	token, err := DecodeToken(src)
	if diff := cmp.Diff(revoked, token); diff != "" || err != nil {
		t.Errorf("token (-want +got) %v:\n%s", err, diff)
	}
}

func TestBadRecordsAreRefused(t *testing.T) {
	good := newWorld(t, "").record
	for name, change := range map[string]func(*TokenRecord){
		"newer format":   func(r *TokenRecord) { r.Format = recordFormat + 1 },
		"no format":      func(r *TokenRecord) { r.Format = 0 },
		"algorithm":      func(r *TokenRecord) { r.Hash.Algorithm = "md5" },
		"no pass":        func(r *TokenRecord) { r.Hash.Time = 0 },
		"too many":       func(r *TokenRecord) { r.Hash.Time = maxHashTime + 1 },
		"memory":         func(r *TokenRecord) { r.Hash.MemoryKiB = maxHashMemory + 1 },
		"no memory":      func(r *TokenRecord) { r.Hash.MemoryKiB = 0 },
		"no thread":      func(r *TokenRecord) { r.Hash.Threads = 0 },
		"too many lanes": func(r *TokenRecord) { r.Hash.Threads = maxHashThreads + 1 },
		"short salt":     func(r *TokenRecord) { r.Hash.Salt = r.Hash.Salt[1:] },
		"no sum":         func(r *TokenRecord) { r.Hash.Sum = nil },
	} {
		r := good
		change(&r)
		src, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeToken(src); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, src := range []string{"", "{", "null", "[]", `{"format":1,"id":"x"}`, `{"format":1,"owner":"x"}`} {
		if _, err := DecodeTenant([]byte(src)); err == nil {
			t.Errorf("%q: accepted", src)
		}
	}
}

func FuzzDecodeRecords(f *testing.F) {
	_, record := MintToken(ulid.Make(), Live, now)
	token, err := record.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add([]byte(`{"format":1,"id":"01J8ZQ4T6W8Y0A2C4E6G8J0M2P","subscription":{"status":"active"},"created":"2026-11-23T20:00:00Z"}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		if r, err := DecodeToken(src); err == nil && r.Hash.validate() != nil {
			t.Errorf("a record out of bounds is accepted: %+v", r)
		}
		_, _ = DecodeTenant(src) // must not panic
	})
}

func TestDecodedRecordsFollowTheState(t *testing.T) {
	w := newWorld(t, "")
	records := NewDecodedRecords(w.store)
	for _, name := range []string{"first", "second"} {
		w.tenant.Name = name
		w.putTenant(t, w.tenant)
		for range 2 {
			if got, ok, err := records.Tenant(w.tenant.ID); !ok || err != nil || got.Name != name {
				t.Errorf("got %q %v %v, want %q", got.Name, ok, err, name)
			}
		}
	}
	w.tenants[w.tenant.ID] = []byte("{}")
	if _, ok, err := records.Tenant(w.tenant.ID); ok || err == nil {
		t.Error("a broken record is served from memory")
	}
}

func TestNewTenant(t *testing.T) {
	id := ulid.Make()
	r, err := NewTenant(NewTenantParams{ID: strings.ToLower(id.String()), Name: "ä", Subscription: Subscription{Status: PastDue}}, now)
	if err != nil || r.ID != id || r.Subscription.Status != PastDue || !r.Created.Equal(now) {
		t.Errorf("%+v %v", r, err)
	}
	if r, err = NewTenant(NewTenantParams{}, now); err != nil || r.ID == (ulid.ULID{}) || r.Subscription.Status != Active {
		t.Errorf("%+v %v", r, err)
	}
	if _, err = NewTenant(NewTenantParams{Name: strings.Repeat("x", maxNameBytes)}, now); err != nil {
		t.Errorf("the longest name: %v", err)
	}
	for name, p := range map[string]NewTenantParams{
		"short id": {ID: "01J"}, "id with U": {ID: "01J8ZQ4T6W8Y0A2C4E6G8J0M2U"}, "id too large": {ID: "81J8ZQ4T6W8Y0A2C4E6G8J0M2P"},
		"zero id": {ID: strings.Repeat("0", 26)}, "long name": {Name: strings.Repeat("x", maxNameBytes+1)}, "not text": {Name: "\xff"},
		"control": {Name: "a\nb"}, "tier": {Tier: "free"}, "status": {Subscription: Subscription{Status: "unpaid"}},
	} {
		if _, err := NewTenant(p, now); fault.CodeOf(err) != fault.ValidationFailed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTiers(t *testing.T) {
	slugs := map[string]bool{}
	last := -1
	for _, tier := range Tiers() {
		if slugs[tier.Slug] || tier.Label == "" || tier.MonthlyPrice <= last || tier.Limits.Burst < tier.Limits.RequestsPerSecond {
			t.Errorf("tier %+v", tier)
		}
		slugs[tier.Slug], last = true, tier.MonthlyPrice
		if got, ok := TierBySlug(tier.Slug); !ok || got != tier {
			t.Errorf("%s is not found", tier.Slug)
		}
	}
}

// What compares secrets does so in constant time. Time itself proves nothing in
// a test, so the source is asked.
func BenchmarkAuthenticateHit(b *testing.B) {
	w := newWorld(b, "pro")
	token := w.token.Reveal()
	if _, err := w.auth.Authenticate(context.Background(), token); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.auth.Authenticate(context.Background(), token); err != nil {
			b.Fatal(err)
		}
	}
}
