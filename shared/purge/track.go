package purge

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"originchain/shared/archive"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/table"
)

// action is what becomes of an operation.
type action uint8

const (
	keep action = iota
	// drop leaves it out: it writes a pair of the subject's over nothing or another of
	// them, or deletes one.
	drop
	// asDelete makes a delete of a put that writes a pair of the subject's over another's.
	asDelete
	// asFresh takes from a put what it replaces: that was the subject's.
	asFresh
)

// edit is what becomes of a frame. A frame of the archive is known by its chain value:
// wherever else it stands it is the same.
type edit struct {
	chain lsn.Chain
	// actions are those of the operations, by their place in the body as it is now.
	actions []action
}

// apply gives what is left of the body.
func (e *edit) apply(f *frame.Frame) ([]byte, error) {
	encoded, err := frame.OpsOf(f.Kind, f.Body)
	if err != nil {
		return nil, err
	}
	ops, err := frame.DecodeOps(encoded)
	if err != nil {
		return nil, err
	}
	if len(ops) != len(e.actions) || f.Chain != e.chain {
		return nil, fmt.Errorf("LSN %d of epoch %d has %d operations and chain value %s here, and %d and %s where it was planned: the archive holds two histories", f.LSN, f.Epoch, len(ops), f.Chain, len(e.actions), e.chain)
	}
	left := make([]frame.Op, 0, len(ops))
	for i := range ops {
		op := ops[i]
		switch e.actions[i] {
		case keep:
		case drop:
			continue
		case asDelete:
			op = frame.Op{Type: frame.Delete, Key: op.Key, HadOld: true, Old: op.Old}
		case asFresh:
			op.HadOld, op.Old = false, lsn.Digest{}
		}
		left = append(left, op)
	}
	return recordAnd(f, encoded, left), nil
}

// recordAnd puts operations behind the record that opens the frame's body.
func recordAnd(f *frame.Frame, encoded []byte, ops []frame.Op) []byte {
	body := append([]byte{}, f.Body[:len(f.Body)-len(encoded)]...)
	return frame.AppendOps(body, ops)
}

// tracker follows the subject's pairs along a line.
type tracker struct {
	s *subject
	// pairs are those in the state after the last frame.
	pairs map[string]pair
	// open is the interval that goes on; nil while there are none.
	open      *archive.Interval
	intervals []archive.Interval
	at        lsn.Pos
	changed   bool
}

// begin stands the tracker on a state.
func (t *tracker) begin(at lsn.Pos, pairs map[string]pair) {
	t.close()
	t.pairs, t.at, t.changed = pairs, at, true
	t.note()
}

// frame follows one frame, and says what becomes of it; nil if nothing does.
func (t *tracker) frame(f *frame.Frame) (*edit, error) {
	ops, err := opsOf(f)
	if err != nil {
		return nil, err
	}
	if err := t.s.learnOps(ops); err != nil {
		return nil, fmt.Errorf("LSN %d: %w", f.LSN, err)
	}
	e := &edit{chain: f.Chain, actions: make([]action, len(ops))}
	answers := map[string]bool{}
	touched := t.touches(ops)
	// Answers come before the keys that order them, wherever they stand.
	for _, order := range []bool{false, true} {
		for i := range ops {
			p, ok := t.s.parts(ops[i].Key)
			if (ok && p.Space == table.SpaceIdemOrder) != order {
				continue
			}
			if e.actions[i], err = t.op(&ops[i], p, ok, touched, answers); err != nil {
				return nil, fmt.Errorf("LSN %d: %w", f.LSN, err)
			}
		}
	}
	if at := (lsn.Pos{Epoch: f.Epoch, LSN: f.LSN}); t.at.Epoch != at.Epoch {
		t.close()
		t.at = at
		t.changed = true
	} else {
		t.at = at
	}
	t.note()
	if !slices.ContainsFunc(e.actions, func(a action) bool { return a != keep }) {
		return nil, nil
	}
	return e, nil
}

func opsOf(f *frame.Frame) ([]frame.Op, error) {
	encoded, err := frame.OpsOf(f.Kind, f.Body)
	if err != nil {
		return nil, err
	}
	return frame.DecodeOps(encoded)
}

// touches reports a frame that writes or deletes one of the rows: an answer that it
// stores is one to a request for them.
func (t *tracker) touches(ops []frame.Op) bool {
	return slices.ContainsFunc(ops, func(o frame.Op) bool {
		p, ok := t.s.parts(o.Key)
		return ok && o.Type != frame.RangeDelete && t.s.isRow(p)
	})
}

// op follows one operation.
func (t *tracker) op(o *frame.Op, p table.Parts, ours, touched bool, answers map[string]bool) (action, error) {
	if o.Type == frame.RangeDelete {
		for key := range t.pairs {
			if key >= string(o.Key) && key < string(o.End) {
				t.remove(key)
			}
		}
		return keep, nil
	}
	if !ours {
		return keep, nil
	}
	_, was := t.pairs[string(o.Key)]
	if o.Type == frame.Delete {
		// A row that stood below what the archive holds is no pair that is known here,
		// and its key is the subject's all the same.
		if !was && !t.s.isRow(p) {
			return keep, nil
		}
		t.remove(string(o.Key))
		return drop, nil
	}
	is, err := t.s.mine(p, o.Key, o.Value, answers)
	if err != nil {
		return keep, err
	}
	if p.Space == table.SpaceIdem && touched {
		is, answers[string(p.Rest)] = true, true
	}
	if was {
		t.remove(string(o.Key))
	}
	if is {
		t.pairs[string(o.Key)] = pairOf(p, o.Key, o.Value)
		t.changed = true
	}
	switch {
	case is && o.HadOld && !was:
		return asDelete, nil
	case is:
		return drop, nil
	case was:
		return asFresh, nil
	}
	return keep, nil
}

func (t *tracker) remove(key string) {
	if _, ok := t.pairs[key]; ok {
		delete(t.pairs, key)
		t.changed = true
	}
}

// note extends the interval that goes on, or begins another.
func (t *tracker) note() {
	if !t.changed {
		if t.open != nil {
			t.open.To = t.at.LSN
		}
		return
	}
	t.close()
	t.changed = false
	if len(t.pairs) > 0 {
		x := intervalOf(t.pairs)
		x.Epoch, x.From, x.To = t.at.Epoch, t.at.LSN, t.at.LSN
		t.open = &x
	}
}

// close ends the interval that goes on.
func (t *tracker) close() {
	if t.open != nil {
		t.intervals = append(t.intervals, *t.open)
		t.open = nil
	}
}

// intervalOf sums up pairs.
func intervalOf(pairs map[string]pair) (x archive.Interval) {
	shares := map[[2]uint32]archive.Share{}
	for _, p := range pairs {
		x.Delta = x.Delta.Add(p.hash)
		if !p.counted {
			continue
		}
		k := [2]uint32{p.table, p.index}
		s := shares[k]
		s.Table, s.Index = p.table, p.index
		s.Entries, s.Bytes, s.Sum = s.Entries+1, s.Bytes+p.bytes, s.Sum.Add(p.hash)
		shares[k] = s
	}
	x.Counters = slices.SortedFunc(maps.Values(shares), func(a, b archive.Share) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Index, b.Index))
	})
	return x
}
