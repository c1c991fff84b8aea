package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/rows"
	"originchain/shared/schema"
)

const plainManifest = `
namespace = "shop"
table = "items"
primary_key = ["id"]
[[columns]]
name = "id"
ty = "i64"
[[columns]]
name = "name"
ty = "str"
`

// BenchmarkCommit is single-row inserts by closed-loop clients on the real disk.
// One operation is one commit; ratio is commits/s over clients / mean fsync.
func BenchmarkCommit(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) { benchmarkCommit(b, clients) })
	}
}

func benchmarkCommit(b *testing.B, clients int) {
	var syncs, syncTime atomic.Int64
	deps := testDeps(vfs.Default)
	deps.ObserveSync = func(d time.Duration) { syncs.Add(1); syncTime.Add(int64(d)) }
	e, err := Open(context.Background(), Config{DataDir: b.TempDir() + "/data"}, deps)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	if _, _, err := e.CreateTable(ctx, tenant, []byte(plainManifest)); err != nil {
		b.Fatal(err)
	}
	cat, err := e.Catalog(tenant)
	if err != nil {
		b.Fatal(err)
	}
	tbl, err := cat.Table("shop.items")
	if err != nil {
		b.Fatal(err)
	}
	syncs.Store(0)
	syncTime.Store(0)
	var next atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	start := time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for {
				id := next.Add(1)
				if id > int64(b.N) {
					return
				}
				p, err := rows.Prepare(tbl, schema.Row{schema.I64(id), schema.Str("a name that is not very long")}, nil)
				if err != nil {
					b.Error(err)
					return
				}
				if _, err := e.Commit(ctx, Proposal{Tenant: tenant, Build: func(w *rows.Builder) error {
					_, err := w.Put(p, rows.Absent())
					return err
				}}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	took := time.Since(start)
	mean := float64(syncTime.Load()) / float64(syncs.Load())
	perSecond := float64(b.N) / took.Seconds()
	b.ReportMetric(perSecond, "commits/s")
	b.ReportMetric(mean/1e3, "mean-fsync-µs")
	b.ReportMetric(perSecond/(float64(clients)/(mean/1e9)), "ratio")
	b.ReportMetric(float64(syncs.Load())/float64(b.N), "fsyncs/op")
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
}
