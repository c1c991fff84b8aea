package archive

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/object"
	"originchain/shared/objecttest"
)

// refusing is a store that takes nothing below a prefix.
func refusing(store *objecttest.Faulty, prefix string) {
	store.SetHook(objecttest.Hook{Before: func(_ context.Context, c objecttest.Call) error {
		if c.Op == "put" && strings.HasPrefix(c.Keys[0], prefix) {
			return objecttest.ErrInternal
		}
		return nil
	}})
}

// What has waited for an archive that was away is as old as it is when the archive is
// opened, and when the node was started again.
func TestAnAgeSurvivesOpeningAndRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := objecttest.NewFaulty(object.NewMemory("a"), 1)
		store.SetAway(true)
		refusing(store, logPrefix)
		n := newNode(t, 1).open(1)
		n.write(30)
		n.roll()
		s := n.shipper(store)
		stop := running(t, s)
		time.Sleep(time.Hour)
		store.SetAway(false)
		time.Sleep(time.Minute)
		st := s.Status()
		if !st.Connected || st.UnshippedSeconds < 3600 || st.RPOSeconds < 3600 {
			t.Errorf("opened after an hour: %+v", st)
		}
		must(t, stop())
		s = n.shipper(store)
		stop = started(t, s)
		if st := s.Status(); st.UnshippedSeconds < 3600 || st.UnshippedSeconds > 4000 || st.RPOSeconds < 3600 {
			t.Errorf("started again: %+v", st)
		}
		store.SetHook(objecttest.Hook{})
		time.Sleep(time.Minute)
		if st := s.Status(); st.UnshippedSeconds != 0 || st.RPOSeconds != 0 {
			t.Errorf("shipped: %+v", st)
		}
		must(t, stop())
		must(t, n.log.Close())
	})
}

// A checkpoint is as old as the state in it, however long its upload took.
func TestACheckpointIsAsOldAsItsState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := objecttest.NewFaulty(object.NewMemory("a"), 1)
		n := newNode(t, 1).open(1)
		s := n.shipper(store)
		stop := started(t, s)
		n.write(3)
		refusing(store, objectPrefix)
		done := make(chan error, 1)
		go func() {
			_, err := n.checkpoint(s, map[string]string{"1.sst": "one"})
			done <- err
		}()
		time.Sleep(time.Hour)
		store.SetHook(objecttest.Hook{})
		must(t, <-done)
		if st := s.Status(); st.CheckpointLSN == 0 || st.CheckpointSeconds < 3600 {
			t.Errorf("of an hour ago: %+v", st)
		}
		must(t, stop())
		s = n.shipper(store)
		stop = started(t, s)
		if st := s.Status(); st.CheckpointLSN == 0 || st.CheckpointSeconds < 3600 {
			t.Errorf("started again: %+v", st)
		}
		must(t, stop())
		must(t, n.log.Close())
	})
}
