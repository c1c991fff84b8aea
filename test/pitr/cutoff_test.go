package pitr

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"originchain/lambdas/pitrverify"
	"originchain/shared/archive"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
)

// holed is the archive of w without what holds one frame, and without the checkpoints
// from there on: what stands behind cannot be reached.
func holed(t testing.TB, w *Workload, at lsn.Pos) object.Store {
	t.Helper()
	store := spoilt(t, w.Store, nil, nil)
	gone := holding(t, store, at)
	s, err := archive.New(store).Survey(t.Context())
	must(t, err)
	for i := range s.Checkpoints {
		if s.Checkpoints[i].LSN >= at.LSN {
			gone = append(gone, s.Checkpoints[i].Key().String())
		}
	}
	must(t, store.Delete(context.WithoutCancel(t.Context()), gone...))
	return store
}

// TestTheLatestPointSaysWhatStandsBehindAHole: the newest point that can be reached is
// restored, and that the archive has frames behind it is in the plan and in the result; a
// verification of it is not green.
func TestTheLatestPointSaysWhatStandsBehindAHole(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 25)
		h := w.Lines[3]
		store := holed(t, w, h.At(h.Last()/2).Pos)
		p, err := restore.MakePlan(t.Context(), store, restore.Request{Latest: true})
		must(t, err)
		if p.Target.LSN >= h.Last()/2+1 {
			t.Fatalf("the target is LSN %d of %d, behind the hole", p.Target.LSN, h.Last())
		}
		told := func(where string, list []string) {
			t.Helper()
			if len(list) != 1 || !strings.Contains(list[0], "cannot be reached") {
				t.Errorf("%s: %q", where, list)
			}
		}
		told("plan", p.Faults)
		got, err := restore.Run(t.Context(), options(store, simdisk.New(), restore.Request{Latest: true}))
		must(t, err)
		sameState(t, h, p.Target.LSN, got)
		told("result", got.Unread)
		for name, verify := range map[string]pitrverify.Verify{
			"full":      pitrverify.Full(store, restore.Request{Latest: true}, simdisk.New(), "/scratch"),
			"streaming": pitrverify.Streaming(store, restore.Request{Latest: true}, simdisk.New(), "/scratch", 0),
		} {
			if found, err := verify(t.Context()); err != nil || found.Full {
				t.Errorf("%s: %+v, %v", name, found, err)
			}
		}
		// A point below was asked for by name: nothing is amiss with it.
		got, err = restore.Run(t.Context(), options(store, simdisk.New(), restore.Request{LSN: p.Target.LSN - 1}))
		if err != nil || len(got.Unread) != 0 {
			t.Errorf("%+v, %v", got, err)
		}
		var target *restore.TargetError
		for _, req := range []restore.Request{{LSN: h.Last()}, {Time: time.UnixMicro(h.At(h.Last()).Stamp)}, {Time: p.Target.Time}, {Time: p.Target.Time, Clock: restore.Wall}} {
			if _, err := restore.MakePlan(t.Context(), store, req); !errors.As(err, &target) || target.Why != restore.Gap {
				t.Errorf("%+v: %v", req, err)
			}
		}
	})
}

// filling is a store in which an object appears after some lists.
type filling struct {
	object.Store
	lists int
	fill  func()
}

func (f *filling) List(ctx context.Context, prefix, after string, limit int) ([]object.Info, error) {
	if strings.HasPrefix(prefix, "log") {
		if f.lists--; f.lists == 0 {
			f.fill()
		}
	}
	return f.Store.List(ctx, prefix, after, limit)
}

// Several objects are uploaded at once: a hole that is filled a moment later is none.
func TestAHoleThatIsFilledIsNone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 25)
		h := w.Lines[3]
		at := h.At(h.Last() / 2).Pos
		store := holed(t, w, at)
		f := &filling{Store: store, lists: 2, fill: func() {
			for _, name := range holding(t, w.Store, at) {
				must(t, store.Put(context.WithoutCancel(t.Context()), name, object.Bytes(read(t, w.Store, name))))
			}
		}}
		got, err := restore.Run(t.Context(), options(f, simdisk.New(), restore.Request{Latest: true}))
		must(t, err)
		sameState(t, h, h.Last(), got)
		if f.lists > 0 || len(got.Unread) != 0 {
			t.Errorf("%d lists are left, unread %q", f.lists, got.Unread)
		}
	})
}
