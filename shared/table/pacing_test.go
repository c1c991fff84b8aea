package table

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

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
		if s.pace.SinceFlush() == 0 {
			t.Fatal("what was applied is not counted")
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		if n := s.pace.SinceFlush(); n != 0 {
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
	if got, want := s.pace.Level0(), m.Levels[0].TablesCount; got != want {
		t.Errorf("the pacer counts %d tables on level 0, Pebble has %d", got, want)
	}
}
