package clock

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// hands are a wall and a monotonic clock that a test moves.
type hands struct{ wall, mono int64 }

func (h *hands) pass(d time.Duration) {
	h.wall += d.Microseconds()
	h.mono += d.Microseconds()
}

func (h *hands) clock(onStep func(int64)) *Clock {
	return New(Config{Wall: func() int64 { return h.wall }, Mono: func() int64 { return h.mono }, OnStep: onStep})
}

const noon = int64(1_700_000_000_000_000)

func TestSmallDriftIsSlewedNotJumped(t *testing.T) {
	h := &hands{wall: noon, mono: 5}
	c := h.clock(nil)
	h.wall += 2_000_000 // two seconds ahead: no step
	h.pass(10 * time.Second)
	stamp, wall, jump := c.Stamp(0)
	if jump != nil || c.Stepped() {
		t.Fatal("a small difference was taken for a step")
	}
	want := noon + 10_000_000 + 10_000_000*SlewPartsPerMillion/1_000_000
	if stamp != want || wall != h.wall {
		t.Fatalf("stamp %d wall %d, want %d %d", stamp, wall, want, h.wall)
	}
}

func TestManyStampsASecondAreSlewedToo(t *testing.T) {
	h := &hands{wall: noon}
	c := h.clock(nil)
	h.wall += 2_000_000
	for range 100_000 {
		h.pass(100 * time.Microsecond)
		c.Stamp(0)
	}
	stamp, _, _ := c.Stamp(0)
	if drawn := stamp - noon - h.mono; drawn != 5000 {
		t.Fatalf("10 s of stamps every 100 µs were drawn by %d µs, want 5000", drawn)
	}
}

func TestAStepForwardIsHeldThenJumpedTo(t *testing.T) {
	h := &hands{wall: noon}
	var alarms []int64
	c := h.clock(func(d int64) { alarms = append(alarms, d) })
	h.wall += time.Hour.Microseconds()
	for range 59 {
		h.pass(time.Second)
		if stamp, _, jump := c.Stamp(0); jump != nil || stamp != noon+h.mono {
			t.Fatalf("after %d s: stamp %d, jump %v; stamps must run on the monotonic clock", h.mono/1e6, stamp, jump)
		}
	}
	h.pass(2 * time.Second)
	stamp, _, jump := c.Stamp(0)
	if jump == nil || jump.NewOffset-jump.OldOffset != time.Hour.Microseconds() || stamp != h.wall {
		t.Fatalf("after the hold: stamp %d, jump %+v", stamp, jump)
	}
	if len(alarms) != 1 || alarms[0] != time.Hour.Microseconds() {
		t.Fatalf("alarms %v", alarms)
	}
	if _, _, again := c.Stamp(0); again != nil || c.Stepped() {
		t.Fatal("the jump is reported once, and the step is over")
	}
}

func TestAClockThatIsSetAgainStartsTheHoldAnew(t *testing.T) {
	h := &hands{wall: noon}
	c := h.clock(nil)
	h.wall += time.Hour.Microseconds()
	c.Stamp(0)
	h.pass(50 * time.Second)
	h.wall += time.Hour.Microseconds()
	c.Stamp(0)
	h.pass(50 * time.Second)
	if _, _, jump := c.Stamp(0); jump != nil {
		t.Fatal("the second offset had held for 50 s only")
	}
}

func TestAStepBackNeverMovesStampsBack(t *testing.T) {
	h := &hands{wall: noon}
	c := h.clock(nil)
	h.wall -= time.Hour.Microseconds()
	last := int64(0)
	for range 600 {
		h.pass(time.Second)
		stamp, _, jump := c.Stamp(last)
		if jump != nil || stamp <= last {
			t.Fatalf("stamp %d after %d, jump %v", stamp, last, jump)
		}
		last = stamp
	}
	if ahead := last - (noon + h.mono); ahead >= 0 {
		t.Fatalf("stamps must run slow towards the wall clock, they are %d µs off", ahead)
	}
}

