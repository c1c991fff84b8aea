// Package clock makes the stamps of the log. A stamp is the wall time as it was
// at boot plus what the monotonic clock says has passed since, slewed to the
// wall clock, so that it never decreases and a stepped wall clock cannot move
// the history that restores are asked for.
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

	mu        sync.Mutex
	offset    int64 // stamp = mono + offset
	slewed    int64 // mono up to which the offset has been slewed
	stepped   bool
	candidate int64 // offset of the stepped wall clock
	since     int64 // mono when the candidate was first seen
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
func (c *Clock) Stamp(floor int64) (stamp, wall int64, jump *Jump) {
	c.mu.Lock()
	mono, wall := c.cfg.Mono(), c.cfg.Wall()
	wasStepped := c.stepped
	jump = c.follow(mono, wall-mono)
	stamp = max(mono+c.offset, floor)
	alarm := c.stepped && !wasStepped
	distance := wall - stamp
	c.mu.Unlock()
	if alarm && c.cfg.OnStep != nil {
		c.cfg.OnStep(distance)
	}
	return stamp, wall, jump
}

// Now is about the stamp that Stamp would return. It changes nothing, so it is
// for looking at ages, never for a frame.
func (c *Clock) Now() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cfg.Mono() + c.offset
}

// Stepped reports that the wall clock is away from the stamps by more than
// StepThreshold, as of the last stamp.
func (c *Clock) Stepped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stepped
}

// follow moves the offset towards that of the wall clock.
func (c *Clock) follow(mono, wall int64) *Jump {
	distance := wall - c.offset
	if abs(distance) <= StepThreshold.Microseconds() {
		c.stepped = false
		c.slew(mono, distance)
		return nil
	}
	if !c.stepped || abs(wall-c.candidate) > HoldTolerance.Microseconds() {
		c.stepped, c.candidate, c.since = true, wall, mono
		return nil
	}
	if mono-c.since < HoldTime.Microseconds() {
		return nil
	}
	if distance < 0 {
		// Stamps do not go back: they run slow until the wall clock is near.
		c.slew(mono, distance)
		return nil
	}
	jump := &Jump{OldOffset: c.offset, NewOffset: wall}
	c.offset, c.stepped, c.slewed = wall, false, mono
	return jump
}

// slew draws the offset nearer. Under load stamps are microseconds apart: time
// too short for one microsecond of slew is kept for the next stamp, or the
// clock would never be drawn at all.
func (c *Clock) slew(mono, distance int64) {
	most := (mono - c.slewed) * SlewPartsPerMillion / 1_000_000
	if most == 0 {
		return
	}
	c.slewed = mono
	c.offset += min(max(distance, -most), most)
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}
