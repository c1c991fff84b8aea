package main

import (
	"strconv"

	"originchain/scripts/demo/data"
	"originchain/shared/schema"
)

// tableID is the table of all benchmarks but the reads.
const tableID = "bench.flights"

// plainManifest has a primary key and no other index; indexedManifest has one more.
const (
	plainManifest = `namespace = "bench"
table = "flights"
primary_key = ["id"]

[[columns]]
name = "id"
ty = "i64"
required = true

[[columns]]
name = "date"
ty = "str"
required = true

[[columns]]
name = "delay"
ty = "i64"
required = true

[[columns]]
name = "distance"
ty = "i64"
required = true

[[columns]]
name = "origin"
ty = "str"
required = true

[[columns]]
name = "destination"
ty = "str"
required = true
`
	indexedManifest = plainManifest + `
[[indexes]]
name = "by_origin"
columns = ["origin"]
`
)

// flightRow is a flight as a row of tableID, under a fresh id.
func flightRow(f *data.Flight, id int64) schema.Row {
	return schema.Row{
		schema.I64(id), schema.Str(f.Date), schema.I64(f.Delay), schema.I64(f.Distance),
		schema.Str(f.Origin), schema.Str(f.Destination),
	}
}

// flightLines are the flights as NDJSON lines behind the value of their id.
func flightLines(flights []data.Flight) [][]byte {
	lines := make([][]byte, len(flights))
	for i := range flights {
		f := &flights[i]
		b := append([]byte(nil), `,"date":"`...)
		b = append(b, f.Date...)
		b = append(b, `","delay":`...)
		b = strconv.AppendInt(b, f.Delay, 10)
		b = append(b, `,"distance":`...)
		b = strconv.AppendInt(b, f.Distance, 10)
		b = append(b, `,"origin":"`...)
		b = append(b, f.Origin...)
		b = append(b, `","destination":"`...)
		b = append(b, f.Destination...)
		lines[i] = append(b, "\"}\n"...)
	}
	return lines
}
