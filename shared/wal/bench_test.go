package wal

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"originchain/shared/frame"
	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// benchEntries makes n frames of one put with random values, outside the clock.
func benchEntries(n, size int, from lsn.LSN) []Entry {
	rng := rand.NewChaCha8([32]byte{5})
	var digest lsn.Digest
	entries := make([]Entry, n)
	for i := range entries {
		value := make([]byte, size)
		_, _ = rng.Read(value)
		op := frame.Op{Type: frame.Put, Key: fmt.Appendf(nil, "bench/key/%012d", i), Value: value}
		digest = digest.Add(op.Delta())
		entries[i] = Entry{Kind: frame.KindData, LSN: from + lsn.LSN(i), Timestamp: 1, Digest: digest, Body: frame.AppendOps(nil, []frame.Op{op})}
	}
	return entries
}

// BenchmarkCommit is one closed-loop writer: append 4 KiB, fdatasync. It shows
// what zeroing ahead is worth on the machine it runs on.
func BenchmarkCommit(b *testing.B) {
	for _, zeroed := range []bool{false, true} {
		b.Run(fmt.Sprintf("size=4k/zeroed=%t", zeroed), func(b *testing.B) {
			o := testOptions(vfs.Default, b.TempDir())
			o.SegmentBytes, o.NoPreallocate = 16<<20, !zeroed
			var syncs []time.Duration
			o.SyncObserver = func(d time.Duration) { syncs = append(syncs, d) }
			l := mustOpen(b, o)
			must(b, l.BeginEpoch(1))
			entries := benchEntries(256, 4096-200, 1)
			next := lsn.LSN(1)
			one := func() {
				e := entries[int(next)%len(entries)]
				e.LSN = next
				must(b, l.Append([]Entry{e}))
				next++
			}
			for len(l.Segments()) < 2 { // the first one is zeroed in part only
				one()
			}
			commit(b, l, nil)
			syncs = syncs[:0]
			for b.Loop() {
				one()
				must(b, l.Sync())
			}
			slices.Sort(syncs)
			b.ReportMetric(float64(syncs[len(syncs)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(syncs[len(syncs)*99/100].Microseconds()), "p99-µs")
			must(b, l.Close())
		})
	}
}

// BenchmarkAppend is the appender's own work: one group of small frames, no fsync.
func BenchmarkAppend(b *testing.B) {
	o := testOptions(vfs.Default, b.TempDir())
	o.SegmentBytes, o.SegmentMaxAge = 1<<40, time.Hour
	l := mustOpen(b, o)
	must(b, l.BeginEpoch(1))
	group := benchEntries(64, 250, 1)
	b.ReportAllocs()
	for b.Loop() {
		from := l.Tail().Pos.LSN
		for i := range group {
			group[i].LSN, group[i].ready = from+1+lsn.LSN(i), false
		}
		must(b, l.Append(group))
	}
	b.ReportMetric(float64(l.Tail().Pos.LSN)/b.Elapsed().Seconds(), "frames/s")
	must(b, l.Close())
}

// BenchmarkRead is one reader over cached segments, all checks included.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{250, 4000, 60_000} {
		b.Run(fmt.Sprintf("value=%d", size), func(b *testing.B) {
			o := testOptions(vfs.Default, b.TempDir())
			o.SegmentBytes = DefaultSegmentBytes
			l := mustOpen(b, o)
			must(b, l.BeginEpoch(1))
			commit(b, l, benchEntries((64<<20)/(size+160), size, 1))
			var bytes int64
			for _, s := range l.Segments() {
				bytes += s.Bytes
			}
			b.SetBytes(bytes)
			b.ReportAllocs()
			for b.Loop() {
				r, err := l.NewReader(1)
				must(b, err)
				for {
					if _, err := r.Next(); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
				must(b, r.Close())
			}
			must(b, l.Close())
		})
	}
}
