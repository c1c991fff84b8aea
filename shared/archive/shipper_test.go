package archive

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus/hooks/test"

	"originchain/shared/object"
	"originchain/shared/wal"
)

func TestSealedSegmentsAreShippedAndComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := object.NewMemory("a")
		n := newNode(t, 1).open(1)
		s := n.shipper(store)
		stop := running(t, s)
		n.write(100)
		n.roll()
		time.Sleep(time.Second)
		last := n.log.Tail().Pos.LSN
		if s.ShippedLSN() != last {
			t.Fatalf("shipped up to %d of %d: %+v", s.ShippedLSN(), last, s.Status())
		}
		st := s.Status()
		if st.UnshippedBytes != 0 || st.UnshippedSeconds != 0 || st.RPOSeconds != 0 || st.LastError != "" || !st.Connected {
			t.Errorf("%+v", st)
		}
		n.write(3)
		must(t, stop())
		n.holds(store, 1, last)
		must(t, n.log.Close())
	})
}

func TestTheTailIsShippedEveryWindowAndNothingWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := object.NewMemory("a")
		n := newNode(t, 2)
		n.segs = 1 << 20
		n.open(1)
		s := n.shipper(store, func(c *Config) { c.Tail = true })
		stop := running(t, s)
		time.Sleep(2 * time.Second)
		for range 4 {
			n.write(3)
			time.Sleep(600 * time.Millisecond)
			if st := s.Status(); st.RecoverableLSN != uint64(n.log.Durable()) || st.RPOSeconds != 0 {
				t.Fatalf("%+v, durable %d", st, n.log.Durable())
			}
		}
		before := len(objects(t, store, ""))
		time.Sleep(time.Hour)
		if after := len(objects(t, store, "")); after != before {
			t.Errorf("%d objects were uploaded while nothing was written", after-before)
		}
		s.PauseTail()
		n.write(5)
		time.Sleep(10 * time.Second)
		if st := s.Status(); st.RecoverableLSN == uint64(n.log.Durable()) || st.Tail != TailPaused || st.RPOSeconds < 9 {
			t.Errorf("paused: %+v", st)
		}
		s.ResumeTail()
		time.Sleep(time.Second)
		if st := s.Status(); st.RecoverableLSN != uint64(n.log.Durable()) || st.Tail != TailRunning {
			t.Errorf("resumed: %+v", st)
		}
		must(t, stop())
		parts := objects(t, store, tailPrefix)
		if len(parts) < 5 {
			t.Errorf("parts %q: nothing was tested", parts)
		}
		for _, name := range parts { // each by itself, also where the line takes a segment
			k, err := ParseKey(name)
			must(t, err)
			must(t, readAll(t, New(store), k, testInstance))
		}
		n.holds(store, 1, n.log.Durable())
		must(t, n.log.Close())
	})
}

func TestAnotherRegionIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := object.NewMemory("a")
		n := newNode(t, 3).open(1)
		stop := running(t, n.shipper(store))
		time.Sleep(time.Second)
		must(t, stop())
		elsewhere := func(c *Config) { c.Region = "ap-south-1" }
		var region *RegionError
		if err := n.shipper(store, elsewhere).Run(t.Context()); !errors.As(err, &region) || region.Theirs != "eu-central-1" || region.Ours != "ap-south-1" {
			t.Errorf("another region: %v", err)
		}
		allowed := n.shipper(store, elsewhere, func(c *Config) { c.AllowCrossRegion = true })
		stop = running(t, allowed)
		time.Sleep(time.Second)
		must(t, stop())
		if !allowed.Status().Connected {
			t.Error("allowed by name, and refused")
		}
		var foreign *ForeignError
		if err := n.shipper(store, func(c *Config) { c.Instance[3]++ }).Run(t.Context()); !errors.As(err, &foreign) {
			t.Errorf("another instance: %v", err)
		}
		must(t, n.log.Close())
	})
}

func TestKeysHaveTheirPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := object.NewMemory("a")
		n := newNode(t, 4).open(7)
		n.write(40)
		n.roll()
		s := n.shipper(store, func(c *Config) { c.Tail = true })
		stop := running(t, s)
		time.Sleep(time.Second)
		n.write(1)
		time.Sleep(time.Second)
		must(t, stop())
		for _, key := range objects(t, store, "") {
			if k, err := ParseKey(key); err != nil || k.String() != key {
				t.Errorf("%s: %v", key, err)
			}
		}
		all := strings.Join(objects(t, store, ""), "\n")
		for _, part := range []string{"instance.json", "epochs/0000000000000007.json", "log/0000000000000007/0000000000000001-", ".seg.zst", "tail/0000000000000007/"} {
			if !strings.Contains(all, part) {
				t.Errorf("no %s in\n%s", part, all)
			}
		}
		must(t, n.log.Close())
	})
}

// TestAShipperWaitsForItsEpochAndNotForTheArchive: while the log has no frame of the
// epoch nothing is wrong with the archive, nor said to be; and a log that is closed
// before it has one ends the wait.
func TestAShipperWaitsForItsEpochAndNotForTheArchive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := object.NewMemory("a")
		begin := func(n *node) (*Shipper, *test.Hook, func() error) {
			l, err := wal.Open(n.options())
			must(t, err)
			must(t, l.BeginEpoch(1))
			n.log, n.epoch = l, 1
			log, hook := logged()
			s, err := NewShipper(n.config(), Deps{Store: store, Log: l, FS: n.fs, Logger: log})
			must(t, err)
			return s, hook, running(t, s)
		}
		n := newNode(t, 1)
		s, hook, stop := begin(n)
		time.Sleep(10 * time.Minute)
		if st := s.Status(); st.Connected || !strings.Contains(st.LastError, "before epoch 1 has a frame") || strings.Contains(st.LastError, "answer") {
			t.Errorf("while it waits: %+v", st)
		}
		if e := hook.LastEntry(); e != nil {
			t.Errorf("it complains: %s %v", e.Message, e.Data)
		}
		n.write(1)
		time.Sleep(time.Second)
		if st := s.Status(); !st.Connected || st.LastError != "" {
			t.Errorf("once the frame is there: %+v", st)
		}
		must(t, stop())
		must(t, n.log.Close())

		n = newNode(t, 2)
		s, _, stop = begin(n)
		time.Sleep(time.Minute)
		must(t, n.log.Close())
		synctest.Wait() // for ever, if anything spins
		if st := s.Status(); !strings.Contains(st.LastError, wal.ErrClosed.Error()) {
			t.Errorf("the log is closed: %+v", st)
		}
		if err := stop(); !errors.Is(err, wal.ErrClosed) {
			t.Errorf("it ended with %v", err)
		}
	})
}
