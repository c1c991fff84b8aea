package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/objecttest"
)

// stampsOf reads the stamps of all frames in the archive.
func stampsOf(t testing.TB, store object.Store, s *Survey) map[lsn.Pos]int64 {
	t.Helper()
	a, out := New(store), make(map[lsn.Pos]int64)
	read := func(p Piece) {
		f := openPiece(t, a, p)
		defer func() { must(t, f.Close()) }()
		for {
			fr, err := f.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			must(t, err)
			out[lsn.Pos{Epoch: fr.Epoch, LSN: fr.LSN}] = fr.Timestamp
		}
	}
	for i := range s.Segments {
		read(Piece{Segment: &s.Segments[i].Key})
	}
	for i := range s.Parts {
		read(Piece{Part: &s.Parts[i].Key})
	}
	return out
}

// reachable reports whether the state after a frame of a line can be restored.
func reachable(t testing.TB, a *Archive, l *Line, at lsn.LSN) bool {
	t.Helper()
	r := l.RangeOf(at)
	if r != nil && r.From == 1 {
		return true
	}
	for i := range l.Checkpoints {
		c := &l.Checkpoints[i]
		if c.LSN != at && (r == nil || c.LSN > at || r.From > c.LSN+1) {
			continue
		}
		m, err := a.Manifest(t.Context(), c.Key())
		must(t, err)
		if a.Complete(t.Context(), &m) == nil {
			return true
		}
	}
	return false
}

// inWindow lists the frames that a restore to some moment from until on may end with:
// those stamped later, and the last one before, on each line that has any of the later.
func inWindow(t testing.TB, store object.Store, until int64) (s *Survey, out map[lsn.Epoch][]lsn.LSN) {
	t.Helper()
	a := New(store)
	s, err := a.Survey(t.Context())
	must(t, err)
	if len(s.Faults) > 0 {
		t.Fatal(s.Faults)
	}
	stamps := stampsOf(t, store, s)
	out = make(map[lsn.Epoch][]lsn.LSN)
	for i := range s.Epochs {
		epoch := s.Epochs[i].Epoch
		l, _ := s.Line(epoch)
		var before lsn.LSN
		var later []lsn.LSN
		for _, r := range l.Ranges {
			for _, p := range r.Pieces {
				for at := p.From; at <= p.To; at++ {
					if stamps[lsn.Pos{Epoch: p.epoch(), LSN: at}] <= until {
						before = at
					} else {
						later = append(later, at)
					}
				}
			}
		}
		if before > 0 && (len(later) > 0 || epoch == s.Newest()) {
			later = append(later, before)
		}
		for _, at := range later {
			if reachable(t, a, &l, at) {
				out[epoch] = append(out[epoch], at)
			}
		}
	}
	return s, out
}

