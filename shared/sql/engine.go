package sql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/analyzer"
	"github.com/dolthub/go-mysql-server/sql/rowexec"
	ast "github.com/dolthub/vitess/go/vt/sqlparser"
	"github.com/oklog/ulid/v2"

	"originchain/shared/fault"
	"originchain/shared/lsn"
)

// Engine runs SQL. It is safe for concurrent use.
type Engine struct {
	cfg      Config
	sessions *sessions
	analyzer *analyzer.Analyzer
	txs      *transactions
	compiler *Compiler
	checks   checkCache
}

// New makes an Engine. It starts nothing; Run ends idle transactions.
func New(cfg Config) (*Engine, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	a := analyzer.NewBuilder(newProvider()).RemoveAfterAllRule(analyzer.TrackProcessId).Build()
	if err := addRules(a); err != nil {
		return nil, err
	}
	a.ExecBuilder = rowexec.NewOverrideBuilder(&executor{})
	a.Catalog.InfoSchema = emptyDatabase{}
	// Access is decided before a statement gets here.
	a.Catalog.AuthHandler = gms.NoopAuthorizationHandler{}
	e := &Engine{cfg: cfg, sessions: newSessions(), analyzer: a, txs: newTransactions(cfg)}
	e.compiler = &Compiler{sessions: e.sessions, catalog: a.Catalog}
	return e, nil
}

// Run ends idle transactions until the context ends, then every other one.
func (e *Engine) Run(ctx context.Context) error { return e.txs.run(ctx) }

// Request is one statement.
type Request struct {
	Tenant ulid.ULID
	SQL    string
	// Params is a JSON array for ? and $1, an object for :name; empty without.
	Params json.RawMessage
	// TxID is the transaction to run in; empty runs the statement by itself.
	TxID string
	// Idem stores the answer with the commit, where the statement commits one.
	Idem *IdempotencyKey
}

// IdempotencyKey names a request, so that a repeated one gets the same answer.
type IdempotencyKey struct {
	Key     string
	Request [32]byte
}

// statusOK is the status that goes with every stored answer here.
const statusOK = 200

// store makes what a commit stores of an answer; nil without a key. The answer
// says where the commit stands, which is known only when it is rendered.
func (k *IdempotencyKey) store(r *Result) *Idempotency {
	if k == nil {
		return nil
	}
	return &Idempotency{Key: k.Key, Request: k.Request, Status: statusOK, Answer: func(p lsn.Pos) []byte {
		r.Pos = p
		return r.AppendJSON(nil)
	}}
}

// command is a parsed request.
type command struct {
	Request
	text   string
	stmt   ast.Statement
	params map[string]gms.Expression
	// placeholders are the parameters as the statement wrote them.
	placeholders []string
}

// Execute runs one statement and returns its answer. When ctx ends, so does the
// statement, and nothing of it is kept.
func (e *Engine) Execute(ctx context.Context, req Request) (res *Result, err error) {
	cmd, err := e.parse(req)
	if err != nil {
		return nil, err
	}
	defer func() {
		if r := recover(); r != nil {
			// The planner's panics can carry values of rows; only their kind is kept.
			kind := fmt.Sprintf("%T", cmd.stmt)
			e.cfg.Log.WithField("statement", kind).WithField("panic", fmt.Sprintf("%T", r)).Error("statement panicked")
			res, err = nil, fault.New(fault.ServerError, "the statement could not be executed; rephrase it, and report it if it is valid SQL").With("statement", kind)
		}
	}()
	ctx, cancel := e.limit(ctx, cmd)
	defer cancel()
	res, err = e.dispatch(ctx, cmd)
	return res, e.whyEnded(ctx, err)
}

func (e *Engine) parse(req Request) (*command, error) {
	if len(req.SQL) > e.cfg.MaxStatementBytes {
		return nil, fault.New(fault.BodyTooLarge, "the statement has %d bytes; at most %d are allowed. Send rows to POST …/rows/:schema/_batch, or split it", len(req.SQL), e.cfg.MaxStatementBytes)
	}
	l, err := lex(req.SQL)
	if err != nil {
		return nil, err
	}
	params, err := bindParams(l, req.Params)
	if err != nil {
		return nil, err
	}
	stmt, err := parse(l.text)
	if err != nil {
		return nil, err
	}
	return &command{Request: req, text: l.text, stmt: stmt, params: params, placeholders: l.written()}, nil
}

