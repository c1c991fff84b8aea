package writer

import (
	"context"

	"github.com/oklog/ulid/v2"

	"originchain/shared/engine"
	"originchain/shared/lsn"
	"originchain/shared/sql"
	"originchain/shared/table"
)

// store gives SQL what it needs of the engine: the two packages do not know
// each other. Changes of tables are the engine's own methods.
type store struct{ *engine.Engine }

var _ sql.Store = store{}

// Begin implements sql.Store.
func (s store) Begin(tenant ulid.ULID) (sql.Tx, error) {
	tx, err := s.Engine.Begin(tenant)
	if err != nil {
		return nil, err
	}
	return transaction{tx}, nil
}

// CreateIndex implements sql.Store.
func (s store) CreateIndex(ctx context.Context, tenant ulid.ULID, name string, ix table.IndexRecord) (uint64, lsn.Pos, error) {
	return s.Engine.CreateIndex(ctx, tenant, name, ix)
}

// transaction gives SQL a transaction of the engine.
type transaction struct{ *engine.Tx }

var _ sql.Tx = transaction{}

// Commit implements sql.Tx.
func (t transaction) Commit(ctx context.Context, idem *sql.Idempotency) (lsn.Pos, error) {
	if idem == nil {
		return t.Tx.Commit(ctx, nil)
	}
	return t.Tx.Commit(ctx, &engine.Idempotency{Key: idem.Key, Request: idem.Request, Status: idem.Status, Answer: idem.Answer})
}
