package table

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// slowFile takes a millisecond for each write.
type slowFile struct{ vfs.File }

func (slowFile) Write(b []byte) (int, error) {
	<-time.After(time.Millisecond)
	return len(b), nil
}

// writing says how long ten writes of a millisecond each take.
func writing(t *testing.T, p *pacer, c vfs.DiskWriteCategory) time.Duration {
	t.Helper()
	f := p.file(slowFile{}, c)
	start := time.Now()
	for range 10 {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(start)
}

func TestBackgroundWorkRestsUnlessItIsBehind(t *testing.T) {
	const (
		table  = vfs.DiskWriteCategory("pebble-compaction")
		memory = 32 << 20
		full   = 10 * time.Millisecond
		// Before each write but the first there is a rest of three milliseconds.
		rested = full + 9*3*time.Millisecond
	)
	for name, c := range map[string]struct {
		set      func(*pacer)
		category vfs.DiskWriteCategory
		want     time.Duration
	}{
		"nothing is behind":       {func(*pacer) {}, table, rested},
		"while it opens":          {func(p *pacer) { p.on.Store(false) }, table, full},
		"somebody waits for it":   {func(p *pacer) { p.hurry.Add(1) }, table, full},
		"the memtable fills up":   {func(p *pacer) { p.sinceFlush.Store(memory/2 + 1) }, table, full},
		"level 0 piles up":        {func(p *pacer) { p.level0.Store(hurryLevel0) }, table, full},
		"a file of the catalogue": {func(*pacer) {}, vfs.WriteCategoryUnspecified, full},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pacer{memtable: memory}
				p.on.Store(true)
				c.set(p)
				if got := writing(t, p, c.category); got != c.want {
					t.Errorf("ten writes took %s, want %s", got, c.want)
				}
			})
		})
	}
}

// What the pacer believes of level 0 must be what Pebble has there.
func TestPacerFollowsLevel0(t *testing.T) {
	s := openMem(t)
	s.Pace()
	for n := range 40 {
		b := s.NewBatch()
		for i := range 20 {
			if err := b.b.Set([]byte{areaLogged, byte(i), byte(n)}, make([]byte, 100), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Commit(Applied{}); err != nil {
			t.Fatal(err)
		}
		if s.pace.sinceFlush.Load() == 0 {
			t.Fatal("what was applied is not counted")
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		if n := s.pace.sinceFlush.Load(); n != 0 {
			t.Fatalf("%d bytes since a flush that has just been", n)
		}
	}
	// Compact waits for its own compactions and for none that run beside it.
	if err := s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	var m *pebble.Metrics
	for m = s.db.Metrics(); m.Compact.NumInProgress > 0; m = s.db.Metrics() {
		<-time.After(time.Millisecond)
	}
	if got, want := s.pace.level0.Load(), m.Levels[0].TablesCount; got != want {
		t.Errorf("the pacer counts %d tables on level 0, Pebble has %d", got, want)
	}
}
