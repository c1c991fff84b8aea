package writer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"sync"

	"github.com/oklog/ulid/v2"

	"originchain/shared/api"
	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/sql"
)

// requestKey is by what a repeated request is recognised: the caller's key, and
// a hash of what was asked under it. The zero value is a request without a key.
type requestKey struct {
	key  string
	hash [sha256.Size]byte
}

func (k *requestKey) given() bool { return k.key != "" }

// keyOf reads the Idempotency-Key of a write whose body is at hand.
func keyOf(c *httpx.Call, body []byte) (requestKey, error) {
	key := c.RequestHeader(api.HeaderIdempotencyKey)
	if key == "" {
		return requestKey{}, nil
	}
	if err := rows.CheckIdemKey(key); err != nil {
		return requestKey{}, err
	}
	return requestKey{key: key, hash: requestHash(c, body)}, nil
}

// requestHash is SHA-256 over method, path, query and body, each behind its
// length, so that no two requests have the same bytes.
func requestHash(c *httpx.Call, body []byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	var length [8]byte
	u := c.Request.URL
	for _, part := range [][]byte{[]byte(c.Request.Method), []byte(u.Path), []byte(u.RawQuery), body} {
		binary.LittleEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write(part)
	}
	h.Sum(sum[:0])
	return sum
}

// engine is what a commit stores of an answer; nil without a key.
func (k *requestKey) engine(status int, answer func(lsn.Pos) []byte) *engine.Idempotency {
	if !k.given() {
		return nil
	}
	return &engine.Idempotency{Key: k.key, Request: k.hash, Status: uint16(status), Answer: answer}
}

// sql is the same for a statement; nil without a key.
func (k *requestKey) sql() *sql.IdempotencyKey {
	if !k.given() {
		return nil
	}
	return &sql.IdempotencyKey{Key: k.key, Request: k.hash}
}

// firstAnswer is the stored answer of the same request, or nil. The state it is
// read from holds every answer that was given.
func (s *service) firstAnswer(tenant ulid.ULID, k *requestKey) (*rows.Answer, error) {
	if !k.given() {
		return nil, nil
	}
	return rows.StoredAnswer(s.engine.View(), tenant, k.key, k.hash)
}

// sendStored repeats a first answer. The position is the present one: the
// caller may go on reading from here. That the write was degraded is said again for
// as long as the writer of then leads; its successor knows it of frames alone that
// were perhaps never acknowledged before.
func (s *service) sendStored(c *httpx.Call, a *rows.Answer) error {
	c.SetPosition(s.engine.Visible())
	s.markDegraded(c, a.LSN)
	return c.Send(int(a.Status), api.ContentTypeJSON, a.Body)
}

// orFirst answers a request that failed before it reached the sequencer: when
// it is the repetition of one that was answered, that answer stands, whatever
// became of the table since.
func (s *service) orFirst(c *httpx.Call, k *requestKey, failed error) error {
	a, err := s.firstAnswer(c.Identity.Tenant, k)
	if err != nil || a == nil || !a.Done {
		return failed
	}
	return s.sendStored(c, a)
}

// storeAnswer keeps an answer in a frame of its own, for what commits without
// one that could carry it. A crash between the two frames loses the answer, not
// the work.
func (s *service) storeAnswer(ctx context.Context, tenant ulid.ULID, k *requestKey, status int, body []byte) error {
	_, err := s.engine.Commit(ctx, engine.Proposal{Tenant: tenant, Build: func(b *rows.Builder) error {
		return b.StoreAnswer(tenant, k.key, rows.Answer{Request: k.hash, Status: uint16(status), Done: true, Body: body})
	}})
	return engine.Partly(err)
}

// flights holds one request per key to completion before a repetition of it
// starts, where the work is more than one decision of the sequencer.
type flights struct {
	mu   sync.Mutex
	busy map[flight]chan struct{}
}

