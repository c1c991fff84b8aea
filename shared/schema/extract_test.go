package schema

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/fault"
)

// extractManifest reads from a declared column, doc, and from two keys of the
// body that are not kept.
const extractManifest = `namespace = "n"
table = "e"
primary_key = ["id"]
columns = [{ name = "id", ty = "i64" }, { name = "doc", ty = "str" }]
extractions = [
  { name = "city", path = "doc.address.city", ty = "str" },
  { name = "zip", path = "doc.address.zip", ty = "u64" },
  { name = "sku", path = "items.1.sku", ty = "str" },
  { name = "paid", path = "is_paid", ty = "bool" },
  { name = "raw", path = "items.0.raw", ty = "bytes" },
]
`

func TestExtractions(t *testing.T) {
	tbl := mustTable(t, extractManifest)
	null := Null()
	for _, c := range []struct {
		name, src string
		want      Row
	}{
		{"an object is kept as its text", `{"id":1,"doc":{"address": {"city":"Ulm","zip":89073}}}`,
			Row{I64(1), Str(`{"address": {"city":"Ulm","zip":89073}}`), Str("Ulm"), U64(89073), null, null, null}},
		{"a JSON text is kept as it is", `{"id":1,"doc":" {\"address\":{\"city\":\"\\u00fc\"}} "}`,
			Row{I64(1), Str(` {"address":{"city":"\u00fc"}} `), Str("ü"), null, null, null, null}},
		{"absent and null on the way", `{"id":1,"doc":{"address":null},"items":[{}]}`,
			Row{I64(1), Str(`{"address":null}`), null, null, null, null, null}},
		{"null at the end", `{"id":1,"doc":{"address":{"city":null,"zip":null}}}`,
			Row{I64(1), Str(`{"address":{"city":null,"zip":null}}`), null, null, null, null, null}},
		{"null as root", `{"id":1,"doc":null,"items":null,"is_paid":null}`, Row{I64(1), null, null, null, null, null, null}},
		{"undeclared roots keep only what is extracted", `{"items":[{"raw":"AAE="},{"sku":"a-1","more":[1,{"x":{}}]},7],"id":1,"is_paid":true}`,
			Row{I64(1), null, null, null, Str("a-1"), Bool(true), Bytes([]byte{0, 1})}},
		{"escaped keys", `{"id":1,"doc":{"\u0061ddress":{"c\u0069ty":"x"}}}`,
			Row{I64(1), Str(`{"\u0061ddress":{"c\u0069ty":"x"}}`), Str("x"), null, null, null, null}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := tbl.DecodeJSON([]byte(c.src), nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Fatal(diff)
			}
			// A row can be written back as it was read.
			again, err := tbl.DecodeJSON(tbl.AppendJSON(nil, got), nil)
			if diff := cmp.Diff(got, again); err != nil || diff != "" {
				t.Fatalf("%v %s", err, diff)
			}
			derived := got.Clone()
			derived[2], derived[3] = Str("stale"), null
			if err := tbl.Derive(derived); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, derived); diff != "" {
				t.Fatalf("derived: %s", diff)
			}
		})
	}
}

