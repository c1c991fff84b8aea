package sql

import (
	"context"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/api"
	"originchain/shared/fault"
)

// transactions are the open transactions of all tenants, by id.
type transactions struct {
	max  int
	idle time.Duration

	mu     sync.Mutex
	open   map[ulid.ULID]*openTx
	tenant map[ulid.ULID]int
	closed bool
}

// openTx is one transaction between its BEGIN and its end. Its mutex is held
// while a statement runs in it; ended is guarded by the same mutex, used by the
// registry's.
type openTx struct {
	id     ulid.ULID
	tenant ulid.ULID
	used   time.Time

	mu    sync.Mutex
	tx    Tx
	ended bool
}

func newTransactions(cfg Config) *transactions {
	return &transactions{max: cfg.MaxTransactions, idle: cfg.TransactionIdle, open: map[ulid.ULID]*openTx{}, tenant: map[ulid.ULID]int{}}
}

// Begin starts a transaction.
func (e *Engine) Begin(_ context.Context, tenant ulid.ULID) (*Result, error) {
	if err := e.txs.reserve(tenant); err != nil {
		return nil, err
	}
	tx, err := e.cfg.Store.Begin(tenant)
	if err != nil {
		e.txs.release(tenant)
		return nil, err
	}
	o := &openTx{id: ulid.Make(), tenant: tenant, tx: tx, used: time.Now()}
	if err := e.txs.add(o); err != nil {
		tx.Close()
		return nil, err
	}
	r := txResult(api.TxBegin, api.TxRunning, o.id.String())
	r.Pos = tx.Pos()
	return r, nil
}

// Commit ends a transaction and makes its changes durable and visible. After a
// conflict nothing of it is kept.
func (e *Engine) Commit(ctx context.Context, tenant ulid.ULID, id string, idem *IdempotencyKey) (*Result, error) {
	o, err := e.txs.take(tenant, id)
	if err != nil {
		return nil, err
	}
	defer o.mu.Unlock()
	defer e.txs.remove(o)
	r := txResult(api.TxCommit, api.TxCommitted, o.id.String())
	r.OpsCommitted = uint64(o.tx.Ops())
	r.Pos, err = o.tx.Commit(ctx, idem.store(r))
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Rollback ends a transaction and drops its changes.
func (e *Engine) Rollback(tenant ulid.ULID, id string) (*Result, error) {
	o, err := e.txs.take(tenant, id)
	if err != nil {
		return nil, err
	}
	defer o.mu.Unlock()
	defer e.txs.remove(o)
	r := txResult(api.TxRollback, api.TxAborted, o.id.String())
	r.Pos = o.tx.Pos()
	return r, nil
}

// Transaction tells that a transaction is open; one that has ended is not_found.
func (e *Engine) Transaction(tenant ulid.ULID, id string) (*Result, error) {
	if _, err := e.txs.find(tenant, id); err != nil {
		return nil, err
	}
	return txResult(api.TxBegin, api.TxRunning, id), nil
}

// Use runs fn in an open transaction, for changes of rows that are not SQL. A
// statement that runs in it at the same time makes this a conflict.
func (e *Engine) Use(tenant ulid.ULID, id string, fn func(Tx) error) error {
	o, err := e.txs.take(tenant, id)
	if err != nil {
		return err
	}
	defer o.mu.Unlock()
	defer e.txs.touch(o)
	return fn(o.tx)
}

func txResult(op, status, id string) *Result {
	return &Result{Kind: api.KindTx, Op: op, Status: status, TxID: id}
}

// sqlBegin is BEGIN as a statement. Inside a transaction it does nothing.
func (e *Engine) sqlBegin(ctx context.Context, cmd *command) (*Result, error) {
	if cmd.TxID == "" {
		return e.Begin(ctx, cmd.Tenant)
	}
	if _, err := e.txs.find(cmd.Tenant, cmd.TxID); err != nil {
		return nil, err
	}
	return txResult(api.TxNoop, api.TxRunning, cmd.TxID), nil
}

// sqlCommit is COMMIT as a statement. Without a transaction it does nothing.
func (e *Engine) sqlCommit(ctx context.Context, cmd *command) (*Result, error) {
	if cmd.TxID == "" {
		return txResult(api.TxNoop, api.TxCommitted, ""), nil
	}
	return e.Commit(ctx, cmd.Tenant, cmd.TxID, cmd.Idem)
}

func (e *Engine) sqlRollback(cmd *command) (*Result, error) {
	if cmd.TxID == "" {
		return txResult(api.TxNoop, api.TxAborted, ""), nil
	}
	return e.Rollback(cmd.Tenant, cmd.TxID)
}

// OpenTransactions is how many transactions of a tenant are open.
func (e *Engine) OpenTransactions(tenant ulid.ULID) int {
	e.txs.mu.Lock()
	defer e.txs.mu.Unlock()
	return e.txs.tenant[tenant]
}

// reserve takes one of a tenant's places, before the state is frozen for it.
func (t *transactions) reserve(tenant ulid.ULID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tenant[tenant] >= t.max {
		return fault.New(fault.RateLimited, "the tenant has %d open transactions, which is the most it may have; commit or roll back one first", t.max).WithRetry()
	}
	t.tenant[tenant]++
	return nil
}

func (t *transactions) release(tenant ulid.ULID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(tenant)
}

func (t *transactions) drop(tenant ulid.ULID) {
	if t.tenant[tenant]--; t.tenant[tenant] <= 0 {
		delete(t.tenant, tenant)
	}
}

func (t *transactions) add(o *openTx) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		t.drop(o.tenant)
		return fault.New(fault.NotReady, "the server is stopping; begin the transaction again on the next writer").WithRetry()
	}
	t.open[o.id] = o
	return nil
}

