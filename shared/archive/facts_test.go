package archive

import (
	"testing"

	"originchain/shared/lsn"
)

// TestFactsAreBounded: the oldest go first, and none is kept twice.
func TestFactsAreBounded(t *testing.T) {
	var f facts[int]
	for i := range 3 * maxFacts {
		f.add(i, Facts{Stamp: int64(i)})
		f.add(i, Facts{Stamp: -1})
	}
	for i := range 3 * maxFacts {
		got, ok := f.get(i)
		if want := i >= 2*maxFacts; ok != want || want && got.Stamp != int64(i) {
			t.Fatalf("%d: %v %t", i, got, ok)
		}
	}
	if len(f.known) != maxFacts || len(f.order) != maxFacts {
		t.Errorf("%d and %d are kept", len(f.known), len(f.order))
	}
}

// TestWhatALineCanBeRestoredTo needs all frames down to a checkpoint or to the first.
func TestWhatALineCanBeRestoredTo(t *testing.T) {
	for _, c := range []struct {
		name        string
		ranges      []Range
		checkpoints []lsn.LSN
		want        lsn.LSN
	}{
		{"nothing", nil, nil, 0},
		{"from the first", []Range{{From: 1, To: 7}}, nil, 7},
		{"no beginning", []Range{{From: 2, To: 7}}, nil, 0},
		{"behind a hole", []Range{{From: 1, To: 7}, {From: 9, To: 12}}, nil, 7},
		{"a checkpoint before the hole", []Range{{From: 1, To: 7}, {From: 9, To: 12}}, []lsn.LSN{7}, 7},
		{"a checkpoint at its end", []Range{{From: 1, To: 7}, {From: 9, To: 12}}, []lsn.LSN{8}, 12},
		{"a checkpoint alone", nil, []lsn.LSN{8}, 8},
		{"a checkpoint above all", []Range{{From: 1, To: 7}}, []lsn.LSN{20}, 20},
	} {
		l := Line{Ranges: c.ranges}
		for _, at := range c.checkpoints {
			l.Checkpoints = append(l.Checkpoints, Checkpoint{LSN: at})
		}
		if got := l.Recoverable(); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
