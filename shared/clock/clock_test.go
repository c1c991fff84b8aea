package clock

import (
	"math/rand/v2"
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

func TestStampsNeverDecreaseWhateverTheWallClockDoes(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 9))
		h := &hands{wall: noon}
		c := h.clock(nil)
		last := noon - int64(rng.IntN(10))*time.Second.Microseconds()
		for i := range 300 {
			h.pass(time.Duration(rng.Int64N(int64(5 * time.Second))))
			if rng.IntN(20) == 0 {
				h.wall += rng.Int64N(4*time.Hour.Microseconds()) - 2*time.Hour.Microseconds()
			}
			stamp, _, _ := c.Stamp(last)
			if stamp < last {
				t.Fatalf("seed %d, call %d: %d after %d", seed, i, stamp, last)
			}
			last = stamp
		}
	}
}

func TestStampsRespectTheFloorOfAnEarlierLog(t *testing.T) {
	h := &hands{wall: noon}
	c := h.clock(nil)
	if stamp, _, _ := c.Stamp(noon + 77); stamp != noon+77 {
		t.Fatalf("stamp %d below the log's last", stamp)
	}
}
