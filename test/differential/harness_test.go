package differential

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"originchain/shared/clock"
	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/simdisk"
	ocsql "originchain/shared/sql"
	"originchain/shared/table"
	"originchain/shared/wal"
	"originchain/test/oracle"
)

var tenant = ulid.MustParse("01JADE0000000000000000000A")

// store joins SQL and the engine, as the writer does.
type store struct{ *engine.Engine }

func (s store) Begin(tenant ulid.ULID) (ocsql.Tx, error) {
	tx, err := s.Engine.Begin(tenant)
	if err != nil {
		return nil, err
	}
	return transaction{tx}, nil
}

func (s store) CreateIndex(ctx context.Context, tenant ulid.ULID, name string, ix table.IndexRecord) (uint64, lsn.Pos, error) {
	return s.Engine.CreateIndex(ctx, tenant, name, ix)
}

type transaction struct{ *engine.Tx }

func (t transaction) Commit(ctx context.Context, idem *ocsql.Idempotency) (lsn.Pos, error) {
	if idem != nil {
		return lsn.Pos{}, errors.New("no statement here has a key")
	}
	return t.Tx.Commit(ctx, nil)
}

// pair is the two databases with the same data.
type pair struct {
	*testing.T
	seed   uint64
	rng    *rand.Rand
	engine *engine.Engine
	ours   *ocsql.Engine
	theirs *sql.DB
	tables []*tableDef

	model  *oracle.Model
	reader *wal.Reader

	// tx is the open transaction, or empty.
	tx string
	// indexes counts the indexes that statements have made, for their names.
	indexes int

	statements, refused, rows int
}

