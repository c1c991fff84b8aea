package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// An accepted manifest has a canonical text that means the same, and compiles.
func FuzzManifest(f *testing.F) {
	files, err := filepath.Glob("testdata/manifests/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	for _, src := range []string{typesManifest, extractManifest, defaultsManifest, flightManifest, head + idColumn + "x.y.z = {a = [{b = 1}]}", "[[a]]\n[a.b]\n[[a.b.c]]"} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		m, err := ParseManifest(src)
		if err != nil {
			return
		}
		again, err := ParseManifest(m.TOML())
		if err != nil {
			t.Fatalf("canonical text refused: %v\n%s", err, m.TOML())
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Fatal(diff)
		}
		if !bytes.Equal(m.TOML(), again.TOML()) {
			t.Fatal("the canonical text is not stable")
		}
		if _, err := Compile(m); err != nil {
			t.Fatal(err)
		}
	})
}

// A decoded key encodes to the bytes it came from: one tuple, one key.
func FuzzDecodeKey(f *testing.F) {
	for _, v := range samples() {
		f.Add(AppendKey(AppendKey(nil, v), I64(1)), uint8(v.Type()), uint8(TypeI64))
	}
	f.Fuzz(func(t *testing.T, src []byte, a, b uint8) {
		vs, rest, err := DecodeKeyPrefix(src, []Type{Type(a), Type(b)}, nil)
		if err != nil {
			return
		}
		var key []byte
		for _, v := range vs {
			key = AppendKey(key, v)
		}
		if !bytes.Equal(append(key, rest...), src) {
			t.Fatalf("%x decodes to %v, which encodes to %x", src, vs, key)
		}
	})
}

// A decoded row encodes to the bytes it came from, and its projections agree.
func FuzzDecodeRow(f *testing.F) {
	tbl := mustTable(f, typesManifest)
	f.Add(AppendRow(nil, tbl, Row{I64(-1), Str("hé"), Null(), U64(300), F64(1.5), Bool(true), Bytes([]byte{0}), Str(""), Null()}), uint16(5))
	f.Add(AppendRow(nil, tbl, make(Row, 9)), uint16(0))
	f.Add([]byte{0, 0, 0x80, 0}, uint16(511))
	f.Fuzz(func(t *testing.T, src []byte, mask uint16) {
		want := make([]bool, 9)
		for i := range want {
			want[i] = mask>>i&1 != 0
		}
		some, someErr := DecodeColumns(tbl, src, want, nil)
		row, err := DecodeRow(tbl, src, nil)
		if err != nil {
			return
		}
		if got := AppendRow(nil, tbl, row); !bytes.Equal(got, src) {
			t.Fatalf("%x decodes to %v, which encodes to %x", src, row, got)
		}
		if someErr != nil {
			t.Fatal(someErr)
		}
		for i := range want {
			if want[i] && some[i] != row[i] {
				t.Fatalf("column %d: %v in the projection, %v in the row", i, some[i], row[i])
			}
		}
	})
}

// What DecodeJSON accepts is JSON to encoding/json too, passes Check, and comes
// back the same through the stored bytes and through the answer's JSON.
func FuzzDecodeJSON(f *testing.F) {
	for _, src := range []string{
		`{"id":1}`, `{"id":1,"s":"\"\\\/\b\f\n\r\t\u0000\u00fc\ud83d\ude00","x":"AAEC/w=="}`, `{"id":-1.50e2,"u":18446744073709551615,"f":1e-7,"b":true}`,
		`{"id":1,"doc":{"address":{"city":"Ulm","zip":89073}}}`, `{"id":1,"doc":"{\"address\":null}","items":[{"raw":"AAE="},{"sku":"x"}],"is_paid":false}`,
		`{"id":1,"id":2}`, `{"id":1e999999999999}`, `{"doc":[[[[[[[[[[`, `{"s":"\ud800"}`, flightJSON,
	} {
		f.Add([]byte(src))
	}
	tables := []*Table{mustTable(f, typesManifest), mustTable(f, extractManifest), mustTable(f, flightManifest)}
	f.Fuzz(func(t *testing.T, src []byte) {
		for _, tbl := range tables {
			row, err := tbl.DecodeJSON(src, nil)
			if err != nil {
				continue
			}
			if !json.Valid(src) {
				t.Fatalf("%q is not JSON", src)
			}
			if err := tbl.Check(row); err != nil {
				t.Fatal(err)
			}
			stored, err := DecodeRow(tbl, AppendRow(nil, tbl, row), nil)
			if diff := cmp.Diff(row, stored); err != nil || diff != "" {
				t.Fatalf("%v %s", err, diff)
			}
			answer := tbl.AppendJSON(nil, row)
			again, err := tbl.DecodeJSON(answer, nil)
			if diff := cmp.Diff(row, again); err != nil || diff != "" {
				t.Fatalf("%s: %v %s", answer, err, diff)
			}
		}
	})
}

// Rows do not depend on how the body is cut into reads, and an array the reader
// accepts whose rows are JSON is JSON itself.
func FuzzRowReader(f *testing.F) {
	for _, src := range []string{"[]", `[{"a":"}"},{}]`, "{}\n{}\n", `[{"a":"\\"}, {`, "[{}]x", "x\ny", "[{},]"} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		whole, last, err := readAll(NewRowReader(bytes.NewReader(src)))
		single, lastSingle, errSingle := readAll(NewRowReader(iotest.OneByteReader(bytes.NewReader(src))))
		if diff := cmp.Diff(whole, single); diff != "" || last != lastSingle || err.Error() != errSingle.Error() {
			t.Fatalf("%d %v, byte by byte %d %v: %s", last, err, lastSingle, errSingle, diff)
		}
		if !errors.Is(err, io.EOF) || !bytes.HasPrefix(bytes.TrimLeft(src, " \t\r\n"), []byte("[")) {
			return
		}
		for _, row := range whole {
			_, text, _ := bytes.Cut([]byte(row), []byte(":"))
			if !json.Valid(text) {
				return
			}
		}
		if !json.Valid(src) {
			t.Fatalf("%q is not JSON", src)
		}
	})
}
