package wal

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// copyBytes is the log that is copied; copyChunk what is sent and synced at once.
const (
	copyBytes = 256 << 20
	copyChunk = 1 << 20
)

// plainDisk writes copyBytes to one file, an fdatasync every copyChunk, and
// returns bytes per second: what any copy that is as safe could reach.
func plainDisk(b *testing.B) float64 {
	f, err := openFile(vfs.Default, filepath.Join(b.TempDir(), "plain"))
	must(b, err)
	chunk := make([]byte, copyChunk)
	_, _ = rand.Read(chunk)
	start := time.Now()
	for at := int64(0); at < copyBytes; at += copyChunk {
		_, err := f.WriteAt(chunk, at)
		must(b, err)
		must(b, f.SyncData())
	}
	took := time.Since(start)
	must(b, f.Close())
	return copyBytes / took.Seconds()
}

// BenchmarkCopy is a follower that catches up: leader's tail, Copy, Sync.
func BenchmarkCopy(b *testing.B) {
	for _, size := range []int{250, 4000} {
		b.Run(fmt.Sprintf("value=%d", size), func(b *testing.B) {
			o := testOptions(vfs.Default, b.TempDir())
			o.SegmentBytes, o.SegmentMaxAge = DefaultSegmentBytes, time.Hour
			leader := mustOpen(b, o)
			must(b, leader.BeginEpoch(1))
			commit(b, leader, benchEntries(copyBytes/(size+168), size, 1))
			disk := plainDisk(b)
			b.SetBytes(copyBytes)
			for b.Loop() {
				copyAll(b, leader)
			}
			b.ReportMetric((disk+plainDisk(b))/2e6, "disk-MB/s")
			must(b, leader.Close())
		})
	}
}

// copyAll makes a copy of the leader's log.
func copyAll(b *testing.B, leader *Log) {
	o := testOptions(vfs.Default, b.TempDir())
	o.SegmentBytes, o.NoPreallocate = DefaultSegmentBytes, false
	f := mustOpen(b, o)
	r := mustChunks(b, leader, 1)
	for {
		c, ok, err := r.Next(copyChunk)
		must(b, err)
		if !ok {
			break
		}
		must(b, f.Copy(c))
		must(b, f.Sync())
	}
	if f.Durable() != leader.Durable() {
		b.Fatalf("copied up to LSN %d of %d", f.Durable(), leader.Durable())
	}
	must(b, r.Close())
	must(b, f.Close())
}