func TestExtractionsRefuse(t *testing.T) {
	tbl := mustTable(t, extractManifest)
	deep := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	if _, err := tbl.DecodeJSON([]byte(`{"id":1,"items":`+deep(31)+`}`), nil); fault.CodeOf(err) != "" {
		t.Errorf("32 levels: %v", err)
	}
	for _, c := range []struct {
		name, src string
		code      fault.Code
		message   string
	}{
		{"wrong type at the path", `{"id":1,"doc":{"address":{"zip":"89073"}}}`, fault.TypeMismatch,
			`extraction "zip" of table n.e is u64, and the value at path doc.address.zip is a string`},
		{"out of range at the path", `{"id":1,"doc":{"address":{"zip":-1}}}`, fault.TypeMismatch,
			`extraction "zip" of table n.e is u64, and the value at path doc.address.zip -1 is out of range`},
		{"an object at the path", `{"id":1,"doc":{"address":{"city":{}}}}`, fault.TypeMismatch,
			`extraction "city" of table n.e is str, and the value at path doc.address.city is an object`},
		{"a scalar on the way", `{"id":1,"doc":{"address":"Ulm"}}`, fault.TypeMismatch,
			`extraction "city" of table n.e is str, and the value at path doc.address.city is not there: doc.address has no keys`},
		{"an array on the way", `{"id":1,"doc":[]}`, fault.TypeMismatch,
			`extraction "city" of table n.e is str, and the value at path doc.address.city is not there: doc has no keys`},
		{"a number as document", `{"id":1,"doc":5}`, fault.TypeMismatch, `column "doc" of table n.e is str, and its value is a number`},
		{"a text that is not JSON", `{"id":1,"doc":"Ulm"}`, fault.TypeMismatch,
			`the text for column "doc" of table n.e is not JSON, and extractions read it: invalid JSON at byte 0: 'U' where a value is expected`},
		{"a text with more behind", `{"id":1,"doc":"{} {}"}`, fault.TypeMismatch,
			`the text for column "doc" of table n.e is not JSON, and extractions read it: invalid JSON at byte 3: '{' after the end of the value`},
		{"broken JSON in an undeclared root", `{"id":1,"items":[1,]}`, fault.InvalidJSON, "invalid JSON at byte 19: ']' where a value is expected"},
		{"bad escape in an undeclared root", `{"id":1,"items":["\x"]}`, fault.InvalidJSON, `invalid JSON at byte 21: unknown escape \x in the string before`},
		{"a key twice in a document", `{"id":1,"doc":{"a":1,"\u0061":2}}`, fault.InvalidJSON, `invalid JSON at byte 30: key "a" occurs twice in one object`},
		{"a key twice among many", `{"id":1,"items":{"1":1,"2":1,"3":1,"4":1,"5":1,"6":1,"7":1,"8":1,"9":1,"3":2}}`, fault.InvalidJSON, `invalid JSON at byte 75: key "3" occurs twice in one object`},
		{"33 levels", `{"id":1,"items":` + deep(32) + `}`, fault.InvalidJSON, "invalid JSON at byte 171: more than 32 levels of objects and arrays"},
		{"33 levels in a text", `{"id":1,"doc":"` + strings.Repeat("[", 32) + `"}`, fault.TypeMismatch,
			`the text for column "doc" of table n.e is not JSON, and extractions read it: invalid JSON at byte 31: more than 32 levels of objects and arrays`},
		{"another value than the path's", `{"id":1,"city":"Bonn","doc":{"address":{"city":"Ulm"}}}`, fault.ValidationFailed,
			`column "city" of table n.e is read from path doc.address.city, and the row gives another value for it; leave it out or make both the same`},
		{"a value where the path has none", `{"id":1,"city":"Bonn"}`, fault.ValidationFailed,
			`column "city" of table n.e is read from path doc.address.city, and the row gives another value for it; leave it out or make both the same`},
		{"null where the path has a value", `{"id":1,"sku":null,"items":[{},{"sku":"x"}]}`, fault.ValidationFailed,
			`column "sku" of table n.e is read from path items.1.sku, and the row gives another value for it; leave it out or make both the same`},
		{"a wrong type by name", `{"id":1,"zip":"x"}`, fault.TypeMismatch, `column "zip" of table n.e is u64, and its value is a string`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := tbl.DecodeJSON([]byte(c.src), nil)
			wantFault(t, err, c.code, c.message)
		})
	}
}

func TestDefaultDocumentIsExtractedFrom(t *testing.T) {
	tbl := mustTable(t, `namespace = "n"
table = "e"
primary_key = ["id"]
columns = [{ name = "id", ty = "i64" }, { name = "doc", ty = "str", default = '{"k":"from the default"}' }]
extractions = [{ name = "k", path = "doc.k", ty = "str" }]
`)
	got, err := tbl.DecodeJSON([]byte(`{"id":1}`), nil)
	if err != nil || got[2] != Str("from the default") {
		t.Fatalf("%v %v", got, err)
	}
}

func TestExtractedPrimaryKeyIsRequired(t *testing.T) {
	tbl := mustTable(t, `namespace = "n"
table = "e"
primary_key = ["id"]
extractions = [{ name = "id", path = "meta.id", ty = "str" }]
`)
	got, err := tbl.DecodeJSON([]byte(`{"meta":{"id":"a"}}`), nil)
	if err != nil || got[0] != Str("a") {
		t.Fatalf("%v %v", got, err)
	}
	_, err = tbl.DecodeJSON([]byte(`{"meta":{}}`), nil)
	wantFault(t, err, fault.MissingColumn, `table n.e requires column "id"; give it a value`)
}

func TestDeriveRefuses(t *testing.T) {
	tbl := mustTable(t, extractManifest)
	row := make(Row, len(tbl.Columns))
	row[0], row[1] = I64(1), Str("not JSON")
	wantFault(t, tbl.Derive(row), fault.TypeMismatch, `the text for column "doc" of table n.e is not JSON, and extractions read it: invalid JSON at byte 0: 'n' where a value is expected`)
}