// TestRetentionKeepsEveryPointOfTheWindow: over days a writer makes checkpoints, is
// restarted and superseded, with and without frames that its heir does not have.
// Whatever could be restored before a retention, from the window on, still can after it.
func TestRetentionKeepsEveryPointOfTheWindow(t *testing.T) {
	removed := Retained{}
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 4))
				store := object.NewMemory("a")
				n := newNode(t, seed).open(1)
				s := n.shipper(store, func(c *Config) { c.Tail = true })
				stop := started(t, s)
				for range 40 {
					n.write(1 + rng.IntN(6))
					time.Sleep(time.Duration(rng.IntN(7200)) * time.Second)
					switch rng.IntN(6) {
					case 0:
						n.roll()
					case 1:
						_, err := n.checkpoint(s, map[string]string{"1.sst": fmt.Sprint(rng.IntN(4)), "2.sst": fmt.Sprint(rng.IntN(4))})
						must(t, err)
					case 2:
						lost := lsn.LSN(rng.IntN(3))
						time.Sleep(time.Minute)
						must(t, stop())
						heir := n.copyTo(fmt.Sprint("node-", n.epoch), n.log.Durable()-min(lost, n.log.Durable()-1))
						must(t, n.log.Close())
						n = heir.open(n.epoch + 1)
						s = n.shipper(store, func(c *Config) { c.Tail = true })
						stop = started(t, s)
					case 3:
						until := time.Now().Add(-time.Duration(rng.IntN(24)) * time.Hour)
						_, before := inWindow(t, store, until.UnixMicro())
						dry, err := New(store).Retain(t.Context(), Retention{Until: until, DryRun: true})
						must(t, err)
						got, err := New(store).Retain(t.Context(), Retention{Until: until})
						must(t, err)
						if got.Boundary = 0; fmt.Sprint(dry) != fmt.Sprint(got) {
							t.Errorf("the dry run said\n%+v, then came\n%+v", dry, got)
						}
						removed.Segments = append(removed.Segments, got.Segments...)
						removed.Parts = append(removed.Parts, got.Parts...)
						removed.Checkpoints = append(removed.Checkpoints, got.Checkpoints...)
						removed.Files = append(removed.Files, got.Files...)
						stillReachable(t, store, before)
					}
				}
				must(t, stop())
				must(t, n.log.Close())
			})
		})
	}
	if len(removed.Segments) == 0 || len(removed.Parts) == 0 || len(removed.Checkpoints) == 0 || len(removed.Files) == 0 {
		t.Errorf("removed %d segments, %d parts, %d checkpoints, %d files: nothing was tested", len(removed.Segments), len(removed.Parts), len(removed.Checkpoints), len(removed.Files))
	}
}

func stillReachable(t *testing.T, store object.Store, before map[lsn.Epoch][]lsn.LSN) {
	t.Helper()
	a := New(store)
	s, err := a.Survey(context.WithoutCancel(t.Context()))
	must(t, err)
	for epoch, list := range before {
		l, _ := s.Line(epoch)
		for _, at := range list {
			if !reachable(t, a, &l, at) {
				t.Fatalf("LSN %d on the line of epoch %d could be restored before the retention, and cannot now", at, epoch)
			}
		}
	}
}

// A boundary that retention has removed is not kept in memory either: one an hour adds
// up in a process that runs for a year.
func TestABoundaryThatIsGoneIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, n, _ := swept(t)
		a := New(store)
		s := n.shipper(store)
		stop := started(t, s)
		for range 3 {
			n.write(2)
			n.roll()
			_, err := n.checkpoint(s, map[string]string{"1.sst": fmt.Sprint(n.log.Durable())})
			must(t, err)
			time.Sleep(boundaryMemory + time.Hour)
			out, err := a.Retain(t.Context(), Retention{Until: time.Now()})
			must(t, err)
			if out.Boundary == 0 {
				t.Fatal("no boundary was raised: nothing was tested")
			}
		}
		_, err := a.newestBoundary(t.Context())
		must(t, err)
		if there, kept := len(objects(t, store, boundaryPrefix)), len(a.known.read); kept > there {
			t.Errorf("%d are kept of %d", kept, there)
		}
		must(t, stop())
		must(t, n.log.Close())
	})
}

// Every start of a writer makes an epoch. A month of segments with many of them is
// decided on by what each epoch leaves, not by putting every line together.
func TestEpochsThatLeaveNothingOfTheirOwnCostNothing(t *testing.T) {
	decide := func(epochs lsn.Epoch) float64 {
		s, at := &Survey{}, lsn.LSN(1)
		for e := lsn.Epoch(1); e <= epochs; e++ {
			s.Epochs = append(s.Epochs, Epoch{Epoch: e, Parent: e - 1, FirstLSN: at})
			for range 2000 / epochs {
				s.Segments = append(s.Segments, Sized[SegmentKey]{Key: SegmentKey{Epoch: e, First: at, Last: at + 9}})
				at += 10
			}
		}
		return testing.AllocsPerRun(1, func() {
			k := keeping{survey: s, until: 1}
			must(t, k.decide(t.Context()))
			if len(k.lines) != 1 {
				t.Errorf("%d lines", len(k.lines))
			}
		})
	}
	if one, many := decide(1), decide(100); many > 4*one {
		t.Errorf("%.0f allocations with one epoch, %.0f with a hundred", one, many)
	}
}