// TestRandomSteps moves the wall clock at random and checks every promise at
// every stamp.
func TestRandomSteps(t *testing.T) {
	jumps, alarms := 0, 0
	for seed := range uint64(300) {
		j, a := randomSteps(t, seed)
		jumps, alarms = jumps+j, alarms+a
	}
	if jumps < 100 || alarms < 300 {
		t.Errorf("%d jumps and %d alarms in all: the steps are too tame", jumps, alarms)
	}
}

// look is what the test remembers of a stamp or a look at the clock.
type look struct{ mono, wallOffset int64 }

func randomSteps(t *testing.T, seed uint64) (jumps, alarms int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 9))
	h := &hands{wall: noon, mono: rng.Int64N(1000)}
	c := h.clock(func(d int64) {
		alarms++
		if abs(d) <= StepThreshold.Microseconds() {
			t.Fatalf("seed %d: alarm at a distance of %d µs", seed, d)
		}
	})
	last, _, _ := c.Stamp(0)
	lastMono := h.mono
	var looks []look
	for i := range 400 {
		h.pass(time.Duration(rng.Int64N(int64(3 * time.Second)))) // often less than a microsecond apart, too
		if rng.IntN(3) == 0 {
			h.mono, h.wall = h.mono+rng.Int64N(2), h.wall+rng.Int64N(2)
		}
		switch rng.IntN(60) {
		case 0:
			h.wall += rng.Int64N(4*time.Hour.Microseconds()) - time.Hour.Microseconds()
		case 1:
			h.wall += rng.Int64N(2*time.Second.Microseconds()) - time.Second.Microseconds()
		}
		looks = append(looks, look{h.mono, h.wall - h.mono})
		if rng.IntN(4) == 0 {
			c.Now()
			continue
		}
		stamp, wall, jump := c.Stamp(last)
		passed := h.mono - lastMono
		most := passed + passed*SlewPartsPerMillion/1_000_000 + 1
		least := passed - passed*SlewPartsPerMillion/1_000_000 - 1
		switch {
		case wall != h.wall:
			t.Fatalf("seed %d, stamp %d: wall %d, want %d", seed, i, wall, h.wall)
		case stamp < last:
			t.Fatalf("seed %d, stamp %d: %d after %d", seed, i, stamp, last)
		case jump != nil:
			jumps++
			held(t, looks)
			if c.Stepped() || jump.NewOffset-jump.OldOffset <= StepThreshold.Microseconds() || stamp != h.wall {
				t.Fatalf("seed %d, stamp %d: jump %+v to %d, wall %d", seed, i, jump, stamp, h.wall)
			}
		case stamp-last > most || stamp-last < least:
			t.Fatalf("seed %d, stamp %d: %d µs in %d µs of monotonic time", seed, i, stamp-last, passed)
		}
		if want := abs(h.wall-stamp) > StepThreshold.Microseconds()+2; want && !c.Stepped() {
			t.Fatalf("seed %d, stamp %d: %d µs away and no step", seed, i, h.wall-stamp)
		}
		last, lastMono = stamp, h.mono
	}
	return jumps, alarms
}

// held: for HoldTime the wall clock was where it is now.
func held(t *testing.T, looks []look) {
	t.Helper()
	now := looks[len(looks)-1]
	for _, l := range slices.Backward(looks) {
		if abs(l.wallOffset-now.wallOffset) > 2*HoldTolerance.Microseconds() {
			t.Fatalf("a jump %d µs after the wall clock was %d µs elsewhere", now.mono-l.mono, l.wallOffset-now.wallOffset)
		}
		if now.mono-l.mono >= HoldTime.Microseconds() {
			return
		}
	}
	t.Fatalf("a jump after %d µs", now.mono-looks[0].mono)
}

// TestDenseStampsAreSlewedInFull: many stamps in each stretch that allows one
// microsecond of slew lose nothing of it, forwards and backwards.
func TestDenseStampsAreSlewedInFull(t *testing.T) {
	for _, away := range []time.Duration{time.Second, -time.Second} {
		h := &hands{wall: noon}
		c := h.clock(nil)
		h.wall += away.Microseconds()
		last := int64(0)
		for i := range 1_000_000 { // two in the same microsecond now and then
			if i%3 > 0 {
				h.pass(time.Microsecond)
			}
			last, _, _ = c.Stamp(last)
		}
		want := h.mono * SlewPartsPerMillion / 1_000_000
		if away < 0 {
			want = -want
		}
		if got := last - (noon + h.mono); abs(got-want) > 1 {
			t.Errorf("%v away: slewed %d µs in %d µs, want %d", away, got, h.mono, want)
		}
	}
}

