package sql

import (
	"strings"
	"sync"
	"testing"

	"originchain/shared/fault"
	"originchain/shared/schema"
)

func checkedTable(t testing.TB, exprs ...string) *schema.Table {
	t.Helper()
	m := &schema.Manifest{Namespace: "s", Table: "t", Version: 1, PrimaryKey: []string{"id"}, Columns: []schema.ColumnDef{
		{Name: "id", Type: schema.TypeI64}, {Name: "qty", Type: schema.TypeU64}, {Name: "price", Type: schema.TypeF64},
		{Name: "name", Type: schema.TypeStr}, {Name: "on_sale", Type: schema.TypeBool}, {Name: "raw", Type: schema.TypeBytes},
	}}
	for i, e := range exprs {
		m.CheckConstraints = append(m.CheckConstraints, schema.Check{Name: string(rune('a' + i)), Expr: e})
	}
	c, err := schema.Compile(m)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func checkedRow() schema.Row {
	return schema.Row{schema.I64(5), schema.U64(1 << 63), schema.F64(2.5), schema.Str("Ada"), schema.Bool(true), schema.Null()}
}

func TestChecks(t *testing.T) {
	for expr, want := range map[string]bool{
		`id > 4 AND price >= 2.5`:               true,
		`id > 5`:                                false,
		`qty = 9223372036854775808`:             true,
		`QTY > 0`:                               true,
		"`name` IN ('Ada', 'Bob')":              true,
		`name = 'ada'`:                          false,
		`LOWER(name) = 'ada'`:                   true,
		`name LIKE 'A%'`:                        true,
		`name LIKE 'B%'`:                        false,
		`CHAR_LENGTH(name) BETWEEN 1 AND 3`:     true,
		`on_sale`:                               true,
		`NOT on_sale OR price < 2`:              false,
		`raw = 'x'`:                             true, // NULL is no violation
		`raw IS NULL`:                           true,
		`raw IS NOT NULL`:                       false,
		`CASE WHEN id > 3 THEN price > 3 END`:   false,
		`price * 2 = 5`:                         true,
		`id % 2 = 1`:                            true,
		`(id = 5)`:                              true,
		`id / 0 > 1`:                            true,
		`REGEXP_LIKE(name, '^A')`:               true,
		`COALESCE(raw, name) <> ''`:             true,
		`IF(id > 1, 'a', 'b') = 'a'`:            true,
		`CAST(name AS CHAR) = 'Ada'`:            true,
		`name REGEXP 'd'`:                       true,
		`id IN (1, 2, 3)`:                       false,
		`price = 2.5 AND name <> 'x' -- always`: true,
	} {
		checks, err := CompileChecks(checkedTable(t, expr))
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if got, err := checks[0](checkedRow()); err != nil || got != want {
			t.Errorf("%s: %v %v, want %v", expr, got, err, want)
		}
	}
}

func TestRefusedChecks(t *testing.T) {
	for expr, want := range map[string]struct {
		code fault.Code
		says string
	}{
		`NOW() > 1`:                {fault.Unsupported, "NOW"},
		`CURRENT_TIMESTAMP > 1`:    {fault.Unsupported, "CURRENT_TIMESTAMP"},
		`CURDATE() > 1`:            {fault.Unsupported, "CURDATE"},
		`UNIX_TIMESTAMP() > 1`:     {fault.Unsupported, "UNIX_TIMESTAMP"},
		`UTC_TIMESTAMP() > 1`:      {fault.Unsupported, "UTC_TIMESTAMP"},
		`RAND() < 1`:               {fault.Unsupported, "RAND"},
		`UUID() <> ''`:             {fault.Unsupported, "UUID"},
		`LENGTH(UUID()) = 36`:      {fault.Unsupported, "UUID"},
		`SLEEP(1) = 0`:             {fault.Unsupported, "SLEEP"},
		`LOAD_FILE('x') = 'x'`:     {fault.Unsupported, "LOAD_FILE"},
		`USER() = 'x'`:             {fault.Unsupported, "USER"},
		`@x = 1`:                   {fault.Unsupported, "variables"},
		`@@version = 1`:            {fault.Unsupported, "variables"},
		`id = (SELECT 1)`:          {fault.Unsupported, "subquery"},
		`EXISTS (SELECT 1)`:        {fault.Unsupported, "subquery"},
		`SUM(id) > 1`:              {fault.Unsupported, "SUM"},
		`COUNT(*) > 1`:             {fault.Unsupported, "aggregate"},
		`ROW_NUMBER() OVER () > 1`: {fault.Unsupported, ""},
		`GROUP_CONCAT(name) = 'x'`: {fault.Unsupported, ""},
		`VALUES(id) > 1`:           {fault.Unsupported, "VALUES"},
		`nope > 1`:                 {fault.UnknownColumn, "nope"},
		`t.id > 1`:                 {fault.ValidationFailed, "without its table"},
		`id > ?`:                   {fault.ValidationFailed, "parameters"},
		`id > :x`:                  {fault.ValidationFailed, "parameters"},
		`1 FROM s.t`:               {fault.ValidationFailed, "one expression"},
		`1, 2`:                     {fault.ValidationFailed, "one expression"},
		`1 AS x`:                   {fault.ValidationFailed, "one expression"},
		`*`:                        {fault.ValidationFailed, "one expression"},
		`1; SELECT 2`:              {fault.Unsupported, "one statement"},
		`1 UNION SELECT 2`:         {fault.ValidationFailed, "one expression"},
		`id >`:                     {fault.ValidationFailed, "syntax"},
		`'abc`:                     {fault.ValidationFailed, "never closed"},
	} {
		_, err := CompileChecks(checkedTable(t, expr))
		if fault.CodeOf(err) != want.code || !strings.Contains(fault.From(err).Message, want.says) || !strings.Contains(fault.From(err).Message, `"a"`) {
			t.Errorf("%s: %v, want %s with %q", expr, err, want.code, want.says)
		}
	}
}

func TestChecksRunConcurrently(t *testing.T) {
	checks, err := NewCompiler().CompileChecks(checkedTable(t, `name LIKE CONCAT(LEFT(name, 1), '%') AND REGEXP_LIKE(name, '^[A-Z]') AND id IN (1, 2, 5)`))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			row := checkedRow()
			for i := range 50 {
				row[0] = schema.I64(int64(4 + (g+i)%2))
				if ok, err := checks[0](row); err != nil || ok != (row[0].AsI64() == 5) {
					t.Errorf("%v %v for %v", ok, err, row[0])
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkCheck(b *testing.B) {
	checks, err := CompileChecks(checkedTable(b, `id > 0 AND price >= 0`))
	if err != nil {
		b.Fatal(err)
	}
	row := checkedRow()
	for b.Loop() {
		if ok, err := checks[0](row); err != nil || !ok {
			b.Fatal(ok, err)
		}
	}
}
