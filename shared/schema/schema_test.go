package schema

import "testing"

func mustTable(t testing.TB, manifest string) *Table {
	t.Helper()
	m, err := ParseManifest([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	tbl, err := Compile(m)
	if err != nil {
		t.Fatal(err)
	}
	return tbl
}
