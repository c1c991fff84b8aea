package table

import (
	"io"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"
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
	settled(s)
	if got, want := s.pace.Level0(), s.db.Metrics().Levels[0].TablesCount; got != want {
		t.Errorf("the pacer counts %d tables on level 0, Pebble has %d", got, want)
	}
}

// A compaction that an opening begins may end before the opening does: its
// tables are then not on level 0 any more, nor are they to be taken off again.
func TestPacerFollowsLevel0FromTheOpeningOn(t *testing.T) {
	crowded := vfs.NewMem()
	log := logrus.New()
	log.SetOutput(io.Discard)
	db, err := pebble.Open("state", &pebble.Options{
		FS: crowded, DisableWAL: true, L0CompactionThreshold: 100, L0StopWritesThreshold: 100,
		FormatMajorVersion: pebble.FormatValueSeparation, Logger: pebbleLog{log, newGuard(nil)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 * l0CompactionThreshold {
		for i := range 20 {
			if err := db.Set([]byte{areaLogged, byte(i), byte(n)}, make([]byte, 100), pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		fs := vfs.NewMem()
		if _, err := vfs.Clone(crowded, fs, "state", "state"); err != nil {
			t.Fatal(err)
		}
		s := openMemOn(t, fs)
		s.Pace()
		settled(s)
		if got, want := s.pace.Level0(), s.db.Metrics().Levels[0].TablesCount; got != want {
			t.Fatalf("the pacer counts %d tables on level 0, Pebble has %d", got, want)
		}
	}
}

// settled waits until no compaction runs.
func settled(s *Store) {
	for s.db.Metrics().Compact.NumInProgress > 0 {
		<-time.After(100 * time.Microsecond)
	}
}
