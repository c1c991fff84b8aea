package archive

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/objecttest"
	"originchain/shared/wal"
)

// claims is what a directory keeps.
type claims []string

// ask is a node's request for an epoch, as an opening makes it.
func (n *node) ask(kept *claims) Allotment {
	o := Allotment{Line: n.log.Epochs(), At: n.log.Tail(), AtLeast: n.log.Tail().Pos.Epoch, Claims: slices.Clone(*kept)}
	o.Note = func(nonces []string) error { *kept = slices.Clone(nonces); return nil }
	return o
}

// cut is the line and the end of a copy of the log up to an LSN.
func (n *node) cut(upTo lsn.LSN) ([]wal.EpochStart, wal.Tail) {
	n.t.Helper()
	l, err := wal.Open(n.copyTo("copy", upTo).options())
	must(n.t, err)
	defer func() { must(n.t, l.Close()) }()
	return l.Epochs(), l.Tail()
}

func (n *node) claimant() Claimant {
	return Claimant{Instance: testInstance, Node: n.name, Region: "eu-central-1"}
}

// TestWhoGetsAnEpoch: the newest epoch must be the log's own history.
func TestWhoGetsAnEpoch(t *testing.T) {
	begun := func(t *testing.T) (*node, object.Store) {
		t.Helper()
		store, n := object.NewMemory("a"), newNode(t, 1).open(1)
		n.write(20)
		stop := started(t, n.shipper(store, func(c *Config) { c.Tail = true }))
		time.Sleep(time.Minute)
		must(t, stop())
		return n, store
	}
	// other has taken an epoch behind an LSN of the log.
	other := func(t *testing.T, store object.Store, n *node, at lsn.LSN, epoch lsn.Epoch) {
		t.Helper()
		chain, _, err := n.log.ChainAt(at)
		must(t, err)
		c := claim{a: New(store), who: Claimant{Instance: testInstance, Node: "other"}}
		d := c.epochOf(wal.EpochStart{Epoch: epoch, Parent: 1, First: at + 1, PrevChain: chain}, "0123456789abcdef0123456789abcdef")
		if taken, err := c.a.putDocument(t.Context(), EpochKey{epoch}, &d); taken || err != nil {
			t.Fatal(taken, err)
		}
	}
	for _, c := range []struct {
		name string
		do   func(t *testing.T, n *node, store object.Store, o *Allotment)
		// want is the epoch, 0 for a fence, and -1 for a log that lacks frames.
		want int
	}{
		{"its own is the newest", func(*testing.T, *node, object.Store, *Allotment) {}, 2},
		{"another's begins within the log", func(t *testing.T, n *node, s object.Store, _ *Allotment) { other(t, s, n, 10, 2) }, 0},
		{"another's begins where the log ends", func(t *testing.T, n *node, s object.Store, _ *Allotment) { other(t, s, n, 21, 2) }, 0},
		{"an operator has ended it", func(t *testing.T, n *node, s object.Store, o *Allotment) { other(t, s, n, 10, 2); o.Ended = 2 }, 3},
		{"an operator has ended the one before", func(t *testing.T, n *node, s object.Store, o *Allotment) { other(t, s, n, 10, 3); o.Ended = 2 }, 0},
		{"a local number above it is no history", func(t *testing.T, n *node, s object.Store, o *Allotment) { other(t, s, n, 10, 2); o.AtLeast = 9 }, 0},
		{"epochs that the archive never saw are none of its history", func(t *testing.T, n *node, s object.Store, o *Allotment) {
			other(t, s, n, 10, 2)
			must(t, n.log.BeginEpoch(3))
			n.write(1)
			o.Line, o.At = n.log.Epochs(), n.log.Tail()
		}, 0},
		{"the log goes on in epochs that the archive does not know", func(t *testing.T, n *node, _ object.Store, o *Allotment) {
			must(t, n.log.BeginEpoch(4))
			n.write(1)
			o.Line, o.At = n.log.Epochs(), n.log.Tail()
		}, 5},
		{"it took the newest, and was killed", func(t *testing.T, n *node, s object.Store, o *Allotment) {
			other(t, s, n, 21, 2)
			o.Claims = []string{"0123456789abcdef0123456789abcdef"}
		}, 3},
		{"another life of it went on in the newest", func(t *testing.T, n *node, s object.Store, o *Allotment) {
			other(t, s, n, 21, 2)
			o.Claims = []string{"0123456789abcdef0123456789abcdef"}
			must(t, s.Put(t.Context(), SegmentKey{Epoch: 2, First: 22, Last: 23}.String(), object.Bytes([]byte("x"))))
		}, 0},
		{"another's has a segment, and its object is gone", func(t *testing.T, _ *node, s object.Store, _ *Allotment) {
			must(t, s.Put(t.Context(), SegmentKey{Epoch: 2, First: 22, Last: 23}.String(), object.Bytes([]byte("x"))))
		}, 0},
		{"another's has a part, and its object is gone", func(t *testing.T, _ *node, s object.Store, _ *Allotment) {
			must(t, s.Put(t.Context(), PartKey{Epoch: 3, Segment: 22, From: 22, To: 23}.String(), object.Bytes([]byte("x"))))
		}, 0},
		{"another's has a segment beside what is nobody's, and its object is gone", func(t *testing.T, _ *node, s object.Store, _ *Allotment) {
			must(t, s.Put(t.Context(), "log/0000000000000002/-note", object.Bytes([]byte("x"))))
			must(t, s.Put(t.Context(), SegmentKey{Epoch: 2, First: 22, Last: 23}.String(), object.Bytes([]byte("x"))))
		}, 0},
		{"another's whose object is gone was ended", func(t *testing.T, _ *node, s object.Store, o *Allotment) {
			must(t, s.Put(t.Context(), SegmentKey{Epoch: 2, First: 22, Last: 23}.String(), object.Bytes([]byte("x"))))
			o.Ended = 2
		}, 3},
		{"the log has lost its end", func(t *testing.T, n *node, s object.Store, o *Allotment) {
			o.Line, o.At = n.cut(12)
		}, -1},
		{"the log has lost its end, which an operator gave up", func(t *testing.T, n *node, s object.Store, o *Allotment) {
			o.Line, o.At = n.cut(12)
			o.Ended = 1
		}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, store := begun(t)
				var kept claims
				o := n.ask(&kept)
				c.do(t, n, store, &o)
				before := objects(t, store, epochPrefix)
				got, err := AllotEpoch(t.Context(), store, n.claimant(), o)
				var fenced *FencedError
				var behind *BehindError
				switch {
				case c.want > 0 && (err != nil || got != lsn.Epoch(c.want)):
					t.Errorf("epoch %d, want %d: %v", got, c.want, err)
				case c.want == 0 && strings.Contains(c.name, "object is gone"):
					if !errors.As(err, &fenced) || fenced.Epoch < 2 {
						t.Errorf("epoch %d: %v", got, err)
					}
				case c.want == 0 && (!errors.As(err, &fenced) || fenced.Node != "other" || !strings.Contains(err.Error(), "node other")):
					t.Errorf("epoch %d: %v", got, err)
				case c.want < 0 && (!errors.As(err, &behind) || behind.Has != 21 || behind.Last != (lsn.Pos{Epoch: 1, LSN: 12})):
					t.Errorf("epoch %d: %v", got, err)
				}
				if after := objects(t, store, epochPrefix); c.want <= 0 && (!Permanent(err) || !slices.Equal(before, after) || kept != nil) {
					t.Errorf("refused, and left %q of %q, noted %q", after, before, kept)
				}
				must(t, n.log.Close())
			})
		})
	}
}

