// Package load is the client side of the benchmarks: it keeps connections to a
// server busy and measures how long each answer takes. It runs in a process of
// its own, so that its work never hides in the server's. Requests are written
// to the socket as they are and answers are read just far enough: the client
// shares two cores with the server, and each microsecond it takes is one less.
package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Spec says what to do. It crosses the process boundary as JSON.
type Spec struct {
	// Address is host:port of the server.
	Address string `json:"address"`
	Token   string `json:"token"`
	Tenant  string `json:"tenant"`
	Kind    Kind   `json:"kind"`
	Schema  string `json:"schema"`
	// FirstID is where Insert takes its ids from; Read and Query draw ids from 1 to Rows.
	FirstID int64 `json:"first_id"`
	Rows    int64 `json:"rows"`
	// Origins are the values Query asks for.
	Origins []string `json:"origins"`

	Connections int `json:"connections"`
	// Rate is the number of requests per second of an open loop: requests start
	// at their scheduled times, whether or not earlier ones were answered, and
	// latency counts from the scheduled time. 0 is a closed loop: each
	// connection sends its next request when its last was answered.
	Rate float64 `json:"rate"`
	// WarmUp comes before Duration and is not counted.
	WarmUp   time.Duration `json:"warm_up"`
	Duration time.Duration `json:"duration"`
}

// Kind is what a request does.
type Kind string

// The kinds of requests.
const (
	// Insert posts one flight with a fresh id.
	Insert Kind = "insert"
	// Read gets one row by its primary key.
	Read Kind = "read"
	// Query runs a SELECT over a secondary index.
	Query Kind = "query"
	// Health gets /health.
	Health Kind = "health"
)

// Result is what was measured. Latencies are of the requests of Duration.
type Result struct {
	Requests int `json:"requests"`
	// Errors counts requests that were not answered with 2xx; FirstError is one of them.
	Errors     int           `json:"errors"`
	FirstError string        `json:"first_error,omitempty"`
	Elapsed    time.Duration `json:"elapsed"`
	Mean       time.Duration `json:"mean"`
	P50        time.Duration `json:"p50"`
	P99        time.Duration `json:"p99"`
	P999       time.Duration `json:"p999"`
	Max        time.Duration `json:"max"`
	// NextID is the first id that Insert has not used.
	NextID int64 `json:"next_id"`
}

// PerSecond is the rate that was reached.
func (r *Result) PerSecond() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

// Err is an error if any request failed: a figure with failures is no figure.
func (r *Result) Err() error {
	if r.Errors == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d requests failed, the first with: %s", r.Errors, r.Requests+r.Errors, r.FirstError)
}

func (s *Spec) check() error {
	if s.Connections < 1 || s.Duration <= 0 || s.Rate < 0 {
		return fmt.Errorf("load: want connections, a duration and no negative rate, got %d, %s, %g", s.Connections, s.Duration, s.Rate)
	}
	switch {
	case s.Kind == Insert, s.Kind == Health, s.Kind == Read && s.Rows > 0, s.Kind == Query && len(s.Origins) > 0:
		return nil
	}
	return fmt.Errorf("load: kind %q, or what it draws from, is missing", s.Kind)
}

// Main is the client process: a Spec on in, a Result on out.
func Main(in io.Reader, out io.Writer) error {
	var s Spec
	if err := json.NewDecoder(in).Decode(&s); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	r, err := Run(s)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

// Run does what s says.
func Run(s Spec) (*Result, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	g := newGenerator(&s)
	begin := time.Now().Add(s.WarmUp)
	l, err := newLoop(&s, g, begin, begin.Add(s.Duration))
	if err != nil {
		return nil, err
	}
	if err := l.run(); err != nil {
		return nil, errors.Join(err, l.close())
	}
	// What was under way at the end is counted; it took until now.
	elapsed := time.Since(begin)
	if s.Rate > 0 {
		elapsed = max(s.Duration, elapsed)
	}
	return l.result(elapsed), l.close()
}

func (l *loop) result(elapsed time.Duration) *Result {
	r := &Result{Elapsed: elapsed, NextID: l.gen.nextID, Requests: len(l.took), Errors: l.errors, FirstError: l.firstError}
	if len(l.took) == 0 {
		return r
	}
	slices.Sort(l.took)
	var total time.Duration
	for _, d := range l.took {
		total += d
	}
	r.Mean = total / time.Duration(len(l.took))
	r.P50, r.P99, r.P999, r.Max = Quantile(l.took, 0.5), Quantile(l.took, 0.99), Quantile(l.took, 0.999), l.took[len(l.took)-1]
	return r
}

// Quantile of sorted durations: the smallest that at least a share q of them
// does not exceed; 0 of none.
func Quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	i := int(q * float64(len(sorted)))
	return sorted[min(i, len(sorted)-1)]
}
