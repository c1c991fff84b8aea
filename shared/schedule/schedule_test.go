package schedule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// begun runs jobs for a while and tells in which second each run of the first began.
func begun(t *testing.T, lasts time.Duration, run func(n int) time.Duration, j Job) (at []int, failed []string) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		running := false
		j.Name = "job"
		j.Run = func(ctx context.Context) error {
			if running {
				t.Error("it overlaps itself")
			}
			running = true
			defer func() { running = false }()
			at = append(at, int(time.Since(start).Seconds()))
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(run(len(at))):
			}
			if len(at) == 2 {
				panic("second")
			}
			return nil
		}
		other := 0
		s, err := New([]Job{j, {Name: "other", Every: time.Second, Run: func(context.Context) error { other++; return nil }}},
			func(name string, err error) { failed = append(failed, fmt.Sprint(name, " ", err)) })
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		if err := s.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run ended with %v", err)
		}
		if want := int(lasts.Seconds()); other < want-1 || other > want+1 {
			t.Errorf("the other job ran %d times in %s", other, lasts)
		}
	})
	return at, failed
}

func TestEveryInterval(t *testing.T) {
	at, failed := begun(t, 34*time.Second, func(int) time.Duration { return 3 * time.Second }, Job{Every: 10 * time.Second, First: 5 * time.Second})
	if !slices.Equal(at, []int{5, 15, 25}) || !slices.Equal(failed, []string{"job it panicked: second"}) {
		t.Errorf("begun at %v, failed %v", at, failed)
	}
}

// A run that takes three intervals is followed by one, at once, and then by the interval.
func TestMissedRunsAreNotMadeUpFor(t *testing.T) {
	at, _ := begun(t, 64*time.Second, func(n int) time.Duration {
		if n == 1 {
			return 35 * time.Second
		}
		return time.Second
	}, Job{Every: 10 * time.Second, Limit: time.Minute})
	if !slices.Equal(at, []int{0, 35, 45, 55}) {
		t.Errorf("begun at %v", at)
	}
}

func TestARunIsBounded(t *testing.T) {
	at, failed := begun(t, 25*time.Second, func(int) time.Duration { return time.Hour }, Job{Every: 10 * time.Second})
	if !slices.Equal(at, []int{0, 10, 20}) || !slices.Equal(failed, []string{"job context deadline exceeded", "job context deadline exceeded"}) {
		t.Errorf("begun at %v, failed %v", at, failed)
	}
}

func TestJobsAreChecked(t *testing.T) {
	run := func(context.Context) error { return nil }
	for _, jobs := range [][]Job{{{Name: "a", Run: run}}, {{Every: 1, Run: run}}, {{Name: "a", Every: 1}}, {{Name: "a", Every: 1, Run: run}, {Name: "a", Every: 1, Run: run}}} {
		if _, err := New(jobs, nil); err == nil {
			t.Errorf("%+v was taken", jobs)
		}
	}
}

// A run that failed, here the second, does not wait for a whole interval.
func TestAFailedRunComesAgainSooner(t *testing.T) {
	at, _ := begun(t, 33*time.Second, func(int) time.Duration { return time.Second }, Job{Every: 10 * time.Second, Again: 4 * time.Second})
	if !slices.Equal(at, []int{0, 10, 14, 24}) {
		t.Errorf("begun at %v", at)
	}
}
