package pitrverify

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"originchain/shared/telemetry"
)

var errConflict = errors.New("conflict")

// document is a store of one document.
type document struct {
	b       []byte
	version uint64
	fail    error
	// before is called before a Save takes effect.
	before func()
}

func (d *document) Load(context.Context, string) ([]byte, uint64, bool, error) {
	return d.b, d.version, d.version > 0, nil
}

func (d *document) Save(_ context.Context, _ string, expect uint64, b []byte) (uint64, error) {
	if d.before != nil {
		before := d.before
		d.before = nil
		before()
	}
	switch {
	case d.fail != nil:
		return 0, d.fail
	case expect != d.version:
		return 0, errConflict
	}
	d.b, d.version = b, d.version+1
	return d.version, nil
}

// world is a clock, and what the next verification finds.
type world struct {
	wall, mono time.Duration
	result     Result
	err        error
	takes      time.Duration
}

func (w *world) pass(d time.Duration) { w.wall, w.mono = w.wall+d, w.mono+d }

func (w *world) verifier(d *document) (*Verifier, func() float64) {
	m := telemetry.NewMetrics()
	v := New(Deps{Documents: d, Conflict: func(err error) bool { return errors.Is(err, errConflict) },
		Verify: func(context.Context) (Result, error) { w.pass(w.takes); return w.result, w.err },
		Now:    func() time.Time { return time.Unix(1_700_000_000, 0).Add(w.wall) }, Clock: func() time.Duration { return w.mono }, Metrics: m})
	return v, func() float64 {
		families, err := m.Gatherer().Gather()
		if err != nil {
			return math.NaN()
		}
		for _, f := range families {
			if f.GetName() == "oc_pitr_last_verified_age_s" {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return math.NaN()
	}
}

func TestOnlyAFullVerificationIsGreen(t *testing.T) {
	d, w := &document{}, &world{takes: time.Minute}
	v, age := w.verifier(d)
	if !math.IsInf(age(), 1) {
		t.Errorf("before anything is known: %v", age())
	}
	if _, err := v.Load(t.Context()); err != nil || age() != 0 {
		t.Fatalf("the first start: %v, %v", age(), err)
	}
	w.pass(time.Hour)
	before := age()
	for name, c := range map[string]struct {
		result Result
		err    error
	}{
		"an error":            {Result{Full: true, OK: true}, errors.New("no space for oc_live_abc")},
		"partial":             {Result{OK: true}, nil},
		"not well":            {Result{Full: true}, nil},
		"faults":              {Result{Full: true, OK: true, Faults: 2}, nil},
		"nothing":             {Result{}, nil},
		"broken off by us":    {Result{Full: true, OK: true}, context.Canceled},
		"an error and faults": {Result{Full: true, Faults: 1}, errors.New("x")},
	} {
		w.result, w.err = c.result, c.err
		run, err := v.Handle(t.Context())
		if err == nil || run.Green || run.Error == "" || age() <= before {
			t.Errorf("%s: %+v, %v, age %v", name, run, err, age())
		}
		before = age()
	}
	w.result, w.err = Result{Full: true, OK: true, LSN: 9}, nil
	if run, err := v.Handle(t.Context()); err != nil || !run.Green || age() != 0 {
		t.Fatalf("%+v, %v, age %v", run, err, age())
	}
	w.pass(time.Hour)
	w.wall += time.Hour // the wall clock is set ahead: the age goes by the monotonic one
	if age() != 3600 {
		t.Errorf("an hour later the age is %v", age())
	}
}

func TestTheAgeOutlivesTheProcess(t *testing.T) {
	d, w := &document{}, &world{result: Result{Full: true, OK: true}}
	v, _ := w.verifier(d)
	if _, err := v.Handle(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.pass(40 * time.Hour)
	v, age := w.verifier(d)
	r, err := v.Load(t.Context())
	if err != nil || age() != 40*3600 || r.Green == nil || r.Last == nil || !r.Last.Green {
		t.Fatalf("%v, %v: %+v", age(), err, r)
	}
	w.wall = -time.Hour // the clock of this machine is behind the record
	v, age = w.verifier(d)
	if _, err := v.Load(t.Context()); err != nil || !math.IsInf(age(), 1) {
		t.Errorf("a verification of the future: %v, %v", age(), err)
	}
	// One that is green now is known, although the record has one of later.
	if _, err := v.Handle(t.Context()); err != nil || age() != 0 {
		t.Errorf("verified with a clock that was set back: %v, %v", err, age())
	}
	d.b = []byte(`{"format":2}`)
	if _, err := v.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("%v", err)
	}
}

// What could not be recorded is not green, and somebody else's later record stands.
func TestTheRecordDecides(t *testing.T) {
	d, w := &document{}, &world{result: Result{Full: true, OK: true}}
	v, age := w.verifier(d)
	if _, err := v.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Hour)
	d.fail = errors.New("away")
	if _, err := v.Handle(t.Context()); err == nil || age() != 3600 {
		t.Fatalf("not recorded: %v, age %v", err, age())
	}
	d.fail = nil
	other := &world{result: Result{Full: true, OK: true, LSN: 2}, wall: 2 * time.Hour}
	d.before = func() {
		o, _ := other.verifier(d)
		if _, err := o.Handle(t.Context()); err != nil {
			t.Error(err)
		}
	}
	w.result.LSN = 1
	w.wall = 2 * time.Hour
	if _, err := v.Handle(t.Context()); err != nil || age() != 0 {
		t.Fatalf("%v %v", err, age())
	}
	w.wall = time.Hour // this one ended before the other's
	w.err = errors.New("x")
	_, _ = v.Handle(t.Context())
	if r, err := v.Load(t.Context()); err != nil || r.Last.LSN != 1 || !r.Last.Green || !r.Green.Equal(time.Unix(1_700_000_000, 0).Add(2*time.Hour)) {
		t.Errorf("%+v, %v", r.Last, err)
	}
}
