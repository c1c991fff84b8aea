// Package schedule runs jobs every so often, on the monotonic clock. A job never
// overlaps itself, and runs that were missed meanwhile are not made up for: the next one
// comes when an interval has passed since the last began, or at once if it has.
package schedule

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Job is what is to be done.
type Job struct {
	Name string
	// Every is from one beginning to the next.
	Every time.Duration
	// First is how long after the start it begins for the first time.
	First time.Duration
	// Again is from the beginning of a run that failed to the next; 0 for Every.
	Again time.Duration
	// Limit bounds one run by its context; 0 for Every.
	Limit time.Duration
	// Run does it once. A run that fails is told to Failed, and comes again.
	Run func(ctx context.Context) error
}

// Schedule is a set of jobs.
type Schedule struct {
	jobs   []Job
	failed func(job string, err error)
}

// New checks the jobs; failed is told of runs that failed.
func New(jobs []Job, failed func(job string, err error)) (*Schedule, error) {
	seen := make(map[string]bool)
	var faults []error
	for _, j := range jobs {
		if j.Name == "" || seen[j.Name] || j.Every <= 0 || j.First < 0 || j.Again < 0 || j.Limit < 0 || j.Run == nil {
			faults = append(faults, fmt.Errorf("job %q: it needs a name of its own, an interval above 0 and something to run", j.Name))
		}
		seen[j.Name] = true
	}
	return &Schedule{jobs: jobs, failed: failed}, errors.Join(faults...)
}

// Run runs the jobs, each beside the others, until ctx ends, and returns when all runs
// have.
func (s *Schedule) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, j := range s.jobs {
		all.Go(func() { s.repeat(ctx, j) })
	}
	all.Wait()
	return ctx.Err()
}

func (s *Schedule) repeat(ctx context.Context, j Job) {
	wait := j.First
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		begun, pause := time.Now(), j.Every
		if err := once(ctx, j); err != nil && ctx.Err() == nil {
			s.failed(j.Name, err)
			if j.Again > 0 {
				pause = j.Again
			}
		}
		wait = max(0, pause-time.Since(begun))
	}
}

// once runs a job. One that panics has failed; the others go on.
func once(ctx context.Context, j Job) (err error) {
	limit := j.Limit
	if limit == 0 {
		limit = j.Every
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it panicked: %v", p)
		}
	}()
	return j.Run(ctx)
}
