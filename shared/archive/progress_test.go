package archive

import (
	"testing"
	"time"
)

// Whoever waits until nothing would be lost takes an age of 0 for that: a frame that
// is asked for in the moment in which it is first seen must not be 0 old.
func TestAgeIsZeroOnlyWhereNothingIsMissing(t *testing.T) {
	var p progress
	now := time.Unix(1, 0)
	p.begin(4, 0)
	if segments, all := p.ages(now); segments != 0 || all != 0 {
		t.Errorf("nothing is missing, and is %s and %s old", segments, all)
	}
	p.sight(5, now)
	if segments, all := p.ages(now); segments <= 0 || all <= 0 {
		t.Errorf("a frame that was just seen is %s and %s old", segments, all)
	}
	p.addPart(span{from: 5, to: 5})
	if segments, all := p.ages(now); segments <= 0 || all != 0 {
		t.Errorf("shipped in a part alone, it is %s and %s old", segments, all)
	}
	p.addSegment(span{from: 5, to: 5})
	if segments, all := p.ages(now); segments != 0 || all != 0 {
		t.Errorf("shipped, it is %s and %s old", segments, all)
	}
}
