package sql

import (
	"context"

	"github.com/oklog/ulid/v2"

	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/table"
)

// Tx is one transaction of one tenant: a frozen state with its own writes on
// top. One goroutine uses it at a time. At commit every row that it changed or
// touched must be as the frozen state had it; otherwise the commit is a conflict.
type Tx interface {
	table.View
	// Catalog is the tenant's tables in the frozen state.
	Catalog() (*table.Catalog, error)
	// Counters are exact, own writes included.
	Counters(key []byte) (table.Counters, error)
	// Put and Delete keep constraints and indexes; on an error nothing changed.
	Put(p *rows.Prepared, e rows.Expect) (replaced bool, err error)
	Delete(t *table.Table, key []byte, e rows.Expect) (existed bool, err error)
	// Touch makes the commit a conflict when the row changed since it was read.
	Touch(key []byte, version lsn.LSN)
	// Savepoint and Rollback bracket a statement.
	Savepoint() int
	Rollback(savepoint int)
	// Pos is where the frozen state stands.
	Pos() lsn.Pos
	// Ops is how many row changes are buffered.
	Ops() int
	// Commit writes everything as one frame and ends the transaction. With idem
	// the answer is stored in that same frame.
	Commit(ctx context.Context, idem *Idempotency) (lsn.Pos, error)
	// Close discards what was not committed; it may be called again.
	Close()
}

// Idempotency is what a commit stores so that a repeated request gets the
// first answer.
type Idempotency struct {
	Key     string
	Request [32]byte
	Status  uint16
	// Answer renders the answer once the place of the commit is known.
	Answer func(lsn.Pos) []byte
}

// Store begins transactions and changes tables. All methods are safe for
// concurrent use; the changes of tables commit by themselves.
type Store interface {
	Begin(tenant ulid.ULID) (Tx, error)
	CreateTable(ctx context.Context, tenant ulid.ULID, manifest []byte) (created bool, pos lsn.Pos, err error)
	DropTable(ctx context.Context, tenant ulid.ULID, name string) (lsn.Pos, error)
	CreateIndex(ctx context.Context, tenant ulid.ULID, name string, ix table.IndexRecord) (rowsIndexed uint64, pos lsn.Pos, err error)
	DropIndex(ctx context.Context, tenant ulid.ULID, name, index string) (lsn.Pos, error)
}
