package writer

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/api"
)

const flightsManifest = `
namespace = "air"
table = "flights"
primary_key = ["id"]

[[columns]]
name = "id"
ty = "u64"
required = true

[[columns]]
name = "date"
ty = "str"

[[columns]]
name = "delay"
ty = "i64"

[[columns]]
name = "distance"
ty = "i64"

[[columns]]
name = "origin"
ty = "str"

[[columns]]
name = "destination"
ty = "str"

[[indexes]]
name = "by_origin"
columns = ["origin"]
`

// onDisk puts a node on the machine's own disk.
func onDisk(t testing.TB) option {
	dir := t.TempDir()
	return func(c *Config, d *Deps) {
		c.Engine.DataDir, d.FS, d.NoPreallocate = dir+"/data", vfs.Default, false
	}
}

// flightRows makes n rows of the shape of the flights data, as NDJSON.
func flightRows(from, n int) []byte {
	airports := []string{"ATL", "ORD", "DFW", "LAX", "PHX", "DEN", "DTW", "IAH", "MSP", "SFO", "STL", "EWR", "LAS", "CLT", "PHL", "LGA", "BOS", "SEA", "PIT", "SLC"}
	var b bytes.Buffer
	for i := from; i < from+n; i++ {
		fmt.Fprintf(&b, `{"id":%d,"date":"2001/%02d/%02d %02d:%02d","delay":%d,"distance":%d,"origin":"%s","destination":"%s"}`+"\n",
			i, 1+i/100_000%12, 1+i%28, i%24, i%60, i%120-20, 100+i%2500, airports[i*7%len(airports)], airports[i*13%len(airports)])
	}
	return b.Bytes()
}

// BenchmarkBatch loads flights over one secondary index; rows/s is the figure.
func BenchmarkBatch(b *testing.B) {
	n := start(b, onDisk(b))
	n.register(flightsManifest)
	const rows = 100_000
	loaded := 0
	for b.Loop() {
		b.StopTimer()
		body := bytes.NewReader(flightRows(loaded, rows))
		b.StartTimer()
		n.do(context.Background(), n.token, "POST", "/v1/tenants/"+n.tenant+"/rows/air.flights/_batch", body).want(200)
		loaded += rows
	}
	b.ReportMetric(float64(loaded)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkPostRow is one row per request through handler and engine, without a
// network. Many at once share fsyncs, so the time per operation is mostly CPU.
func BenchmarkPostRow(b *testing.B) {
	for _, index := range []bool{false, true} {
		b.Run("index="+strconv.FormatBool(index), func(b *testing.B) {
			n := start(b, onDisk(b))
			manifest := flightsManifest
			if !index {
				manifest, _, _ = strings.Cut(manifest, "[[indexes]]")
			}
			n.register(manifest)
			rows := bytes.Split(flightRows(0, 10_000), []byte("\n"))
			path := "/v1/tenants/" + n.tenant + "/rows/air.flights"
			h := n.w.Handler()
			var next atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return
						}
						r := httptest.NewRequest("POST", path, bytes.NewReader(rows[i%10_000]))
						r.Header.Set(api.HeaderAuthorization, "Bearer "+n.token)
						rec := httptest.NewRecorder()
						h.ServeHTTP(rec, r)
						if rec.Code != 200 {
							b.Error(rec.Body.String())
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
