package sql

import (
	"fmt"
	"io"
	"testing"

	"github.com/sirupsen/logrus"
)

// BenchmarkStatement measures whole statements: text in, answer out.
func BenchmarkStatement(b *testing.B) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	st := newMemStore(b)
	e, err := New(Config{Store: st, Log: log})
	if err != nil {
		b.Fatal(err)
	}
	exec := func(sql, params string) {
		if _, err := e.Execute(b.Context(), Request{Tenant: testTenant, SQL: sql, Params: []byte(params)}); err != nil {
			b.Fatal(err)
		}
	}
	exec(`CREATE TABLE t.x (id BIGINT PRIMARY KEY, k BIGINT, s TEXT, KEY by_k (k))`, "")
	for i := range 1000 {
		exec(`INSERT INTO t.x VALUES (?, ?, 'text')`, fmt.Sprintf("[%d, %d]", i, i%100))
	}
	for _, c := range []struct{ name, sql, params string }{
		{"point", `SELECT * FROM t.x WHERE id = ?`, "[500]"},
		{"index", `SELECT * FROM t.x WHERE k = ?`, "[7]"},
		{"count", `SELECT COUNT(*) FROM t.x`, ""},
		{"scan", `SELECT id, s FROM t.x`, ""},
		{"update", `UPDATE t.x SET s = 'other' WHERE id = ?`, "[500]"},
	} {
		b.Run("stmt="+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				exec(c.sql, c.params)
			}
		})
	}
}
