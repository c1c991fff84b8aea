package archive

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"originchain/shared/object"
	"originchain/shared/objecttest"
)

// silent is a store in which puts below a prefix are never answered, from the nth
// of a key up to some number of them.
func silent(store *objecttest.Faulty, prefix string, upTo int) {
	store.SetHook(objecttest.Hook{Before: func(ctx context.Context, c objecttest.Call) error {
		if c.Op != "put" || !strings.HasPrefix(c.Keys[0], prefix) || c.Nth > upTo {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}})
}

// An archive that hangs shows as soon as one that fails does.
func TestAnArchiveThatHangsIsToldOf(t *testing.T) {
	for _, prefix := range []string{tailPrefix, logPrefix} {
		t.Run(prefix, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := objecttest.NewFaulty(object.NewMemory("a"), 1)
				silent(store, prefix, 1<<30)
				n := newNode(t, 1).open(1)
				s := n.shipper(store, func(c *Config) { c.Tail = true })
				stop := started(t, s)
				time.Sleep(time.Minute)
				n.write(3)
				if prefix == logPrefix {
					n.roll()
				}
				time.Sleep(10 * time.Second)
				if st := s.Status(); st.LastError == "" || prefix == tailPrefix && st.Tail != TailWaiting {
					t.Errorf("after 10 s without an answer: %+v", st)
				}
				must(t, stop())
				must(t, n.log.Close())
			})
		})
	}
}

// What one upload meets is told until that one is through, however many others are.
func TestAnUploadThatFailsIsNotHiddenByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := objecttest.NewFaulty(object.NewMemory("a"), 1)
		n := newNode(t, 1)
		n.segs = 1 << 20
		n.open(1)
		first := ""
		store.SetHook(objecttest.Hook{Before: func(_ context.Context, c objecttest.Call) error {
			if c.Op == "put" && strings.HasPrefix(c.Keys[0], tailPrefix) && (first == "" || first == c.Keys[0]) {
				first = c.Keys[0]
				return objecttest.ErrInternal
			}
			return nil
		}})
		s := n.shipper(store, func(c *Config) { c.Tail = true })
		stop := started(t, s)
		time.Sleep(2 * time.Second)
		for range 50 {
			n.write(1)
			time.Sleep(time.Second)
			if st := s.Status(); st.LastError == "" || st.Tail != TailWaiting {
				t.Fatalf("LSN 1 is not there, and nothing is said of it: %+v", st)
			}
		}
		must(t, stop())
		must(t, n.log.Close())
	})
}

// An upload that is never answered is sent again long before the minute is over that
// a slow one has.
func TestAPartThatIsNotAnsweredIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := objecttest.NewFaulty(object.NewMemory("a"), 1)
		n := newNode(t, 1)
		n.segs = 1 << 20
		n.open(1)
		silent(store, tailPrefix, 1)
		s := n.shipper(store, func(c *Config) { c.Tail = true })
		stop := started(t, s)
		n.write(1)
		time.Sleep(10 * time.Second)
		if st := s.Status(); st.RecoverableLSN != uint64(n.log.Durable()) {
			t.Errorf("after 10 s: %+v", st)
		}
		must(t, stop())
		must(t, n.log.Close())
	})
}

// An attempt that ran out of time has more of it the next time: what a slow store
// needs longer for comes to its end.
func TestASlowArchiveIsOpenedAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := objecttest.NewFaulty(object.NewMemory("a"), 1)
		n := newNode(t, 1).open(1)
		store.SetHook(objecttest.Hook{Before: func(ctx context.Context, _ objecttest.Call) error { return sleep(ctx, 30*time.Second) }})
		s := n.shipper(store)
		stop := running(t, s)
		time.Sleep(time.Hour)
		if st := s.Status(); !st.Connected {
			t.Errorf("after an hour: %+v", st)
		}
		must(t, stop())
		must(t, n.log.Close())
	})
}

// logged keeps what a shipper logs.
func logged() (*logrus.Logger, *test.Hook) {
	l, hook := test.NewNullLogger()
	return l, hook
}

// A shipper that has given up says so, and one that is stopped while the archive is away
// does not say that it works again.
func TestTheEndOfAShipperIsToldAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := objecttest.NewFaulty(object.NewMemory("a"), 1)
		n := newNode(t, 1).open(1)
		log, hook := logged()
		shipper := func() *Shipper {
			cfg := n.config()
			cfg.Tail = true
			s, err := NewShipper(cfg, Deps{Store: store, Log: n.log, FS: n.fs, Logger: log})
			must(t, err)
			return s
		}
		store.SetAway(true)
		stop := running(t, shipper())
		time.Sleep(time.Minute)
		must(t, stop())
		if hook.LastEntry() == nil || hook.LastEntry().Level != logrus.ErrorLevel {
			t.Errorf("stopped while it is away: %v", hook.LastEntry())
		}
		store.SetAway(false)
		n.roll()
		s := shipper()
		who := Claimant{Instance: n.config().Instance, Node: "other", Region: n.config().Region}
		if _, err := AllotEpoch(t.Context(), store, who, Allotment{AtLeast: 7}); err != nil {
			t.Fatal(err)
		}
		if err := s.Run(t.Context()); !errors.As(err, new(*FencedError)) {
			t.Fatalf("it shipped on under a higher epoch: %v", err)
		}
		if st := s.Status(); st.LastError == "" || st.Tail != TailWaiting {
			t.Errorf("nothing is shipped any more: %+v", st)
		}
		must(t, n.log.Close())
	})
}
