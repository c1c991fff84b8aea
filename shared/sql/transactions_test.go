package sql

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/fault"
)

func TestTransaction(t *testing.T) {
	f := shopFixture(t)
	begun := f.exec(`START TRANSACTION`)
	tx := begun.TxID
	if got, want := string(begun.AppendJSON(nil)), `{"kind":"tx","op":"begin","ops_committed":0,"tx_id":"`+tx+`","session_id":"`+tx+`","status":"running"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if r := f.execIn(tx, `BEGIN`); r.Op != "noop" || r.Status != "running" || r.TxID != tx {
		t.Errorf("BEGIN in a transaction: %s", r.AppendJSON(nil))
	}
	f.execIn(tx, `INSERT INTO shop.customers VALUES (7,'Gus',NULL)`)
	if got, want := string(f.execIn(tx, `UPDATE shop.customers SET city = 'Bonn' WHERE id = 7`).AppendJSON(nil)), `{"kind":"update","schema":"shop.customers","rows_affected":1,"rows_buffered":1}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := string(f.execIn(tx, `DELETE FROM shop.customers WHERE id = 1`).AppendJSON(nil)), `{"kind":"delete","schema":"shop.customers","pk":"1","rows_affected":1,"rows_buffered":1}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := f.rowsIn(tx, `SELECT id, city FROM shop.customers WHERE name >= 'Bob'`); got != `[{"id":2,"city":"Rome"},{"id":3,"city":null},{"id":7,"city":"Bonn"}]` {
		t.Errorf("inside: %s", got)
	}
	if got := f.rows(`SELECT id FROM shop.customers`); got != `[{"id":1},{"id":2},{"id":3}]` {
		t.Errorf("outside: %s", got)
	}
	r := f.execIn(tx, `COMMIT`)
	if r.Op != "commit" || r.Status != "committed" || r.OpsCommitted != 3 || r.Pos.LSN != f.st.lsn {
		t.Errorf("commit: %s at %v", r.AppendJSON(nil), r.Pos)
	}
	if got := f.rows(`SELECT id FROM shop.customers`); got != `[{"id":2},{"id":3},{"id":7}]` {
		t.Errorf("after: %s", got)
	}
	f.refusedIn(tx, fault.NotFound, `SELECT 1`)
	f.refusedIn(tx, fault.NotFound, `COMMIT`)
	f.refusedIn("nonsense", fault.ValidationFailed, `SELECT 1`)
}

func TestStatementOfATransactionIsAllOrNothing(t *testing.T) {
	f := shopFixture(t)
	tx := f.exec(`BEGIN`).TxID
	f.execIn(tx, `INSERT INTO shop.customers VALUES (10,'Ann',NULL)`)
	f.refusedIn(tx, fault.UniqueViolation, `INSERT INTO shop.customers VALUES (11,'Ben',NULL), (12,'Ann',NULL)`)
	f.refusedIn(tx, fault.UniqueViolation, `UPDATE shop.customers SET name = 'Same'`)
	if got := f.rowsIn(tx, `SELECT name FROM shop.customers ORDER BY id`); got != `[{"name":"Ada"},{"name":"Bob"},{"name":"Cyd"},{"name":"Ann"}]` {
		t.Errorf("a failed statement left rows: %s", got)
	}
	if r := f.execIn(tx, `ROLLBACK`); r.Op != "rollback" || r.Status != "aborted" {
		t.Errorf("%s", r.AppendJSON(nil))
	}
	if got := f.rows(`SELECT COUNT(*) AS n FROM shop.customers`); got != `[{"n":3}]` {
		t.Error(got)
	}
}

func TestFirstCommitterWins(t *testing.T) {
	f := shopFixture(t)
	a, b := f.exec(`BEGIN`).TxID, f.exec(`BEGIN`).TxID
	f.execIn(a, `UPDATE shop.customers SET city = 'A' WHERE id = 1`)
	f.execIn(b, `UPDATE shop.customers SET city = 'B' WHERE id = 1`)
	f.execIn(a, `COMMIT`)
	if e := f.refusedIn(b, fault.Conflict, `COMMIT`); !e.Retry {
		t.Error("the conflict is worth a retry")
	}
	f.refusedIn(b, fault.NotFound, `SELECT 1`)
	if got := f.rows(`SELECT city FROM shop.customers WHERE id = 1`); got != `[{"city":"A"}]` {
		t.Error(got)
	}
}

func TestForUpdate(t *testing.T) {
	f := shopFixture(t)
	for _, c := range []struct {
		lock     string
		write    string
		conflict bool
	}{
		{`SELECT * FROM shop.customers WHERE id = 1 FOR UPDATE`, `UPDATE shop.customers SET city = 'x' WHERE id = 1`, true},
		{`SELECT id FROM shop.customers WHERE name = 'Ada' FOR UPDATE`, `DELETE FROM shop.customers WHERE id = 1`, true},
		{`SELECT * FROM shop.customers WHERE id = 2 LOCK IN SHARE MODE`, `UPDATE shop.customers SET city = 'y' WHERE id = 2`, true},
		{`SELECT COUNT(*) FROM shop.customers FOR UPDATE`, `UPDATE shop.customers SET city = 'z' WHERE id = 3`, true},
		{`SELECT * FROM shop.customers WHERE id = 2 FOR UPDATE`, `UPDATE shop.customers SET city = 'q' WHERE id = 3`, false},
		{`SELECT * FROM shop.customers WHERE id = 2`, `UPDATE shop.customers SET city = 'q' WHERE id = 2`, false},
	} {
		tx := f.exec(`BEGIN`).TxID
		f.execIn(tx, c.lock)
		f.execIn(tx, `UPDATE shop.orders SET note = 'seen' WHERE id = 1`)
		f.exec(c.write)
		_, err := f.tryIn(tx, `COMMIT`)
		if got := fault.CodeOf(err) == fault.Conflict; got != c.conflict {
			t.Errorf("%s, then %s: %v", c.lock, c.write, err)
		}
	}
	f.refused(fault.Unsupported, `SELECT * FROM shop.customers FOR UPDATE`)
	tx := f.exec(`BEGIN`).TxID
	for _, sql := range []string{
		`SELECT * FROM (SELECT * FROM shop.customers FOR UPDATE) AS x`,
		`SELECT id FROM shop.customers UNION SELECT id FROM shop.orders FOR UPDATE`,
		`SELECT * FROM shop.customers FOR UPDATE SKIP LOCKED`,
		`INSERT INTO shop.customers SELECT id + 100, CONCAT(name, 'x'), city FROM shop.customers FOR UPDATE`,
	} {
		f.refusedIn(tx, fault.Unsupported, sql)
	}
	f.execIn(tx, `ROLLBACK`)
}

func TestOneStatementAtATime(t *testing.T) {
	f := shopFixture(t)
	tx := f.exec(`BEGIN`).TxID
	err := f.e.Use(testTenant, tx, func(Tx) error {
		if e := f.refusedIn(tx, fault.Conflict, `SELECT 1`); !e.Retry {
			t.Error("worth a retry")
		}
		f.refusedIn(tx, fault.Conflict, `COMMIT`)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := f.e.Transaction(testTenant, tx); err != nil || r.Status != "running" {
		t.Errorf("%v %v", r, err)
	}
	f.execIn(tx, `ROLLBACK`)
	if _, err := f.e.Transaction(testTenant, tx); fault.CodeOf(err) != fault.NotFound {
		t.Error(err)
	}
}

func TestTransactionsAreBounded(t *testing.T) {
	f := shopFixture(t)
	f.e.txs.max = 2
	a, b := f.exec(`BEGIN`).TxID, f.exec(`BEGIN`).TxID
	f.refused(fault.RateLimited, `BEGIN`)
	f.execIn(a, `COMMIT`)
	c := f.exec(`BEGIN`).TxID
	if n := f.e.OpenTransactions(testTenant); n != 2 {
		t.Error(n)
	}
	f.execIn(b, `ROLLBACK`)
	f.execIn(c, `ROLLBACK`)
	if d := cmp.Diff(0, len(f.e.txs.tenant)+len(f.e.txs.open)); d != "" {
		t.Error("ended transactions are still counted", d)
	}
}

// quietTx is a Tx of which only the end is asked for.
type quietTx struct {
	Tx
	closed *int
}

func (q quietTx) Close() { *q.closed++ }

func TestIdleTransactionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := 0
		reg := newTransactions(Config{MaxTransactions: 10, TransactionIdle: time.Minute})
		add := func() *openTx {
			o := &openTx{tenant: testTenant, used: time.Now(), tx: quietTx{closed: &closed}}
			o.id[15] = byte(len(reg.open) + 1)
			if err := reg.reserve(testTenant); err != nil {
				t.Fatal(err)
			}
			if err := reg.add(o); err != nil {
				t.Fatal(err)
			}
			return o
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- reg.run(ctx) }()
		idle, used, busy := add(), add(), add()
		busy.mu.Lock()
		time.Sleep(40 * time.Second)
		reg.touch(used)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if _, err := reg.take(testTenant, idle.id.String()); fault.CodeOf(err) != fault.NotFound || closed != 1 {
			t.Errorf("idle for 70 s: %v, %d closed", err, closed)
		}
		o, err := reg.take(testTenant, used.id.String())
		if err != nil {
			t.Fatalf("used 30 s ago: %v", err)
		}
		o.mu.Unlock()
		reg.touch(busy)
		busy.mu.Unlock()
		time.Sleep(50 * time.Second)
		synctest.Wait()
		if closed != 2 {
			t.Errorf("%d closed: one was in use until 50 s ago", closed)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if closed != 3 || len(reg.open) != 0 {
			t.Errorf("%d closed at the end, %d open", closed, len(reg.open))
		}
		if err := reg.reserve(testTenant); err != nil {
			t.Fatal(err)
		}
		if err := reg.add(&openTx{tenant: testTenant}); fault.CodeOf(err) != fault.NotReady {
			t.Errorf("begun after the end: %v", err)
		}
	})
}