// elsewhere is a store whose clock is not this machine's.
type elsewhere struct {
	object.Store
	off time.Duration
}

func (e elsewhere) Now(ctx context.Context) (time.Time, error) {
	now, err := e.Store.Now(ctx)
	return now.Add(e.off), err
}

// TestRetentionTrustsNoClockAlone: a machine that was started with a wrong date removes
// nothing, a bit of difference counts for keeping, and a store that does not say what
// time it is has nothing removed.
func TestRetentionTrustsNoClockAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := object.NewMemory("a")
		n := newNode(t, 1).open(1)
		s := n.shipper(store)
		stop := started(t, s)
		var made []time.Time
		for range 3 {
			n.write(10)
			n.roll()
			made = append(made, time.Now())
			time.Sleep(time.Hour)
			if _, err := n.checkpoint(s, map[string]string{"a.sst": "a"}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		must(t, stop())
		all := objects(t, store, "")
		for _, off := range []time.Duration{-40 * 24 * time.Hour, -maxClocksApart - 2*time.Second, maxClocksApart + 2*time.Second, 40 * 24 * time.Hour} {
			var wrong *ClockError
			if _, err := New(elsewhere{store, off}).Retain(t.Context(), Retention{Until: time.Now()}); !errors.As(err, &wrong) || wrong.Ours.Add(off) != wrong.Theirs {
				t.Errorf("the store's clock is off by %s: %v", off, err)
			}
		}
		// What the caller goes by is behind: the machine slept for a week, or was started
		// with a date long gone and has been set since. That keeps more, and is no quarrel.
		slow := func() time.Time { return time.Now().Add(-7 * 24 * time.Hour) }
		if _, err := New(store).Retain(t.Context(), Retention{Until: slow().Add(-time.Hour), Now: slow, Wall: time.Now, DryRun: true}); err != nil {
			t.Errorf("the machine slept: %v", err)
		}
		var wrong *ClockError
		if _, err := New(elsewhere{store, 7 * 24 * time.Hour}).Retain(t.Context(), Retention{Until: slow(), Now: slow, Wall: time.Now}); !errors.As(err, &wrong) || wrong.Ours != time.Now() {
			t.Errorf("the machine slept, and its clock is wrong: %v", err)
		}
		silent := objecttest.NewFaulty(store, 1)
		silent.SetHook(objecttest.Hook{Before: func(_ context.Context, c objecttest.Call) error {
			if c.Op == "now" {
				return objecttest.ErrInternal
			}
			return nil
		}})
		if _, err := New(silent).Retain(t.Context(), Retention{Until: time.Now()}); !errors.Is(err, objecttest.ErrInternal) {
			t.Errorf("no time is told: %v", err)
		}
		if got := objects(t, store, ""); len(got) != len(all) {
			t.Fatalf("%d of %d objects are left", len(got), len(all))
		}
		// By our clock the second checkpoint is old enough, by the store's it is not.
		until := made[1].Add(time.Minute)
		for off, want := range map[time.Duration]int{-2 * time.Minute: 0, 2 * time.Minute: 1, 0: 1} {
			out, err := New(elsewhere{store, off}).Retain(t.Context(), Retention{Until: until, DryRun: true})
			if err != nil || len(out.Checkpoints) != want {
				t.Errorf("the store's clock is off by %s: %d checkpoints go, want %d: %v", off, len(out.Checkpoints), want, err)
			}
		}
		_, err := New(store).Retain(t.Context(), Retention{Until: until, Now: slow, Wall: time.Now})
		must(t, err)
		if b, err := New(store).newestBoundary(t.Context()); err != nil || b == nil || !b.Time.Equal(time.Now()) {
			t.Errorf("the boundary of a machine that slept is %+v, %v; it is %s", b, err, time.Now())
		}
		must(t, n.log.Close())
	})
}
