package incident

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/alarms"
)

// rival has somebody else be faster with a document, so many times.
type rival struct {
	*memory
	key   string
	times int
	begun time.Time
	// tried is when each Save came, after the beginning.
	tried []time.Duration
}

func (r *rival) Save(ctx context.Context, key string, expect uint64, b []byte) (uint64, error) {
	if key != r.key {
		return r.memory.Save(ctx, key, expect, b)
	}
	r.tried = append(r.tried, time.Since(r.begun))
	if len(r.tried) <= r.times {
		return 0, fmt.Errorf("save %s: %w", key, ErrConflict)
	}
	return r.memory.Save(ctx, key, expect, b)
}

// contended calls f in a bubble for each document that is changed when others may be faster:
// the index of incidents, and an incident.
func contended(t *testing.T, times int, f func(t *testing.T, r *rival, open func(context.Context) error)) {
	for name, key := range map[string]string{"index": indexKey, "incident": incidents + "i"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &rival{memory: newMemory(), key: key, times: times, begun: time.Now()}
				n := -1.0
				s := NewStore(r, Fixed{{ID: "hook", Webhook: "https://h.example", Secret: "0123456789abcdef", UpTo: alarms.Drift}}, time.Now, func() float64 {
					n++
					return math.Mod(n/4, 1)
				})
				f(t, r, func(ctx context.Context) error {
					_, err := s.Open(ctx, silent("i"))
					return err
				})
			})
		})
	}
}

// TestWhoIsSlowerGivesWay: the first try waits for nobody, and each one after it for another
// while, so that those who met do not meet again.
func TestWhoIsSlowerGivesWay(t *testing.T) {
	contended(t, 3, func(t *testing.T, r *rival, open func(context.Context) error) {
		if err := open(t.Context()); err != nil {
			t.Fatal(err)
		}
		want, at := []time.Duration{0}, time.Duration(0)
		for n := range 3 {
			at += leastWay + time.Duration(n)*(mostWay-leastWay)/4
			want = append(want, at)
		}
		if diff := cmp.Diff(want, r.tried); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestNobodyGivesWayForEver: the tries have a bound.
func TestNobodyGivesWayForEver(t *testing.T) {
	contended(t, 1000, func(t *testing.T, r *rival, open func(context.Context) error) {
		if err := open(t.Context()); !errors.Is(err, ErrConflict) || len(r.tried) != maxTries {
			t.Errorf("%d tries: %v", len(r.tried), err)
		}
	})
}

// TestWhoHasNoTimeLeftGivesNoWay: the wait ends with the context, and with its reason.
func TestWhoHasNoTimeLeftGivesNoWay(t *testing.T) {
	over := errors.New("the run is over")
	contended(t, 1000, func(t *testing.T, r *rival, open func(context.Context) error) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), leastWay/2, over)
		defer cancel()
		if err := open(ctx); !errors.Is(err, over) || len(r.tried) != 1 || time.Since(r.begun) != leastWay/2 {
			t.Errorf("%d tries in %v: %v", len(r.tried), time.Since(r.begun), err)
		}
	})
}
