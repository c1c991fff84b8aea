package schema

import "testing"

const flightManifest = `
namespace = "air"
table = "flights"
primary_key = ["id"]
columns = [
  { name = "id", ty = "i64" },
  { name = "date", ty = "str" },
  { name = "delay", ty = "i64" },
  { name = "distance", ty = "i64" },
  { name = "origin", ty = "str" },
  { name = "destination", ty = "str" },
]
[[indexes]]
name = "by_origin"
columns = ["origin"]
`

const flightJSON = `{"id":1,"date":"2001/01/01 00:47","delay":66,"distance":1750,"origin":"DTW","destination":"LAS"}`

// BenchmarkFlightRow is the ingest path of one row: JSON to row, row to bytes,
// primary key and index columns to tuple keys.
func BenchmarkFlightRow(b *testing.B) {
	t := mustTable(b, flightManifest)
	src := []byte(flightJSON)
	row, err := t.DecodeJSON(src, nil)
	if err != nil {
		b.Fatal(err)
	}
	stored := AppendRow(nil, t, row)
	var key, answer []byte
	b.Run("step=decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if row, err = t.DecodeJSON(src, row); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("step=all", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if row, err = t.DecodeJSON(src, row); err != nil {
				b.Fatal(err)
			}
			stored = AppendRow(stored[:0], t, row)
			key = AppendKey(key[:0], row[0])
			key = AppendKey(key, row[4])
		}
	})
	b.Run("step=stored", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if row, err = DecodeRow(t, stored, row); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("step=answer", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			answer = t.AppendJSON(answer[:0], row)
		}
	})
}
