package writer

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
)

// TestACheckpointIsThereBeforeTheOneBeforeIsTooOld, whatever its upload takes, and none
// is made much earlier for it.
func TestACheckpointIsThereBeforeTheOneBeforeIsTooOld(t *testing.T) {
	for _, longest := range []time.Duration{0, time.Second, time.Minute, 10 * time.Minute, 20 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(longest), 1))
			var copied, begun time.Time // of the newest that is there
			made := 0
			log, _ := test.NewNullLogger()
			r := rhythm{every: time.Hour, log: log, draw: rng.Int64N}
			r.ship = func(context.Context) error {
				began := time.Now()
				if gap := began.Sub(begun); made > 0 && gap < time.Hour-5*longest/2-3*time.Minute {
					t.Errorf("upload of up to %s: the next begins after %s", longest, gap)
				}
				// Each may take half as long again as the one before.
				time.Sleep(longest*2/3 + time.Duration(rng.Int64N(int64(longest/3)+1)))
				if age := time.Since(copied); made > 0 && age >= time.Hour {
					t.Errorf("upload of up to %s: the newest checkpoint is %s old when the next is there", longest, age)
				}
				copied, begun, made = began, began, made+1
				return nil
			}
			ctx, cancel := context.WithTimeout(t.Context(), 7*24*time.Hour)
			defer cancel()
			r.run(ctx, nil)
			if made < 7*24 {
				t.Errorf("%d checkpoints in a week", made)
			}
		})
	}
}

// TestCheckpointsRestAndAreTriedAgain: one that takes longer than the interval is not
// followed by the next at once, one that failed is tried again soon, and one that is
// wanted is made.
func TestCheckpointsRestAndAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, hook := test.NewNullLogger()
		var began []time.Duration
		start := time.Now()
		takes, fails := 2*time.Hour, error(nil)
		r := rhythm{every: time.Hour, log: log, draw: func(int64) int64 { return 0 }}
		r.ship = func(context.Context) error {
			began = append(began, time.Since(start))
			err := fails
			time.Sleep(takes)
			return err
		}
		ctx, cancel := context.WithCancel(t.Context())
		wanted, done := make(chan struct{}), make(chan struct{})
		go func() { r.run(ctx, wanted); close(done) }()
		time.Sleep(time.Hour)
		takes, fails = 0, errors.New("away")
		time.Sleep(time.Hour + 7*time.Minute) // ends at 2:00:30, and begins again at 2:06:30
		synctest.Wait()
		if len(began) != 3 || began[1]-began[0] != 2*time.Hour+6*time.Minute || began[2]-began[1] != checkpointRetry || hook.LastEntry().Level != logrus.ErrorLevel {
			t.Errorf("began after %v", began)
		}
		fails = nil
		time.Sleep(time.Minute)
		n := len(began)
		wanted <- struct{}{}
		synctest.Wait()
		if len(began) != n+1 {
			t.Errorf("one was wanted: %v", began)
		}
		cancel()
		<-done
	})
}