// TestAHoldSavesUpNoSlew: the time of a hold is not spent at once afterwards.
func TestAHoldSavesUpNoSlew(t *testing.T) {
	h := &hands{wall: noon}
	c := h.clock(nil)
	c.Stamp(0)
	h.wall += time.Hour.Microseconds()
	for range 50 {
		h.pass(time.Second)
		c.Stamp(0)
	}
	h.wall -= time.Hour.Microseconds() - 4*time.Second.Microseconds()
	before, _, _ := c.Stamp(0)
	if want := noon + 50*time.Second.Microseconds(); before != want {
		t.Errorf("stamp %d, want %d: no time has passed to slew in", before, want)
	}
	h.pass(10 * time.Second)
	after, _, _ := c.Stamp(0)
	if want := before + 10_000_000 + 10*SlewPartsPerMillion; c.Stepped() || after != want {
		t.Errorf("stamp %d, want %d: the step is over, stamps are drawn again", after, want)
	}
}

// TestAStepIsFoundWithoutWrites: looks begin the hold, so that the first write
// after a long pause bears the new time.
func TestAStepIsFoundWithoutWrites(t *testing.T) {
	h := &hands{wall: noon}
	alarms := 0
	c := h.clock(func(int64) { alarms++ })
	last, _, _ := c.Stamp(0)
	h.wall += time.Hour.Microseconds()
	for range 70 {
		h.pass(time.Second)
		if now := c.Now(); now != noon+h.mono {
			t.Fatalf("a look says %d, want %d", now, noon+h.mono)
		}
	}
	stamp, _, jump := c.Stamp(last)
	if alarms != 1 || jump == nil || stamp != h.wall {
		t.Errorf("%d alarms, jump %v, stamp %d at %d", alarms, jump, stamp, h.wall)
	}
}

// TestALogAheadCarriesTheStampsOn: they go on from its end and run slow.
func TestALogAheadCarriesTheStampsOn(t *testing.T) {
	h := &hands{wall: noon}
	alarms := 0
	c := h.clock(func(int64) { alarms++ })
	last := noon + time.Hour.Microseconds()
	for i := range 1000 {
		stamp, wall, jump := c.Stamp(last)
		if jump != nil || wall != h.wall || stamp < last || i > 0 && stamp == last {
			t.Fatalf("stamp %d after %d, jump %v", stamp, last, jump)
		}
		last = stamp
		h.pass(time.Second)
	}
	if ahead := last - h.wall; alarms != 1 || ahead >= time.Hour.Microseconds() {
		t.Errorf("%d alarms; still %d µs ahead", alarms, ahead)
	}
}

// TestAFloorIsKeptWhileStampsRunSlow: the slew since the last stamp must not
// take the next one below the floor.
func TestAFloorIsKeptWhileStampsRunSlow(t *testing.T) {
	h := &hands{wall: noon}
	c := h.clock(nil)
	h.wall -= time.Second.Microseconds()
	h.pass(time.Second)
	floor := noon + time.Second.Microseconds() - 100
	if stamp, _, _ := c.Stamp(floor); stamp != floor {
		t.Errorf("stamp %d, want the floor %d", stamp, floor)
	}
}

func TestAStepIsMoreThanTheThreshold(t *testing.T) {
	for _, away := range []time.Duration{StepThreshold, -StepThreshold} {
		h := &hands{wall: noon}
		c := h.clock(nil)
		h.wall += away.Microseconds()
		if c.Now(); c.Stepped() {
			t.Errorf("%v is a step", away)
		}
		if h.wall += away.Microseconds() / 5_000_000; c.Now() == 0 || !c.Stepped() {
			t.Errorf("1 µs more than %v is no step", away)
		}
	}
}
