// Package pitrverify is the function that proves backups: it has a recovery point
// restored and checked, and keeps when one was last found well.
//
// Invariants:
//
//   - Green is only a verification that looked at everything, to its end, and found
//     nothing. One that failed, was broken off, was partial, or whose outcome could not be
//     recorded leaves the age growing.
//   - The age outlives the process: it is counted from what is recorded, and on the
//     monotonic clock from then on. Where the wall clock contradicts the record, nothing
//     is taken for verified.
package pitrverify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"originchain/shared/alarms"
	"originchain/shared/telemetry"
)

// Result is what a verification found.
type Result struct {
	// Full: everything was looked at, to the end.
	Full bool `json:"full"`
	// OK: it is as it must be.
	OK     bool   `json:"ok"`
	Faults uint64 `json:"faults"`
	// LSN and Epoch are the point that was verified.
	LSN   uint64 `json:"lsn"`
	Epoch uint64 `json:"epoch"`
}

// Verify verifies a recovery point.
type Verify func(ctx context.Context) (Result, error)

// Documents is the store of the record; Save fails with an error for which Conflict is
// true if the document is another by now.
type Documents interface {
	Load(ctx context.Context, key string) (b []byte, version uint64, ok bool, err error)
	Save(ctx context.Context, key string, expect uint64, b []byte) (uint64, error)
}

// Record is what is kept. Its JSON is stable.
type Record struct {
	Format int `json:"format"`
	// Since is when somebody first looked: what was never verified is that old.
	Since time.Time `json:"since"`
	// Green is when the last one that counts ended.
	Green *time.Time `json:"green,omitempty"`
	Last  *Run       `json:"last,omitempty"`
}

// Run is how one verification ended.
type Run struct {
	Begun time.Time `json:"begun"`
	Ended time.Time `json:"ended"`
	Result
	Green bool   `json:"green"`
	Error string `json:"error,omitempty"`
}

const (
	key    = "pitr/verified"
	format = 1
	// clockSlack is how far ahead of the wall clock a record may be.
	clockSlack    = 5 * time.Minute
	maxTries      = 20
	maxErrorBytes = 500
)

// Deps are what a Verifier works with.
type Deps struct {
	Documents Documents
	// Conflict tells the error of a Save that was too late.
	Conflict func(error) bool
	Verify   Verify
	// Now is the wall clock, Clock a monotonic one from any beginning.
	Now     func() time.Time
	Clock   func() time.Duration
	Metrics *telemetry.Metrics
}

// Verifier verifies and remembers.
type Verifier struct {
	deps Deps

	mu sync.Mutex
	// age was true at the monotonic moment at; known is false before Load.
	age   time.Duration
	at    time.Duration
	never bool // no age can be told
	known bool
}

// New makes a Verifier and registers its metric, which is +Inf until Load.
func New(deps Deps) *Verifier {
	v := &Verifier{deps: deps}
	deps.Metrics.GaugeFunc(alarms.LastVerifiedAge, "Seconds since a recovery point was restored and checked in full and found well; from the first start on until one was; +Inf while that is not known.",
		func() float64 {
			if age, ok := v.Age(); ok {
				return age.Seconds()
			}
			return math.Inf(1)
		})
	return v
}

// Age is how long ago a verification was green; ok is false if that is not known.
func (v *Verifier) Age() (_ time.Duration, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.age + v.deps.Clock() - v.at, v.known && !v.never
}

// Load reads the record, and makes it where there is none.
func (v *Verifier) Load(ctx context.Context) (Record, error) {
	return v.change(ctx, func(*Record) {})
}

// Handle verifies once and records how it ended, unless it is handed over. An error says
// that it was not green.
func (v *Verifier) Handle(ctx context.Context) (Run, error) {
	run := Run{Begun: v.deps.Now().UTC()}
	result, err := v.deps.Verify(ctx)
	var over *HandOverError
	if errors.As(err, &over) {
		return run, err
	}
	run.Ended, run.Result = v.deps.Now().UTC(), result
	if err == nil && !result.Full {
		err = errors.New("not everything was looked at")
	}
	if err == nil && (!result.OK || result.Faults > 0) {
		err = fmt.Errorf("%d faults were found: see docs/RUNBOOK.md, %s", result.Faults, alarms.LastVerifiedAge)
	}
	run.Green = err == nil
	if err != nil {
		run.Error = telemetry.Redact(err.Error())
		run.Error = run.Error[:min(len(run.Error), maxErrorBytes)]
		err = fmt.Errorf("the recovery point was not verified: %w", err)
	}
	recording, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	_, saveErr := v.change(recording, func(r *Record) {
		if r.Last == nil || v.replaces(&run, r.Last.Ended) {
			r.Last = &run
		}
		if run.Green && (r.Green == nil || v.replaces(&run, *r.Green)) {
			r.Green = &run.Ended
		}
	})
	return run, errors.Join(err, saveErr)
}

// replaces says whether a run is later than what is recorded: by its time, or, of one that
// was green, because a clock was ahead when that was recorded.
func (v *Verifier) replaces(r *Run, recorded time.Time) bool {
	return !r.Ended.Before(recorded) || r.Green && recorded.Sub(v.deps.Now()) > clockSlack
}

const recordTimeout = 10 * time.Second

// change applies a rule to the record as it is, and takes the age from what is stored.
func (v *Verifier) change(ctx context.Context, rule func(*Record)) (Record, error) {
	for range maxTries {
		b, version, ok, err := v.deps.Documents.Load(ctx, key)
		if err != nil {
			return Record{}, fmt.Errorf("the record of verifications cannot be read: %w", err)
		}
		r := Record{Format: format, Since: v.deps.Now().UTC()}
		if ok {
			if err := json.Unmarshal(b, &r); err != nil {
				return Record{}, fmt.Errorf("the document %s is no record of verifications: %w", key, err)
			}
			if r.Format != format {
				return Record{}, fmt.Errorf("the record of verifications has format %d, and this program knows %d: use a newer one", r.Format, format)
			}
		}
		rule(&r)
		next, err := json.Marshal(r)
		if err != nil {
			return Record{}, err
		}
		if !ok || string(next) != string(b) {
			_, err = v.deps.Documents.Save(ctx, key, version, next)
		}
		switch {
		case err == nil:
			v.took(r)
			return r, nil
		case !v.deps.Conflict(err):
			return Record{}, fmt.Errorf("the record of verifications may not have been written: %w", err)
		}
	}
	return Record{}, fmt.Errorf("the record of verifications was changed by others %d times in a row", maxTries)
}

// took sets the age from a record that is stored.
func (v *Verifier) took(r Record) {
	from := r.Since
	if r.Green != nil {
		from = *r.Green
	}
	age := v.deps.Now().Sub(from)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.known, v.never = true, age < -clockSlack
	v.age, v.at = max(0, age), v.deps.Clock()
}
