package sql

import (
	"context"
	"errors"
	"sort"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/oklog/ulid/v2"

	"originchain/shared/fault"
	"originchain/shared/lsn"
)

// TestStatementTimeout: a statement whose time is over stops in every node that
// can go on for long, says what to do, and leaves its transaction as it was.
func TestStatementTimeout(t *testing.T) {
	f := indexed(t, 1000)
	tx := f.exec("BEGIN").TxID
	f.execIn(tx, `UPDATE t.pair SET v = 100 WHERE a = 0 AND b = 'b0'`)
	f.e.cfg.StatementTimeout = time.Nanosecond
	for _, sql := range []string{
		`SELECT 1`,
		`SELECT COUNT(*) FROM t.big`,
		`SELECT * FROM t.big ORDER BY pad, f`,
		`SELECT DISTINCT pad FROM t.big`,
		`SELECT k, COUNT(*) FROM t.big GROUP BY k`,
		`SELECT a.id FROM t.big a JOIN t.big b ON a.pad = b.pad`,
		`SELECT MAX(f) OVER (ORDER BY id) FROM t.big`,
		`INSERT INTO t.pair SELECT id, s, k FROM t.big`,
		`UPDATE t.big SET k = 1`,
		`DELETE FROM t.big`,
		`EXPLAIN ANALYZE SELECT * FROM t.big ORDER BY pad`,
	} {
		for _, in := range []string{"", tx} {
			e := f.refusedIn(in, fault.Cancelled, sql)
			if !strings.Contains(e.Message, "--statement-timeout") || !strings.Contains(e.Message, "1ns") || !errors.Is(e, context.DeadlineExceeded) || e.Retry {
				t.Errorf("%s: %v", sql, e)
			}
		}
	}
	f.e.cfg.StatementTimeout = 0
	if got := f.rowsIn(tx, `SELECT COUNT(*) AS n, MAX(v) AS v FROM t.pair`); got != `[{"n":30,"v":100}]` {
		t.Errorf("the transaction is another: %s", got)
	}
	f.execIn(tx, "COMMIT")
	if got := f.rows(`SELECT COUNT(*) AS n, MAX(v) AS v FROM t.pair`); got != `[{"n":30,"v":100}]` {
		t.Errorf("after the commit: %s", got)
	}
	if got := f.rows(`SELECT COUNT(*) AS n, SUM(k) AS k FROM t.big`); got != `[{"n":1000,"k":49500}]` {
		t.Errorf("statements that ended left changes: %s", got)
	}
}

// TestTimeoutIsTheStatementsOwn: an earlier end of the caller's context stays the
// caller's, and the building of an index has no limit.
func TestTimeoutIsTheStatementsOwn(t *testing.T) {
	f := indexed(t, 100)
	f.e.cfg.StatementTimeout = time.Hour
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	_, err := f.e.Execute(ctx, Request{Tenant: testTenant, SQL: `SELECT COUNT(*) FROM t.big`})
	if fault.CodeOf(err) != fault.Cancelled || strings.Contains(fault.From(err).Message, "--statement-timeout") {
		t.Errorf("a deadline of the caller: %v", err)
	}
	f.e.cfg.StatementTimeout = time.Nanosecond
	if got := f.json(`CREATE INDEX by_pad ON t.big (pad)`); !strings.Contains(got, `"rows_indexed":100`) {
		t.Error(got)
	}
}

// counted counts how often it is evaluated.
type counted struct {
	gms.Expression
	n *int
}

func (c *counted) Eval(ctx *gms.Context, row gms.Row) (any, error) {
	*c.n++
	return c.Expression.Eval(ctx, row)
}

func (c *counted) Children() []gms.Expression { return nil }

func (c *counted) WithChildren(...gms.Expression) (gms.Expression, error) { return c, nil }

// countedBuffer counts the rows that an aggregate is given.
type countedBuffer struct {
	gms.AggregationBuffer
	n *int
}

