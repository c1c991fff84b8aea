package simdisk

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

// quiet is Pebble's logger in tests; a fatal error is a panic.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

func openPebble(t *testing.T, d *Disk) *pebble.DB {
	t.Helper()
	db, err := pebble.Open("/state", &pebble.Options{
		FS: d, DisableWAL: true, Logger: quiet{}, FormatMajorVersion: pebble.FormatNewest,
		DisableAutomaticCompactions: true,
	})
	must(t, err)
	return db
}

// count returns how many of the keys 0 to n-1 are there; they must be the first.
func count(t *testing.T, db *pebble.DB, n int) int {
	t.Helper()
	found, gap := 0, false
	for i := range n {
		v, closer, err := db.Get(fmt.Appendf(nil, "key%06d", i))
		if errors.Is(err, pebble.ErrNotFound) {
			gap = true
			continue
		}
		must(t, err)
		if gap || string(v) != fmt.Sprint("value", i) {
			t.Fatalf("key %d is %q after a gap: %v", i, v, gap)
		}
		found++
		must(t, closer.Close())
	}
	return found
}

// TestPebbleKeepsWhatItFlushed runs Pebble without its WAL: what was flushed is
// there after every crash, what was not is gone with the memory.
func TestPebbleKeepsWhatItFlushed(t *testing.T) {
	d := New()
	db := openPebble(t, d)
	flushed, crashes := 0, 0
	for i := range 400 {
		must(t, db.Set(fmt.Appendf(nil, "key%06d", i), []byte(fmt.Sprint("value", i)), pebble.NoSync))
		if i%50 == 49 {
			must(t, db.Flush())
			flushed = i + 1
		}
		if i%10 != 5 {
			continue
		}
		opts := []CrashOption{AnyNames}[:i/10%2]
		after := openPebble(t, d.CrashClone(seeded(uint64(i)), opts...))
		if got := count(t, after, 400); got != flushed {
			t.Fatalf("after key %d: %d keys, %d were flushed", i, got, flushed)
		}
		must(t, after.Close())
		crashes++
	}
	must(t, db.Close())
	if crashes != 40 || flushed != 400 {
		t.Fatalf("%d crashes, %d flushed", crashes, flushed)
	}
}

// TestPebbleCrashAtEveryCall loses power before every call of flushes and of a
// compaction, in one run.
func TestPebbleCrashAtEveryCall(t *testing.T) {
	const keys = 60
	type crash struct {
		image              *Disk
		flushed, beingDone int64
	}
	var flushed, started atomic.Int64
	var crashes []crash
	d := New()
	d.OnCall(func(_ int, _ Call, freeze func() *Disk) {
		crashes = append(crashes, crash{freeze(), flushed.Load(), started.Load()})
	})
	db := openPebble(t, d)
	for i := range keys {
		must(t, db.Set(fmt.Appendf(nil, "key%06d", i), []byte(fmt.Sprint("value", i)), pebble.NoSync))
		if i%10 == 9 {
			started.Store(int64(i + 1))
			must(t, db.Flush())
			flushed.Store(int64(i + 1))
		}
	}
	must(t, db.Compact(t.Context(), []byte("key"), []byte("kez"), false))
	must(t, db.Close())
	if len(crashes) != d.CallCount() || len(crashes) < 50 {
		t.Fatalf("%d crash points in %d calls", len(crashes), d.CallCount())
	}
	for n, c := range crashes {
		for seed := range uint64(3) {
			after := openPebble(t, c.image.CrashClone(seeded(seed)))
			if got := int64(count(t, after, keys)); got < c.flushed || got > c.beingDone {
				t.Fatalf("crash before call %v, seed %d: %d keys, %d were flushed and %d begun",
					d.Calls()[n], seed, got, c.flushed, c.beingDone)
			}
			must(t, after.Close())
		}
	}
}
