package pacing

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
func writing(t *testing.T, p *Pacer, c vfs.DiskWriteCategory) time.Duration {
	t.Helper()
	f := p.File(slowFile{}, c)
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
		memory = 16 << 20
		level0 = 8
		full   = 10 * time.Millisecond
		// Before each write but the first there is a rest of three milliseconds.
		rested = full + 9*3*time.Millisecond
	)
	for name, c := range map[string]struct {
		set      func(*Pacer)
		category vfs.DiskWriteCategory
		want     time.Duration
	}{
		"nothing is behind":     {func(*Pacer) {}, table, rested},
		"while it opens":        {func(p *Pacer) { p.Stop() }, table, full},
		"somebody waits for it": {func(p *Pacer) { p.Hurry() }, table, full},
		"the memtable fills up": {func(p *Pacer) { p.Applied(memory + 1) }, table, full},
		"nobody waits any more": {func(p *Pacer) { p.Hurry()() }, table, rested},
		"level 0 piles up":      {func(p *Pacer) { p.level0.Store(level0) }, table, full},
		"the manifest":          {func(*Pacer) {}, "pebble-manifest", full},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := New(memory, level0)
				p.Start(0)
				c.set(p)
				if got := writing(t, p, c.category); got != c.want {
					t.Errorf("ten writes took %s, want %s", got, c.want)
				}
			})
		})
	}
}

// A compaction that ends while its tables are counted is counted once.
func TestTablesThatGoMeanwhileAreNotTakenOffTwice(t *testing.T) {
	var l pebble.EventListener
	p := New(1, 1)
	p.Listen(&l)
	there := int64(12)
	compact := func() {
		l.CompactionEnd(pebble.CompactionInfo{Input: []pebble.LevelInfo{{Level: 0, Tables: make([]pebble.TableInfo, 4)}}, Output: pebble.LevelInfo{Level: 6}})
		there -= 4
	}
	compact() // before the first count
	counts := 0
	p.Start(p.Untold(func() int64 {
		if counts++; counts == 1 {
			compact()
		}
		return there
	}))
	if got := p.Level0(); got != there {
		t.Errorf("%d tables, want %d", got, there)
	}
}
