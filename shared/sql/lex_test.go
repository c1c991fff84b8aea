package sql

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLex(t *testing.T) {
	for _, c := range []struct {
		in, out string
		names   []string
	}{
		{`SELECT ?, ?`, `SELECT :p1, :p2`, []string{"1", "2"}},
		{`SELECT $2, $1, $2`, `SELECT :p1, :p2, :p1`, []string{"2", "1"}},
		{`SELECT :a, :b_2, :a`, `SELECT :p1, :p2, :p1`, []string{"a", "b_2"}},
		{"SELECT '?', \"?\", `?`, '''?', '\\'?', '\\\\', ?", "SELECT '?', \"?\", `?`, '''?', '\\'?', '\\\\', :p1", []string{"1"}},
		{"SELECT 1 -- ?\n, ? # :x\n /* $1 ? */", "SELECT 1 -- ?\n, :p1 # :x\n /* $1 ? */", []string{"1"}},
		{`SELECT a--?`, `SELECT a--:p1`, []string{"1"}},
		{`SELECT a$1, b`, `SELECT a$1, b`, nil},
		{"SELECT `a``?`, ?;  -- end\n;", "SELECT `a``?`, :p1", []string{"1"}},
		{`SELECT '日?' , :日`, `SELECT '日?' , :p1`, []string{"日"}},
	} {
		l, err := lex(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if l.text != c.out || !cmp.Equal(l.names, c.names) {
			t.Errorf("%s: got %s %v, want %s %v", c.in, l.text, l.names, c.out, c.names)
		}
	}
}

// FuzzStatement holds every text to an answer or a fault.
func FuzzStatement(f *testing.F) {
	for _, seed := range []string{
		`SELECT ? FROM a.b WHERE c = 'd' -- e`, `INSERT INTO a.b VALUES (1, :x) ON DUPLICATE KEY UPDATE c = VALUES(c)`, "SELECT `a", `/*!50000 SELECT 1 */`,
		`WITH RECURSIVE n AS (SELECT 1) SELECT * FROM n`, `CREATE TABLE a.b (c BIGINT PRIMARY KEY, CHECK (c > 0))`, `DELETE FROM a.b LIMIT $1`, `SELECT 1;;`, `((((`, `EXPLAIN SELECT 1`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, src string) {
		l, err := lex(src)
		if err != nil {
			return
		}
		if stmt, err := parse(l.text); err == nil && stmt == nil {
			t.Errorf("%q: neither a statement nor an error", src)
		}
	})
}

func TestStringsAreJSON(t *testing.T) {
	for in, want := range map[string]string{
		"":                    `""`,
		"a\"b\\c":             `"a\"b\\c"`,
		"\n\r\t\x00\x1f\x7f":  "\"\\n\\r\\t\\u0000\\u001f\x7f\"",
		"日本 \U0001F600":       "\"日本 \U0001F600\"",
		"a\xffb\xc3":          "\"a\ufffdb\ufffd\"",
		"</script>\u2028done": "\"</script>\u2028done\"",
	} {
		if got := string(appendString(nil, in)); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestTextAfter(t *testing.T) {
	for in, want := range map[string]string{"a": "b", "az": "a{", "a\U0010FFFF": "b", "\uD7FF": "\uE000", "é": "ê"} {
		if got, ok := textAfter(in); !ok || got != want {
			t.Errorf("%q: got %q %v, want %q", in, got, ok, want)
		}
	}
	if got, ok := textAfter("\U0010FFFF\U0010FFFF"); ok {
		t.Errorf("got %q", got)
	}
}
