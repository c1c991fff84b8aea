package writer

import (
	"crypto/sha256"
	"net/http"
	"sync"

	"github.com/oklog/ulid/v2"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/sql"
)

// beginTx opens a transaction on the newest visible state.
func (s *service) beginTx(c *httpx.Call) error {
	if c.RequestHeader(api.HeaderTx) != "" {
		return fault.New(fault.ValidationFailed, "transactions do not nest; send %s only with calls inside one", api.HeaderTx)
	}
	if err := s.awaitPosition(c); err != nil {
		return err
	}
	return s.transact(c, func(*requestKey) (*sql.Result, error) { return s.sql.Begin(c.Context(), c.Identity.Tenant) })
}

// commitTx makes a transaction's changes durable and visible, as one frame.
func (s *service) commitTx(c *httpx.Call) error {
	return s.transact(c, func(k *requestKey) (*sql.Result, error) {
		return s.sql.Commit(c.Context(), c.Identity.Tenant, c.Path("tx"), k.sql())
	})
}

// rollbackTx drops a transaction's changes.
func (s *service) rollbackTx(c *httpx.Call) error {
	return s.transact(c, func(*requestKey) (*sql.Result, error) { return s.sql.Rollback(c.Identity.Tenant, c.Path("tx")) })
}

func (s *service) transact(c *httpx.Call, run func(*requestKey) (*sql.Result, error)) error {
	body, err := c.Body()
	if err != nil {
		return err
	}
	if err := noBody(body); err != nil {
		return err
	}
	key, err := keyOf(c, body)
	if err != nil {
		return err
	}
	return s.once(c.Context(), c, "", &key, func() (*sql.Result, error) { return run(&key) })
}

// getTx tells that a transaction is open.
func (s *service) getTx(c *httpx.Call) error {
	res, err := s.sql.Transaction(c.Identity.Tenant, c.Path("tx"))
	if err != nil {
		return err
	}
	s.setResultPosition(c, res.Pos)
	return c.Send(http.StatusOK, api.ContentTypeJSON, res.AppendJSON(nil))
}

// begun remembers which open transaction a keyed BEGIN gave, so that a
// repetition does not leave an orphan behind. A transaction does not outlive
// the process, and so this need not either.
type begun struct {
	mu   sync.Mutex
	byID map[flight]begunTx
}

type begunTx struct {
	hash [sha256.Size]byte
	tx   string
	body []byte
}

// maxBegun bounds the memory before those that have ended are cleared away.
const maxBegun = 1024

// find returns the answer of the same BEGIN, while its transaction is open.
func (b *begun) find(owner ulid.ULID, k *requestKey, alive func(ulid.ULID, string) bool) (body []byte, ok bool, err error) {
	b.mu.Lock()
	t, ok := b.byID[flight{owner, k.key}]
	b.mu.Unlock()
	if !ok || !alive(owner, t.tx) {
		return nil, false, nil
	}
	if t.hash != k.hash {
		return nil, false, fault.New(fault.Conflict, "this Idempotency-Key was used to begin transaction %s; use a new key for a new request", t.tx)
	}
	return t.body, true, nil
}

func (b *begun) add(owner ulid.ULID, k *requestKey, tx string, body []byte, alive func(ulid.ULID, string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byID == nil {
		b.byID = map[flight]begunTx{}
	}
	if len(b.byID) >= maxBegun {
		for id, t := range b.byID {
			if !alive(id.tenant, t.tx) {
				delete(b.byID, id)
			}
		}
	}
	b.byID[flight{owner, k.key}] = begunTx{hash: k.hash, tx: tx, body: body}
}
