package pitr

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/restore"
)

// moving is an archive whose newest frames are in parts of the tail until one of them is
// asked for: by then their segment was shipped, and a retention has removed them.
type moving struct {
	object.Store
	parts, segments []string
	moved           atomic.Bool
}

func (m *moving) gone() []string {
	if m.moved.Load() {
		return m.parts
	}
	return m.segments
}

func (m *moving) List(ctx context.Context, prefix, after string, limit int) ([]object.Info, error) {
	all, err := m.Store.List(ctx, prefix, after, limit)
	return slices.DeleteFunc(all, func(i object.Info) bool { return slices.Contains(m.gone(), i.Key) }), err
}

func (m *moving) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if slices.Contains(m.parts, key) {
		m.moved.Store(true)
	}
	if slices.Contains(m.gone(), key) {
		return nil, &object.Error{Op: "get", Key: key, Store: m.String(), Err: object.ErrNotFound}
	}
	return m.Store.Get(ctx, key, off, n)
}

// movingAt records an archive that changes while it is read, and the last frame of it.
func movingAt(t testing.TB) (*moving, lsn.LSN) {
	t.Helper()
	w := Record(t, object.NewMemory("archive"), 20)
	last := lsn.Pos{Epoch: 3, LSN: w.Lines[3].Last()}
	must(t, w.Store.Delete(t.Context(), holding(t, w.Store, last)...)) // its segment is not sealed
	at := lsn.Pos{Epoch: 3, LSN: last.LSN - 1}
	m := &moving{Store: w.Store}
	for _, name := range holding(t, w.Store, at) {
		if strings.HasPrefix(name, "tail/") {
			m.parts = append(m.parts, name)
		} else {
			m.segments = append(m.segments, name)
		}
	}
	if len(m.parts) == 0 || len(m.segments) == 0 {
		t.Fatalf("it is in the parts %v and the segments %v", m.parts, m.segments)
	}
	return m, at.LSN
}

// TestARetentionBetweenTwoLooksIsNoDamage: what it removed is in the segment that it was
// removed for, and the archive is looked at once more.
func TestARetentionBetweenTwoLooksIsNoDamage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m, at := movingAt(t)
		p, err := restore.MakePlan(t.Context(), m, restore.Request{Latest: true})
		must(t, err)
		if p.Target.LSN != at || len(p.Unread()) > 0 || !m.moved.Load() {
			t.Errorf("up to LSN %d, want %d: %v", p.Target.LSN, at, p.Unread())
		}
	})
}

// TestAListLooksAgainToo: of one line, and of all of them; what is missing for good is
// still told.
func TestAListLooksAgainToo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, epoch := range []lsn.Epoch{0, 3} {
			m, at := movingAt(t)
			l, err := restore.List(t.Context(), m, restore.Request{Epoch: epoch})
			must(t, err)
			if l.Until == nil || l.Until.LSN != at || len(l.Faults) > 0 || !m.moved.Load() || l.Lines[0].Epoch != 3 {
				t.Errorf("epoch %d: up to %v, want LSN %d: %v", epoch, l.Until, at, l.Faults)
			}
			if epoch > 0 && len(l.Lines) != 1 {
				t.Errorf("of epoch %d alone: %d lines", epoch, len(l.Lines))
			}
		}
		m, at := movingAt(t)
		m.segments, m.parts = nil, append(m.segments, m.parts...)
		m.moved.Store(true)
		l, err := restore.List(t.Context(), &vanished{m}, restore.Request{})
		must(t, err)
		if l.Until == nil || l.Until.LSN >= at || len(l.Faults) == 0 {
			t.Errorf("what is listed and never there: up to %v, faults %v", l.Until, l.Faults)
		}
	})
}

// vanished lists all, and has not what its archive lacks.
type vanished struct{ *moving }

func (v *vanished) List(ctx context.Context, prefix, after string, limit int) ([]object.Info, error) {
	return v.Store.List(ctx, prefix, after, limit)
}