func (c countedBuffer) Update(*gms.Context, gms.Row) error {
	*c.n++
	return nil
}

func (countedBuffer) Dispose() {}

// TestWindowFunctionsStop: those that look at a whole frame for every row, and
// the comparisons of a sort, give up soon after the context has ended.
func TestWindowFunctionsStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	gctx := gms.NewContext(ctx)
	n := 0
	arg := &counted{expression.NewGetField(0, types.Int64, "x", true), &n}
	var rows []gms.Row
	for i := range 100 * stopEvery {
		rows = append(rows, gms.Row{int64(i)})
	}
	w := &windowRows{rows: rows, st: &statement{budget: 1 << 30}}
	if _, err := w.values(gctx, arg); !errors.Is(err, context.Canceled) || n > 2*stopEvery {
		t.Errorf("arguments: %d evaluations, %v", n, err)
	}
	n = 0
	r := &running{w: w, values: make([]any, len(rows)), rows: make([]int, len(rows)), begin: func() (gms.AggregationBuffer, error) { return countedBuffer{n: &n}, nil }}
	if _, err := r.over(gctx, places{0, len(rows)}); !errors.Is(err, context.Canceled) || n > 2*stopEvery {
		t.Errorf("a frame: %d rows, %v", n, err)
	}
	order := &windowOrder{w: w, ctx: gctx, keys: []windowKey{{values: make([]any, len(rows)), typ: types.Int64}}}
	order.runs(make([]int, len(rows)), places{0, len(rows)}, 0, 1)
	if !errors.Is(order.err, context.Canceled) || w.turned > 6*stopEvery {
		t.Errorf("an order: %d comparisons, %v", w.turned, order.err)
	}
	n = 0
	s := sortHeap{}
	s.Ctx, s.SortFields = gctx, gms.SortFields{{Column: &stopping{Expression: arg}}}
	for _, row := range rows {
		s.Push(row)
	}
	sort.Sort(&s)
	if s.LastError == nil || n > 2*stopEvery {
		t.Errorf("a sort: %d evaluations, %v", n, s.LastError)
	}
}

// commitStore hands out transactions whose commit takes until its context ends,
// and then answers.
type commitStore struct {
	*memStore
	err error
}

func (s commitStore) Begin(tenant ulid.ULID) (Tx, error) {
	tx, err := s.memStore.Begin(tenant)
	return commitTx{tx, s}, err
}

type commitTx struct {
	Tx
	s commitStore
}

func (t commitTx) Commit(ctx context.Context, _ *Idempotency) (lsn.Pos, error) {
	<-ctx.Done()
	return lsn.Pos{Epoch: 1, LSN: 77}, t.s.err
}

// TestTimeoutDuringACommit: when the time is over while the frame is on its way,
// the commit has the last word.
func TestTimeoutDuringACommit(t *testing.T) {
	f := shopFixture(t)
	unknown := fault.New(fault.Cancelled, "the request ended before its commit was durable").With("outcome", "unknown").Wrap(context.DeadlineExceeded)
	for _, c := range []struct {
		name string
		err  error
	}{{"durable", nil}, {"unknown", unknown}} {
		synctest.Test(t, func(t *testing.T) {
			e, err := New(Config{Store: commitStore{f.st, c.err}, Log: f.e.cfg.Log, StatementTimeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			res, err := e.Execute(t.Context(), Request{Tenant: testTenant, SQL: `UPDATE shop.orders SET note = 'x' WHERE id = 1`})
			if took := time.Since(begun); took != time.Minute {
				t.Errorf("%s: the commit was told after %s", c.name, took)
			}
			switch {
			case c.err == nil && (err != nil || res.Pos.LSN != 77):
				t.Errorf("a durable commit looks failed: %v", err)
			case c.err != nil && (!errors.Is(err, c.err) || fault.From(err).Fields["outcome"] != "unknown"):
				t.Errorf("the outcome is lost: %v", err)
			}
		})
	}
}
