// Package clock makes the stamps of the log. A stamp is the wall time as it was
// at boot, or the log's last stamp if that is later, plus what the monotonic
// clock says has passed since, slewed to the wall clock. So it never decreases,
// and a stepped wall clock cannot move the history that restores are asked for.
package clock

import (
	"sync"
	"time"
)

// How stamps follow the wall clock.
const (
	// StepThreshold: a wall clock further from the stamps than this has been
	// stepped. Stamps go on with the monotonic clock, and it is an alarm.
	StepThreshold = 5 * time.Second
	// HoldTime is how long a new offset must hold before stamps adopt it: a
	// clock that is being set is often set again.
	HoldTime = 60 * time.Second
	// HoldTolerance is how far an offset may wander and still be the same one.
	HoldTolerance = time.Second
	// SlewPartsPerMillion bounds how fast stamps are drawn to the wall clock:
	// an interval between stamps is wrong by this share at most.
	SlewPartsPerMillion = 500
)

// Config gives the sources of time, in microseconds; nil takes the machine's.
type Config struct {
	// Wall is the time since 1970 UTC. It may step.
	Wall func() int64
	// Mono never decreases; its zero is arbitrary.
	Mono func() int64
	// OnStep is told when the wall clock was found stepped, with its distance
	// from the stamps in microseconds; may be nil.
	OnStep func(distance int64)
}

// Jump is a forward jump of the stamps to a new offset between wall and
// monotonic clock, in microseconds.
type Jump struct{ OldOffset, NewOffset int64 }

// Clock makes stamps. Safe for concurrent use.
type Clock struct {
	cfg Config

	mu sync.Mutex
	// offset is from the monotonic clock to stamps.
	offset int64
	// slewed is the monotonic time up to which the slew has been spent.
	slewed int64
	// stepped says that the wall clock is away from the stamps; candidate is
	// then its offset from the monotonic clock, held since that monotonic time.
	stepped          bool
	candidate, since int64
}

// New starts from what the wall clock says now.
func New(cfg Config) *Clock {
	if cfg.Wall == nil {
		cfg.Wall = func() int64 { return time.Now().UnixMicro() }
	}
	if cfg.Mono == nil {
		start := time.Now()
		cfg.Mono = func() int64 { return time.Since(start).Microseconds() }
	}
	c := &Clock{cfg: cfg}
	c.slewed = cfg.Mono()
	c.offset = cfg.Wall() - c.slewed
	return c
}

// Stamp returns the next stamp, not below floor (the log's last), and the raw
// wall time. jump is set once, when stamps have just moved to a new offset: the
// caller records it in the log before the frame that bears the stamp.
//
// A log that is ahead of this clock (of a machine that was, or before a restart)
// carries the stamps on from its end, drawn slowly to the wall clock. Holding
// them at its end until the wall clock is there is refused: many frames of one
// stamp are one moment to a restore.
func (c *Clock) Stamp(floor int64) (stamp, wall int64, jump *Jump) {
	c.mu.Lock()
	mono, wall := c.cfg.Mono(), c.cfg.Wall()
	if floor > mono+c.offset {
		c.offset, c.slewed = floor-mono, mono
	}
	found := c.watch(mono, wall-mono)
	jump = c.follow(mono, wall-mono)
	stamp = max(mono+c.offset, floor)
	c.mu.Unlock()
	c.alarm(found)
	return stamp, wall, jump
}

// Now is about the stamp that Stamp would return, for looking at ages, never
// for a frame. It looks for a step too, so that one is found, and its hold
// begins, while nothing is written.
func (c *Clock) Now() int64 {
	c.mu.Lock()
	mono, wall := c.cfg.Mono(), c.cfg.Wall()
	found := c.watch(mono, wall-mono)
	now := mono + c.offset
	c.mu.Unlock()
	c.alarm(found)
	return now
}

// Stepped reports that the wall clock is away from the stamps by more than
// StepThreshold, as of the last stamp or look.
func (c *Clock) Stepped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stepped
}

// watch compares the offset of the wall clock with that of the stamps. It
// returns the distance of a step that was not known yet, else 0.
func (c *Clock) watch(mono, wallOffset int64) int64 {
	distance := wallOffset - c.offset
	if abs(distance) <= StepThreshold.Microseconds() {
		c.stepped = false
		return 0
	}
	known := c.stepped
	if !known || abs(wallOffset-c.candidate) > HoldTolerance.Microseconds() {
		c.stepped, c.candidate, c.since = true, wallOffset, mono
	}
	if known {
		return 0
	}
	return distance
}

// follow moves the stamps towards the wall clock.
func (c *Clock) follow(mono, wallOffset int64) *Jump {
	switch {
	case c.stepped && mono-c.since < HoldTime.Microseconds():
		c.slewed = mono // on the monotonic clock alone
		return nil
	case c.stepped && wallOffset > c.offset:
		jump := &Jump{OldOffset: c.offset, NewOffset: wallOffset}
		c.offset, c.stepped, c.slewed = wallOffset, false, mono
		return jump
	default:
		// Stamps do not jump back: they run slow until the wall clock is near.
		c.slew(mono, wallOffset-c.offset)
		return nil
	}
}

// slew draws the offset nearer. Under load stamps are microseconds apart: time
// too short for a microsecond of slew is kept for the next stamp, or the clock
// would never be drawn at all.
func (c *Clock) slew(mono, distance int64) {
	const perMicro = 1_000_000 / SlewPartsPerMillion // monotonic µs that allow 1 µs of slew
	most := (mono - c.slewed) / perMicro
	if abs(distance) <= most {
		c.offset += distance
		c.slewed = mono
		return
	}
	c.offset += min(max(distance, -most), most)
	c.slewed += most * perMicro
}

// alarm reports a step that was just found. The caller does not hold mu.
func (c *Clock) alarm(distance int64) {
	if distance != 0 && c.cfg.OnStep != nil {
		c.cfg.OnStep(distance)
	}
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}