func (e *Engine) dispatch(ctx context.Context, cmd *command) (*Result, error) {
	switch s := cmd.stmt.(type) {
	case *ast.Begin:
		if s.TransactionCharacteristic == ast.TxReadOnly {
			return nil, fault.New(fault.Unsupported, "read-only transactions are not available; begin an ordinary one and do not write")
		}
		return e.sqlBegin(ctx, cmd)
	case *ast.Commit:
		return e.sqlCommit(ctx, cmd)
	case *ast.Rollback:
		return e.sqlRollback(cmd)
	case *ast.DDL:
		return e.ddl(ctx, cmd, s)
	case *ast.AlterTable:
		return e.alter(ctx, cmd, s)
	case ast.SelectStatement:
		return e.inTransaction(ctx, cmd, func(tx Tx) (*Result, error) { return e.query(ctx, cmd, tx, s) })
	case *ast.Explain:
		return e.inTransaction(ctx, cmd, func(tx Tx) (*Result, error) { return e.explain(ctx, cmd, tx, s) })
	case *ast.Show:
		return e.inTransaction(ctx, cmd, func(tx Tx) (*Result, error) { return e.show(tx, s) })
	case *ast.Insert, *ast.Update, *ast.Delete:
		return e.write(ctx, cmd)
	}
	return nil, unsupported(cmd.stmt)
}

// inTransaction runs a statement that only reads: in its transaction, or in one
// of its own that is thrown away.
func (e *Engine) inTransaction(ctx context.Context, cmd *command, run func(Tx) (*Result, error)) (res *Result, err error) {
	if cmd.TxID == "" {
		tx, err := e.cfg.Store.Begin(cmd.Tenant)
		if err != nil {
			return nil, err
		}
		defer tx.Close()
		if res, err = run(tx); err != nil {
			return nil, err
		}
		res.Pos = tx.Pos()
		return res, nil
	}
	err = e.Use(cmd.Tenant, cmd.TxID, func(tx Tx) error {
		if res, err = run(tx); err == nil {
			res.Pos = tx.Pos()
		}
		return err
	})
	return res, err
}

// How often a statement that commits by itself is run again after a conflict,
// and how long it waits before: a random time below a bound that doubles.
const (
	maxAttempts  = 6
	firstBackoff = time.Millisecond
)

// write runs a statement that changes rows. In a transaction it is buffered, and
// taken back whole when it fails. By itself it commits, and runs again on the
// newest state when another transaction was first.
func (e *Engine) write(ctx context.Context, cmd *command) (res *Result, err error) {
	if cmd.TxID != "" {
		err = e.Use(cmd.Tenant, cmd.TxID, func(tx Tx) error {
			res, err = atomically(tx, func() (*Result, error) { return e.change(ctx, cmd, tx) })
			return err
		})
		if err != nil {
			return nil, err
		}
		res.buffered()
		return res, nil
	}
	backoff := firstBackoff
	for attempt := 1; ; attempt++ {
		res, err = e.autocommit(ctx, cmd)
		var f *fault.Error
		if err == nil || attempt == maxAttempts || !errors.As(err, &f) || f.Code != fault.Conflict || !f.Retry {
			return res, err
		}
		timer := time.NewTimer(rand.N(backoff))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
		backoff *= 2
		// Planning changes the tree, so another run starts from the text.
		if cmd.stmt, err = parse(cmd.text); err != nil {
			return nil, err
		}
	}
}

func (e *Engine) autocommit(ctx context.Context, cmd *command) (*Result, error) {
	tx, err := e.cfg.Store.Begin(cmd.Tenant)
	if err != nil {
		return nil, err
	}
	defer tx.Close()
	res, err := e.change(ctx, cmd, tx)
	if err != nil {
		return nil, err
	}
	pos, err := tx.Commit(ctx, cmd.Idem.store(res))
	if err != nil {
		return nil, err
	}
	res.Pos = pos
	return res, nil
}

// change runs an INSERT, UPDATE or DELETE in tx.
func (e *Engine) change(ctx context.Context, cmd *command, tx Tx) (*Result, error) {
	switch s := cmd.stmt.(type) {
	case *ast.Insert:
		return e.insert(ctx, cmd, tx, s)
	case *ast.Update:
		return e.update(ctx, cmd, tx, s)
	case *ast.Delete:
		return e.delete(ctx, cmd, tx, s)
	}
	return nil, unsupported(cmd.stmt)
}

// atomically runs one statement of a transaction, all or nothing.
func atomically(tx Tx, run func() (*Result, error)) (res *Result, err error) {
	sp := tx.Savepoint()
	done := false
	defer func() {
		if !done {
			tx.Rollback(sp)
		}
	}()
	res, err = run()
	done = err == nil
	return res, err
}

// emptyDatabase stands in for the system database that the planner would make
// of the catalog.
type emptyDatabase struct{}

// Name implements gms.Database.
func (emptyDatabase) Name() string { return gms.InformationSchemaDatabaseName }

// GetTableInsensitive implements gms.Database.
func (emptyDatabase) GetTableInsensitive(*gms.Context, string) (gms.Table, bool, error) {
	return nil, false, nil
}

// GetTableNames implements gms.Database.
func (emptyDatabase) GetTableNames(*gms.Context) ([]string, error) { return nil, nil }