func (t *transactions) find(tenant ulid.ULID, id string) (*openTx, error) {
	parsed, err := ulid.ParseStrict(id)
	if err != nil {
		return nil, fault.New(fault.ValidationFailed, "%q is not a transaction id; BEGIN returns one as tx_id", id)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	o, ok := t.open[parsed]
	if !ok || o.tenant != tenant {
		return nil, fault.New(fault.NotFound, "there is no open transaction %s: it has been committed or rolled back, or was idle for %s. Begin a new one", id, t.idle)
	}
	return o, nil
}

// take finds a transaction and holds it for one statement.
func (t *transactions) take(tenant ulid.ULID, id string) (*openTx, error) {
	o, err := t.find(tenant, id)
	if err != nil {
		return nil, err
	}
	if !o.mu.TryLock() {
		return nil, fault.New(fault.Conflict, "another statement runs in transaction %s; send one after the other", id).WithRetry()
	}
	if o.ended {
		o.mu.Unlock()
		return nil, fault.New(fault.NotFound, "transaction %s has ended; begin a new one", id)
	}
	return o, nil
}

// touch notes that a transaction is in use.
func (t *transactions) touch(o *openTx) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o.used = time.Now()
}

// remove ends a transaction; the caller holds it.
func (t *transactions) remove(o *openTx) {
	o.ended = true
	o.tx.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.open[o.id]; ok {
		delete(t.open, o.id)
		t.drop(o.tenant)
	}
}

// run ends idle transactions until ctx ends, then the rest.
func (t *transactions) run(ctx context.Context) error {
	tick := time.NewTicker(max(t.idle/10, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			t.shut()
			return nil
		case now := <-tick.C:
			t.reap(now)
		}
	}
}

// reap ends the transactions that were idle for too long. One that a statement
// runs in is not idle.
func (t *transactions) reap(now time.Time) {
	for _, o := range t.list() {
		if o.mu.TryLock() {
			if !o.ended && t.idleFor(o, now) >= t.idle {
				t.remove(o)
			}
			o.mu.Unlock()
		}
	}
}

func (t *transactions) idleFor(o *openTx, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return now.Sub(o.used)
}

// shut ends every transaction, waiting for the statements that run.
func (t *transactions) shut() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	for _, o := range t.list() {
		o.mu.Lock()
		if !o.ended {
			t.remove(o)
		}
		o.mu.Unlock()
	}
}

func (t *transactions) list() []*openTx {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*openTx, 0, len(t.open))
	for _, o := range t.open {
		out = append(out, o)
	}
	return out
}