type flight struct {
	tenant ulid.ULID
	key    string
}

// enter waits until no other request flies under the key; leave ends this one's
// turn. A request without a key never waits.
func (f *flights) enter(ctx context.Context, tenant ulid.ULID, k *requestKey) (leave func(), err error) {
	if !k.given() {
		return func() {}, nil
	}
	id := flight{tenant, k.key}
	for {
		f.mu.Lock()
		other, taken := f.busy[id]
		if !taken {
			if f.busy == nil {
				f.busy = map[flight]chan struct{}{}
			}
			mine := make(chan struct{})
			f.busy[id] = mine
			f.mu.Unlock()
			return func() {
				f.mu.Lock()
				delete(f.busy, id)
				f.mu.Unlock()
				close(mine)
			}, nil
		}
		f.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// buffered keeps the answers that keyed calls got inside open transactions.
// They are in no frame before the commit, so a log cannot keep them, and they
// mean nothing once the transaction has ended.
type buffered struct {
	mu   sync.Mutex
	open map[string]*bufferedTx
}

type bufferedTx struct {
	tenant  ulid.ULID
	answers map[string]bufferedAnswer
}

type bufferedAnswer struct {
	hash [sha256.Size]byte
	body []byte
}

// maxBufferedKeys bounds the keyed calls of one transaction.
const maxBufferedKeys = 10_000

// find returns the answer that the same call got in the transaction before.
func (b *buffered) find(owner ulid.ULID, tx string, k *requestKey) (body []byte, ok bool, err error) {
	if !k.given() {
		return nil, false, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.open[tx]
	if t == nil || t.tenant != owner {
		return nil, false, nil
	}
	a, ok := t.answers[k.key]
	if ok && a.hash != k.hash {
		return nil, false, fault.New(fault.Conflict, "this Idempotency-Key was used for another request in the transaction; use a new key for a new request")
	}
	if !ok && len(t.answers) >= maxBufferedKeys {
		return nil, false, fault.New(fault.BodyTooLarge, "the transaction has %d calls with an Idempotency-Key, which is the most it may have; commit it and go on in another", maxBufferedKeys)
	}
	return a.body, ok, nil
}

// add keeps an answer. alive tells the transactions that are still open from
// those whose answers can go.
func (b *buffered) add(tx string, tenant ulid.ULID, k *requestKey, body []byte, alive func(ulid.ULID, string) bool) {
	if !k.given() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.open[tx]
	if t == nil {
		if b.open == nil {
			b.open = map[string]*bufferedTx{}
		}
		for id, other := range b.open {
			if !alive(other.tenant, id) {
				delete(b.open, id)
			}
		}
		t = &bufferedTx{tenant: tenant, answers: map[string]bufferedAnswer{}}
		b.open[tx] = t
	}
	t.answers[k.key] = bufferedAnswer{hash: k.hash, body: body}
}

// alive says whether a transaction is open.
func (s *service) alive(tenant ulid.ULID, tx string) bool {
	_, err := s.sql.Transaction(tenant, tx)
	return err == nil
}

// inTx runs a call inside the transaction it names, once per key: fn's answer is
// kept as long as the transaction is open.
func (s *service) inTx(c *httpx.Call, tx string, k requestKey, fn func(sql.Tx) ([]byte, error)) error {
	tenant := c.Identity.Tenant
	leave, err := s.flights.enter(c.Context(), tenant, &k)
	if err != nil {
		return err
	}
	defer leave()
	var body []byte
	err = s.sql.Use(tenant, tx, func(t sql.Tx) (err error) {
		c.SetPosition(t.Pos())
		first, ok, err := s.buffered.find(tenant, tx, &k)
		if err != nil || ok {
			body = first
			return err
		}
		if body, err = fn(t); err == nil {
			s.buffered.add(tx, tenant, &k, body, s.alive)
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.Send(http.StatusOK, api.ContentTypeJSON, body)
}
