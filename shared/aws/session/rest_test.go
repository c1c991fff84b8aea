package session

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A rest takes between half of the pause and all of it, and not always the same.
func TestARest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pause = 10 * time.Second
		took := map[time.Duration]bool{}
		for range 100 {
			began := time.Now()
			if err := Rest(t.Context(), pause); err != nil {
				t.Fatal(err)
			}
			rested := time.Since(began)
			if rested < pause/2 || rested > pause {
				t.Errorf("a pause of %s took %s", pause, rested)
			}
			took[rested] = true
		}
		if len(took) < 50 {
			t.Errorf("of 100 rests %d were of another length: callers meet again", len(took))
		}
	})
}

// Who is told to end does not rest on.
func TestARestThatIsBrokenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("the call ends")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		began := time.Now()
		if err := Rest(ctx, time.Minute); !errors.Is(err, why) || time.Since(began) != time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}
