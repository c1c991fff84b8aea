package sql

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/fault"
	"originchain/shared/schema"
)

func (f *fixture) manifest(id string) string {
	f.Helper()
	cat, err := f.st.catalog(testTenant)
	if err != nil {
		f.Fatal(err)
	}
	t, err := cat.Table(id)
	if err != nil {
		f.Fatal(err)
	}
	return t.Source
}

func TestCreateTableMakesAManifest(t *testing.T) {
	f := newFixture(t, `CREATE TABLE s.parent (id BIGINT PRIMARY KEY, code TEXT NOT NULL, UNIQUE KEY by_code (code))`)
	f.exec(`CREATE TABLE s.all_types (
		a BIGINT, b INT UNSIGNED NOT NULL, c DOUBLE DEFAULT 1.5, d BOOLEAN DEFAULT TRUE, e TINYINT(1), f TINYINT,
		g TEXT DEFAULT 'it''s', h VARCHAR(20) UNIQUE, i BLOB DEFAULT X'00ff', j VARBINARY(4), k BIGINT DEFAULT -7, l FLOAT,
		code TEXT REFERENCES s.parent (code), p BIGINT,
		PRIMARY KEY (A, b), KEY by_c (c, D), UNIQUE (k), CHECK (a > 0 AND c < 10), CONSTRAINT named CHECK (LENGTH(g) < 100),
		FOREIGN KEY (p) REFERENCES parent (id))`)
	m, err := schema.ParseManifest([]byte(f.manifest("s.all_types")))
	if err != nil {
		t.Fatal(err)
	}
	want := &schema.Manifest{
		Namespace: "s", Table: "all_types", Version: 1, PrimaryKey: []string{"a", "b"},
		Columns: []schema.ColumnDef{
			{Name: "a", Type: schema.TypeI64}, {Name: "b", Type: schema.TypeU64, Required: true}, {Name: "c", Type: schema.TypeF64, Default: schema.F64(1.5)},
			{Name: "d", Type: schema.TypeBool, Default: schema.Bool(true)}, {Name: "e", Type: schema.TypeBool}, {Name: "f", Type: schema.TypeI64},
			{Name: "g", Type: schema.TypeStr, Default: schema.Str("it's")}, {Name: "h", Type: schema.TypeStr}, {Name: "i", Type: schema.TypeBytes, Default: schema.Bytes([]byte{0, 255})},
			{Name: "j", Type: schema.TypeBytes}, {Name: "k", Type: schema.TypeI64, Default: schema.I64(-7)}, {Name: "l", Type: schema.TypeF64},
			{Name: "code", Type: schema.TypeStr}, {Name: "p", Type: schema.TypeI64},
		},
		Indexes: []schema.IndexDef{
			{Name: "h_idx", Columns: []string{"h"}, Unique: true}, {Name: "by_c", Columns: []string{"c", "d"}}, {Name: "k_idx", Columns: []string{"k"}, Unique: true},
		},
		ForeignKeys: []schema.ForeignKeyDef{{FromCol: "code", TargetSchema: "s.parent", TargetCol: "code"}, {FromCol: "p", TargetSchema: "s.parent", TargetCol: "id"}},
		CheckConstraints: []schema.Check{
			{Name: "h_length", Expr: "char_length(h) <= 20"}, {Name: "j_length", Expr: "length(j) <= 4"},
			{Name: "check_1", Expr: "a > 0 and c < 10"}, {Name: "named", Expr: "LENGTH(g) < 100"},
		},
	}
	if d := cmp.Diff(want, m, cmp.Comparer(func(a, b schema.Value) bool { return a == b })); d != "" {
		t.Error(d)
	}
	f.refused(fault.CheckViolation, `INSERT INTO s.all_types (a, b, h) VALUES (1, 1, 'twenty-one characters')`)
	f.refused(fault.CheckViolation, `INSERT INTO s.all_types (a, b, j) VALUES (1, 1, X'0102030405')`)
	f.refused(fault.CheckViolation, `INSERT INTO s.all_types (a, b) VALUES (0, 1)`)
	f.exec(`INSERT INTO s.all_types (a, b, h) VALUES (1, 1, 'zwanzig Zeichen äöüß')`)
	f.refused(fault.FKViolation, `INSERT INTO s.all_types (a, b, code, k) VALUES (2, 1, 'nope', 1)`)

	// What SHOW CREATE TABLE prints makes the same table again.
	text := f.exec(`SHOW CREATE TABLE s.all_types`)
	var ddl string
	for _, line := range strings.SplitN(string(text.rows), `"Create Table":"`, 2)[1:] {
		ddl = strings.NewReplacer(`\n`, "\n", `\"`, `"`, `\\`, `\`).Replace(strings.TrimSuffix(line, `"}`))
	}
	f.exec(`DROP TABLE s.all_types`)
	f.exec(ddl)
	again, err := schema.ParseManifest([]byte(f.manifest("s.all_types")))
	if err != nil {
		t.Fatal(err)
	}
	want.Columns[0].Required = true // a key column says so now
	if d := cmp.Diff(want, again, cmp.Comparer(func(a, b schema.Value) bool { return a == b })); d != "" {
		t.Errorf("%s\n%s", ddl, d)
	}
}

func TestRefusedTables(t *testing.T) {
	f := newFixture(t, `CREATE TABLE s.t (id BIGINT PRIMARY KEY, n BIGINT, s TEXT)`)
	for _, c := range []struct {
		code fault.Code
		sql  string
		says string
	}{
		{fault.AlreadyExists, `CREATE TABLE s.t (id BIGINT PRIMARY KEY, n BIGINT, s TEXT)`, "IF NOT EXISTS"},
		{fault.ValidationFailed, `CREATE TABLE s.x (id BIGINT)`, "primary key"},
		{fault.ValidationFailed, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, PRIMARY KEY (id))`, "two primary keys"},
		{fault.UnknownTable, `CREATE TABLE x (id BIGINT PRIMARY KEY)`, "namespace"},
		{fault.Unsupported, `CREATE TABLE mysql.x (id BIGINT PRIMARY KEY)`, "system"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY AUTO_INCREMENT)`, "ULID"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, d DECIMAL(10,2))`, "BIGINT"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, d DATETIME)`, "TEXT"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, d TIMESTAMP DEFAULT CURRENT_TIMESTAMP)`, "TEXT"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, d JSON)`, "TEXT"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, d ENUM('a'))`, "CHECK"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, d POINT)`, "use"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, d TEXT COMMENT 'x')`, "COMMENT"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, d TEXT COLLATE utf8mb4_general_ci)`, "LOWER"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, d TEXT CHARACTER SET latin1)`, "UTF-8"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, d BIGINT AS (id + 1))`, "extraction"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, d TEXT DEFAULT (UUID()))`, "literal"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY) ENGINE=InnoDB`, "ENGINE"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY) PARTITION BY HASH(id)`, "partitions"},
		{fault.Unsupported, `CREATE TEMPORARY TABLE s.x (id BIGINT PRIMARY KEY)`, "WITH"},
		{fault.Unsupported, `CREATE TABLE s.x LIKE s.t`, "INSERT INTO"},
		{fault.Unsupported, `CREATE TABLE s.x AS SELECT * FROM s.t`, "INSERT INTO"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, d TEXT, FULLTEXT KEY (d))`, "FULLTEXT"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, d TEXT, KEY (d(10)))`, "whole columns"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, d TEXT, KEY (d DESC))`, "ascending"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, n BIGINT, FOREIGN KEY (n) REFERENCES s.t (id) ON DELETE CASCADE)`, "CASCADE"},
		{fault.Unsupported, `CREATE TABLE s.x (a BIGINT, b BIGINT, PRIMARY KEY (a), FOREIGN KEY (a, b) REFERENCES s.t (id, n))`, "one column"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, CHECK (id > 0) NOT ENFORCED)`, "ENFORCED"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, CHECK (id > RAND()))`, "RAND"},
		{fault.Unsupported, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, CHECK (id IN (SELECT 1)))`, "subquery"},
		{fault.UnknownColumn, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, CHECK (nope > 0))`, "nope"},
		{fault.UnknownColumn, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, KEY (nope))`, "nope"},
		{fault.UnknownColumn, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, n BIGINT, FOREIGN KEY (nope) REFERENCES s.t (id))`, "nope"},
		{fault.UnknownTable, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, n BIGINT, FOREIGN KEY (n) REFERENCES s.nope (id))`, "nope"},
		{fault.TypeMismatch, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, n BIGINT DEFAULT 'x')`, "n"},
		{fault.TypeMismatch, `CREATE TABLE s.x (id BIGINT PRIMARY KEY, n BIGINT UNSIGNED DEFAULT -1)`, "n"},
		{fault.AlreadyExists, `CREATE INDEX dup ON s.t (n)`, "dup"},
		{fault.UnknownColumn, `CREATE INDEX i ON s.t (nope)`, "nope"},
		{fault.Unsupported, `CREATE INDEX i ON s.t (s(3))`, "whole columns"},
		{fault.Unsupported, `CREATE FULLTEXT INDEX i ON s.t (s)`, "FULLTEXT"},
		{fault.NotFound, `DROP INDEX nope ON s.t`, "nope"},
	} {
		if c.code == fault.AlreadyExists && strings.Contains(c.sql, "dup") {
			f.exec(c.sql)
		}
		e := f.refused(c.code, c.sql)
		if !strings.Contains(e.Message, c.says) {
			t.Errorf("%s: the message lacks %q: %s", c.sql, c.says, e.Message)
		}
	}
	cat, err := f.st.catalog(testTenant)
	if err != nil || len(cat.Names()) != 1 {
		t.Errorf("%v %v", cat.Names(), err)
	}
}

func TestIndexBuiltOverRowsIsUsed(t *testing.T) {
	f := shopFixture(t)
	if got := f.json(`CREATE UNIQUE INDEX by_note ON shop.orders (NOTE)`); got != `{"kind":"createindex","schema":"shop.orders","index":"by_note","created":true,"rows_indexed":5}` {
		t.Error(got)
	}
	if p := f.plan(`SELECT * FROM shop.orders WHERE note = 'a'`); !strings.Contains(p, "index: [orders.note]") {
		t.Error(p)
	}
	f.refused(fault.UniqueViolation, `INSERT INTO shop.orders (id, customer, note) VALUES (9, 1, 'a')`)
	f.refused(fault.UniqueViolation, `CREATE UNIQUE INDEX by_c ON shop.orders (customer)`)
	f.exec(`DROP INDEX by_note ON shop.orders`)
	if p := f.plan(`SELECT * FROM shop.orders WHERE note = 'a'`); strings.Contains(p, "IndexedTableAccess") {
		t.Error(p)
	}
}
