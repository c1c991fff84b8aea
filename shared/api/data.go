package api

import "encoding/json"

// RegisteredSchema is POST /v1/tenants/:t/schemas, with 201.
type RegisteredSchema struct {
	// ID is "namespace.table".
	ID      string `json:"id"`
	Tenant  string `json:"tenant"`
	Version uint32 `json:"version"`
}

// WrittenRow is POST …/rows/:schema and PUT …/rows/:schema/:pk.
type WrittenRow struct {
	Schema string `json:"schema"`
	PK     string `json:"pk"`
	LSN    uint64 `json:"lsn"`
	// Version is what If-Match compares with: the LSN of the row's last change.
	Version uint64 `json:"version"`
}

// DeletedRow is DELETE …/rows/:schema/:pk; Deleted is false where no row was.
type DeletedRow struct {
	Deleted bool `json:"deleted"`
}

// Batch is POST …/rows/:schema/_batch.
type Batch struct {
	// Inserted counts all rows accepted, new or replaced.
	Inserted uint64 `json:"inserted"`
	// Updated counts those that replaced a row.
	Updated uint64 `json:"updated"`
	// LSN is that of the last chunk's frame.
	LSN uint64 `json:"lsn"`
}

// SQLRequest is POST /v1/tenants/:t/sql.
type SQLRequest struct {
	SQL string `json:"sql"`
	// Params is an array for ? and $1, an object for :name.
	Params json.RawMessage `json:"params,omitempty"`
}

// The kinds of SQL answers.
const (
	KindSelect      = "select"
	KindExplain     = "explain"
	KindInsert      = "insert"
	KindUpdate      = "update"
	KindDelete      = "delete"
	KindTx          = "tx"
	KindCreateTable = "createtable"
	KindDropTable   = "droptable"
	KindCreateIndex = "createindex"
	KindDropIndex   = "dropindex"
)

// SelectResult is the answer of a SELECT. Rows are objects, always; Columns has
// the names in SELECT order, which JSON objects do not keep.
type SelectResult struct {
	Kind    string            `json:"kind"`
	Rows    []json.RawMessage `json:"rows"`
	Columns []string          `json:"columns"`
}

// ExplainResult is the answer of EXPLAIN; Stats is there for EXPLAIN ANALYZE.
type ExplainResult struct {
	Kind string `json:"kind"`
	// Plan is a text tree, children indented with "└─".
	Plan  string          `json:"plan"`
	Stats json.RawMessage `json:"stats,omitempty"`
}

// InsertResult is the answer of INSERT and REPLACE.
type InsertResult struct {
	Kind     string            `json:"kind"`
	Schema   string            `json:"schema"`
	Inserted uint64            `json:"inserted"`
	Updated  uint64            `json:"updated,omitempty"`
	Skipped  uint64            `json:"skipped,omitempty"`
	Rows     []json.RawMessage `json:"rows"`
}

// UpdateResult is the answer of UPDATE.
type UpdateResult struct {
	Kind         string `json:"kind"`
	Schema       string `json:"schema"`
	RowsAffected uint64 `json:"rows_affected"`
	// RowsBuffered is there inside a transaction.
	RowsBuffered *uint64 `json:"rows_buffered,omitempty"`
}

// DeleteResult is the answer of DELETE. PK is null unless one row was named by its key.
type DeleteResult struct {
	Kind         string  `json:"kind"`
	Schema       string  `json:"schema"`
	PK           *string `json:"pk"`
	RowsAffected uint64  `json:"rows_affected"`
	// RowsBuffered is there inside a transaction.
	RowsBuffered *uint64 `json:"rows_buffered,omitempty"`
}

// The operations and states of a transaction.
const (
	TxBegin    = "begin"
	TxCommit   = "commit"
	TxRollback = "rollback"
	TxNoop     = "noop"

	TxRunning   = "running"
	TxCommitted = "committed"
	TxAborted   = "aborted"
)

// TxResult is the answer of BEGIN, COMMIT, ROLLBACK and of the tx routes.
type TxResult struct {
	Kind         string `json:"kind"`
	Op           string `json:"op"`
	OpsCommitted uint64 `json:"ops_committed"`
	// TxID and SessionID are the same.
	TxID      string `json:"tx_id"`
	SessionID string `json:"session_id"`
	// Status is running, committed or aborted.
	Status string `json:"status"`
}

// DDLResult is the answer of CREATE and DROP of tables and indexes.
type DDLResult struct {
	Kind        string  `json:"kind"`
	Schema      string  `json:"schema"`
	Created     *bool   `json:"created,omitempty"`
	Dropped     *bool   `json:"dropped,omitempty"`
	Index       string  `json:"index,omitempty"`
	RowsIndexed *uint64 `json:"rows_indexed,omitempty"`
}
