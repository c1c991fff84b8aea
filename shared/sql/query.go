package sql

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/planbuilder"
	"github.com/dolthub/go-mysql-server/sql/rowexec"
	"github.com/dolthub/go-mysql-server/sql/transform"
	ast "github.com/dolthub/vitess/go/vt/sqlparser"

	"originchain/shared/api"
	"originchain/shared/fault"
)

// query answers a SELECT.
func (e *Engine) query(ctx context.Context, cmd *command, tx Tx, s ast.SelectStatement) (*Result, error) {
	if err := check(s); err != nil {
		return nil, err
	}
	lock, err := lockOf(s, cmd.TxID != "")
	if err != nil {
		return nil, err
	}
	res := &Result{Kind: api.KindSelect}
	var enc *rowEncoder
	run := reading{stmt: s, text: cmd.text, params: cmd.params, lock: lock}
	run.columns = func(schema gms.Schema) error {
		enc = newRowEncoder(cmd.named(schema), e.cfg.MaxResultBytes)
		res.Columns = enc.names
		return nil
	}
	run.row = func(row gms.Row) error { return enc.append(row) }
	if err := e.read(ctx, tx, run); err != nil {
		return nil, err
	}
	res.rows, res.RowCount = enc.out, enc.count
	return res, nil
}

// named gives columns that are named by an expression with parameters the name
// that the statement wrote.
func (c *command) named(columns gms.Schema) gms.Schema {
	if len(c.placeholders) == 0 {
		return columns
	}
	out := make(gms.Schema, len(columns))
	for i, col := range columns {
		renamed := *col
		renamed.Name = c.asWritten(col.Name)
		out[i] = &renamed
	}
	return out
}

// asWritten puts the parameters of the statement back where the lexer wrote :pN.
func (c *command) asWritten(name string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(name, ":p")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		digits := len(after) - len(strings.TrimLeft(after, "0123456789"))
		n, err := strconv.Atoi(after[:digits])
		if err == nil && n >= 1 && n <= len(c.placeholders) {
			b.WriteString(c.placeholders[n-1])
			name = after[digits:]
			continue
		}
		b.WriteString(":p")
		name = after
	}
}

// lockOf reads the locking clause of a query. Only the whole query can lock.
func lockOf(s ast.SelectStatement, inTransaction bool) (bool, error) {
	lock, inner := "", 0
	_ = ast.Walk(func(n ast.SQLNode) (bool, error) {
		if x, ok := n.(*ast.Select); ok && x.Lock != "" {
			inner++
			if n == ast.SQLNode(s) {
				lock = x.Lock
			}
		}
		if x, ok := n.(*ast.SetOp); ok && x.Lock != "" {
			inner++
		}
		return true, nil
	}, s)
	switch {
	case inner == 0:
		return false, nil
	case inner > 1 || lock == "":
		return false, fault.New(fault.Unsupported, "FOR UPDATE stands only at the end of a whole SELECT, not in a subquery or a UNION")
	case lock == ast.ForUpdateSkipLockedStr:
		return false, fault.New(fault.Unsupported, "SKIP LOCKED is not available: nothing waits for a lock here; use FOR UPDATE and run the transaction again when its commit is a conflict")
	case !inTransaction:
		return false, fault.New(fault.Unsupported, "FOR UPDATE protects nothing outside a transaction; BEGIN first and send its id as X-OC-Tx")
	}
	return true, nil
}

// reading is one run of the planner.
type reading struct {
	stmt    ast.Statement
	text    string
	params  map[string]gms.Expression
	lock    bool
	profile *profile
	// planned gets the plan before it runs, columns its columns, row each row.
	// Each may be nil; without row the plan does not run.
	planned func(gms.Node) error
	columns func(gms.Schema) error
	row     func(gms.Row) error
}

// read plans a SELECT over tx and runs it.
func (e *Engine) read(ctx context.Context, tx Tx, r reading) (err error) {
	cat, err := tx.Catalog()
	if err != nil {
		return err
	}
	st := &statement{tx: tx, catalog: cat, lock: r.lock, profile: r.profile, budget: e.cfg.MaxBufferedBytes}
	gctx := e.sessions.begin(ctx, st)
	whole := false
	defer func() {
		cerr := st.close()
		if err == nil {
			err = cerr
		}
		// After a panic the session may be in any state; it is not used again.
		if whole {
			e.sessions.end(gctx)
		}
	}()
	err = e.readPlanned(gctx, st, r)
	whole = true
	return err
}

func (e *Engine) readPlanned(gctx *gms.Context, st *statement, r reading) error {
	node, err := e.plan(gctx, r)
	if err != nil {
		return planError(st, err)
	}
	defer dispose(node)
	if r.planned != nil {
		if err := r.planned(node); err != nil {
			return err
		}
	}
	if r.columns != nil {
		if err := r.columns(node.Schema()); err != nil {
			return err
		}
	}
	if r.row == nil {
		return nil
	}
	return e.run(gctx, st, node, r.row)
}

// plan binds and optimises one statement.
func (e *Engine) plan(gctx *gms.Context, r reading) (gms.Node, error) {
	adapt(r.stmt)
	b := planbuilder.New(gctx, e.analyzer.Catalog, nil, nil)
	if r.params != nil {
		b.SetBindingsWithExpr(r.params)
	}
	bound, flags, err := b.BindOnly(r.stmt, r.text, nil)
	if err != nil {
		return nil, err
	}
	node, err := e.analyzer.Analyze(gctx, bound, nil, flags)
	if err != nil {
		return nil, err
	}
	if !plan.IsReadOnly(node) {
		return nil, fault.New(fault.ServerError, "a plan that writes was made of a statement that reads")
	}
	return weighSubqueries(node, e.analyzer.ExecBuilder)
}

// run iterates a plan to its end. The context is looked at for every row.
func (e *Engine) run(gctx *gms.Context, st *statement, node gms.Node, each func(gms.Row) error) (err error) {
	iter, err := e.analyzer.ExecBuilder.Build(gctx, node, nil)
	if err != nil {
		return planError(st, err)
	}
	iter = rowexec.AddExpressionCloser(node, iter)
	defer func() {
		if cerr := iter.Close(gctx); err == nil {
			err = planError(st, cerr)
		}
	}()
	for {
		row, err := iter.Next(gctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return planError(st, err)
		}
		if err := gctx.Err(); err != nil {
			return err
		}
		if err := each(row); err != nil {
			return err
		}
	}
}

// dispose gives back what the nodes and expressions of a plan hold.
func dispose(node gms.Node) {
	transform.Inspect(node, func(n gms.Node) bool {
		gms.Dispose(n)
		return true
	})
	transform.InspectExpressions(node, func(e gms.Expression) bool {
		gms.Dispose(e)
		return true
	})
}