func newPair(t *testing.T, seed uint64) *pair {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	e, err := engine.Open(context.Background(), engine.Config{DataDir: "data", MemtableBytes: 1 << 20, CacheBytes: 8 << 20}, engine.Deps{
		FS: simdisk.New(), Log: log, Clock: clock.New(clock.Config{}), NoPreallocate: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, e.Close()); err != nil {
			t.Error(err)
		}
	})
	ours, err := ocsql.New(ocsql.Config{Store: store{e}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{T: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 3)), engine: e, ours: ours, theirs: openSQLite(t), model: oracle.New(&oracle.Schemas{})}
	if p.reader, err = e.Log().NewReader(1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.reader.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func openSQLite(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, s := range []string{"ATTACH ':memory:' AS d", "PRAGMA foreign_keys = ON", "PRAGMA case_sensitive_like = ON"} {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

// create makes a table on both sides.
func (p *pair) create(def *tableDef) {
	p.Helper()
	if _, _, err := p.engine.CreateTable(context.Background(), tenant, []byte(def.manifest())); err != nil {
		p.Fatalf("seed %d: %v\n%s", p.seed, err, def.manifest())
	}
	if _, err := p.theirs.Exec(def.ddl()); err != nil {
		p.Fatalf("seed %d: sqlite: %v\n%s", p.seed, err, def.ddl())
	}
	p.tables = append(p.tables, def)
}

func (p *pair) execute(stmt string) (*ocsql.Result, error) {
	p.statements++
	return p.ours.Execute(context.Background(), ocsql.Request{Tenant: tenant, SQL: stmt, TxID: p.tx})
}

// constraints are the refusals that have a counterpart in SQLite.
var constraints = map[fault.Code]bool{
	fault.AlreadyExists: true, fault.UniqueViolation: true, fault.FKViolation: true, fault.MissingColumn: true,
}

// write runs a statement that changes rows on both sides: both must refuse it
// for a constraint, or both change the same number of rows.
func (p *pair) write(stmt string) {
	p.Helper()
	res, err := p.execute(stmt)
	theirs, liteErr := p.theirs.Exec(stmt)
	if p.bothRefuse(stmt, err, liteErr) {
		return
	}
	n, err := theirs.RowsAffected()
	if err != nil {
		p.Fatal(err)
	}
	if got := res.Inserted + res.Updated + res.RowsAffected; got != uint64(n) {
		p.Fatalf("seed %d: %s\nours changed %d rows, sqlite %d", p.seed, stmt, got, n)
	}
}

// bothRefuse requires that both or neither refuse, and for a constraint.
func (p *pair) bothRefuse(stmt string, err, liteErr error) bool {
	p.Helper()
	var constraint *sqlite.Error
	switch {
	case err != nil && !constraints[fault.CodeOf(err)]:
		p.Fatalf("seed %d: %s\nours: %v", p.seed, stmt, err)
	case liteErr != nil && !(errors.As(liteErr, &constraint) && constraint.Code()&0xff == lib.SQLITE_CONSTRAINT):
		p.Fatalf("seed %d: %s\nsqlite: %v", p.seed, stmt, liteErr)
	case (err != nil) != (liteErr != nil):
		p.Fatalf("seed %d: %s\nours: %v\nsqlite: %v", p.seed, stmt, err, liteErr)
	}
	if err != nil {
		p.refused++
	}
	return err != nil
}

// transact runs a few changes and queries in a transaction on both sides, and
// commits or rolls back; a refused statement leaves the transaction as it was.
func (p *pair) transact() {
	p.Helper()
	res, err := p.ours.Begin(context.Background(), tenant)
	if err != nil {
		p.Fatal(err)
	}
	p.tx = res.TxID
	p.lite("BEGIN")
	for range 2 + p.rng.IntN(5) {
		p.write(p.change())
		p.query()
	}
	end := p.pick("COMMIT", "COMMIT", "ROLLBACK")
	if _, err := p.execute(end); err != nil {
		p.Fatalf("seed %d: %s: %v", p.seed, end, err)
	}
	p.tx = ""
	p.lite(end)
}

func (p *pair) lite(stmt string) {
	p.Helper()
	if _, err := p.theirs.Exec(stmt); err != nil {
		p.Fatalf("seed %d: sqlite: %s: %v", p.seed, stmt, err)
	}
}

// index makes an index on both sides, often one that is unique: rows that
// collide refuse it.
func (p *pair) index() {
	p.Helper()
	t := p.table()
	cols := t.someColumns(p.rng)
	p.indexes++
	name, unique := fmt.Sprintf("made_%d", p.indexes), p.pick("", "UNIQUE ")
	list := strings.Join(cols, ", ")
	stmt := fmt.Sprintf("CREATE %sINDEX %s ON d.%s (%s)", unique, name, t.name, list)
	_, err := p.execute(stmt)
	_, liteErr := p.theirs.Exec(fmt.Sprintf("CREATE %sINDEX d.%s ON %s (%s)", unique, name, t.name, list))
	if p.bothRefuse(stmt, err, liteErr) {
		return
	}
	if p.rng.IntN(2) == 0 {
		if unique != "" {
			t.uniques = append(t.uniques, cols)
		}
		return
	}
	if _, err := p.execute(fmt.Sprintf("DROP INDEX %s ON d.%s", name, t.name)); err != nil {
		p.Fatalf("seed %d: drop index: %v", p.seed, err)
	}
	p.lite("DROP INDEX d." + name)
}

// read runs a query on both sides and compares the rows, in order where the
// query asks for one that is total.
func (p *pair) read(query string, ordered bool) {
	p.Helper()
	ours, theirs := p.ourRows(query), p.theirRows(query)
	p.rows += len(theirs)
	if !ordered {
		slices.Sort(ours)
		slices.Sort(theirs)
	}
	if diff := cmp.Diff(theirs, ours); diff != "" {
		plan := ""
		if res, err := p.execute("EXPLAIN " + query); err == nil {
			plan = res.Plan
		}
		p.Fatalf("seed %d: %s\n(-sqlite +ours)\n%s\n%s", p.seed, query, diff, plan)
	}
}

func (p *pair) ourRows(query string) []string {
	p.Helper()
	res, err := p.execute(query)
	if err != nil {
		p.Fatalf("seed %d: %s\nours: %v", p.seed, query, err)
	}
	var answer struct {
		Columns []string
		Rows    []map[string]any
	}
	dec := json.NewDecoder(strings.NewReader(string(res.AppendJSON(nil))))
	dec.UseNumber()
	if err := dec.Decode(&answer); err != nil {
		p.Fatalf("seed %d: %s\nthe answer is not JSON: %v", p.seed, query, err)
	}
	out := make([]string, len(answer.Rows))
	for i, row := range answer.Rows {
		if len(row) != len(answer.Columns) {
			p.Fatalf("seed %d: %s\nrow %d has %d fields for columns %v", p.seed, query, i, len(row), answer.Columns)
		}
		parts := make([]string, len(answer.Columns))
		for j, c := range answer.Columns {
			parts[j] = canonical(row[c])
		}
		out[i] = strings.Join(parts, " | ")
	}
	return out
}

func (p *pair) theirRows(query string) []string {
	p.Helper()
	rows, err := p.theirs.Query(query)
	if err != nil {
		p.Fatalf("seed %d: %s\nsqlite: %v", p.seed, query, err)
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		p.Fatal(err)
	}
	out := []string{}
	for rows.Next() {
		vals, into := make([]any, len(cols)), make([]any, len(cols))
		for i := range vals {
			into[i] = &vals[i]
		}
		if err := rows.Scan(into...); err != nil {
			p.Fatal(err)
		}
		parts := make([]string, len(cols))
		for i, v := range vals {
			parts[i] = canonical(v)
		}
		out = append(out, strings.Join(parts, " | "))
	}
	if err := rows.Err(); err != nil {
		p.Fatal(err)
	}
	return out
}

// canonical writes a value in one form, exactly: truth is 1 or 0, and a number
// is its shortest decimal whatever type carries it.
func canonical(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case bool:
		if v {
			return "1"
		}
		return "0"
	case json.Number:
		return number(v.String())
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return number(strconv.FormatFloat(v, 'g', -1, 64))
	case []byte:
		return encodeBytes(v)
	case string:
		return v
	}
	return fmt.Sprintf("%T %v", v, v)
}

func number(s string) string {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return "not a number: " + s
	}
	if r.IsInt() {
		return r.Num().String()
	}
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'g', 12, 64)
}

// check folds what the log has gained and holds digest, counters, indexes,
// references and the state to it; then the counts to SQLite's.
func (p *pair) check() {
	p.Helper()
	for {
		f, err := p.reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			p.Fatal(err)
		}
		if _, err := p.model.Apply(f); err != nil {
			p.Fatalf("seed %d: %v", p.seed, err)
		}
	}
	snap, err := p.engine.Snapshot()
	if err != nil {
		p.Fatal(err)
	}
	if err := errors.Join(p.model.Check(), p.model.Compare(snap), snap.Close()); err != nil {
		p.Fatalf("seed %d: %v", p.seed, err)
	}
	for _, t := range p.tables {
		p.read("SELECT COUNT(*) AS n FROM d."+t.name, true)
		p.read("SELECT * FROM d."+t.name, false)
	}
}