// TestAClaimOutlivesEveryKill: at no call to the store or the directory does a node
// that is killed lose what tells it from others.
func TestAClaimOutlivesEveryKill(t *testing.T) {
	for kill := 1; ; kill++ {
		ended := false
		synctest.Test(t, func(t *testing.T) {
			memory := object.NewMemory("a")
			n := newNode(t, 1).open(1)
			n.write(3)
			var kept claims
			// Two lives that are killed before a call and after it, the epochs taken or not.
			for life := range 4 {
				store, calls := objecttest.NewFaulty(memory, 1), 0
				ctx, killed := context.WithCancel(t.Context())
				step := func(before bool) error {
					if before == (life%2 == 0) {
						calls++
					}
					if calls >= kill {
						killed()
						return ctx.Err()
					}
					return nil
				}
				store.SetHook(objecttest.Hook{
					Before: func(context.Context, objecttest.Call) error { return step(true) },
					After: func(_ context.Context, _ objecttest.Call, err error) error {
						if killed := step(false); killed != nil {
							return killed
						}
						return err
					},
				})
				o := n.ask(&kept)
				note := o.Note
				o.Note = func(nonces []string) error {
					if err := step(true); err != nil {
						return err
					}
					return errors.Join(note(nonces), step(false))
				}
				_, err := AllotEpoch(ctx, store, n.claimant(), o)
				ended = err == nil
				killed()
			}
			epoch, err := AllotEpoch(t.Context(), memory, n.claimant(), n.ask(&kept))
			if highest, _ := New(memory).HighestEpoch(t.Context()); err != nil || epoch != highest {
				t.Errorf("killed at call %d: epoch %d of %d: %v", kill, epoch, highest, err)
			}
			must(t, n.log.Close())
		})
		if ended {
			return
		}
		if kill > 100 {
			t.Fatal("no life came to its end")
		}
	}
}

// TestAnArchiveThatHangsIsToldOfWhileAnEpochIsAskedFor: a call that does not return is given up, told of and
// made again, and what was found out stays.
func TestAnArchiveThatHangsIsToldOfWhileAnEpochIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := objecttest.NewFaulty(object.NewMemory("a"), 1)
		n := newNode(t, 1).open(1)
		hangs := 2
		store.SetHook(objecttest.Hook{Before: func(ctx context.Context, c objecttest.Call) error {
			if c.Op == "list" && hangs > 0 {
				hangs--
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}})
		var kept claims
		var told []error
		o := n.ask(&kept)
		o.Trouble = func(err error) { told = append(told, err) }
		began := time.Now()
		epoch, err := AllotEpoch(t.Context(), store, n.claimant(), o)
		if err != nil || epoch != 2 || len(told) != 2 || !errors.Is(told[0], context.DeadlineExceeded) {
			t.Errorf("epoch %d: %v; told %v", epoch, err, told)
		}
		if took := time.Since(began); took > 3*allotTimeout {
			t.Errorf("it took %s", took)
		}
		must(t, n.log.Close())
	})
}
