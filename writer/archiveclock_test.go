package writer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/archive"
	"originchain/shared/datadir"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/objecttest"
)

// A clock that is stepped ahead by a month must not make the whole archive too old.
func TestTheClockOfTheRetentionTakesNoStepAhead(t *testing.T) {
	began := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct{ passed, wall, want time.Duration }{
		"in step":       {time.Hour, time.Hour, time.Hour},
		"stepped ahead": {time.Hour, 31 * 24 * time.Hour, time.Hour},
		"stepped back":  {time.Hour, -24 * time.Hour, -24 * time.Hour},
	} {
		clock := steady{began: began, wall: func() time.Time { return began.Add(c.wall) }, since: func(time.Time) time.Duration { return c.passed }}
		if got := clock.now().Sub(began); got != c.want {
			t.Errorf("%s: %s after the beginning, want %s", name, got, c.want)
		}
	}
}

// A node that has data does not wait for an archive that hangs: it may be the heir of
// a writer that is gone.
func TestAnArchiveThatHangsKeepsNoHeirFromWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := objecttest.NewFaulty(object.NewMemory("memory"), 1)
		store.SetHook(objecttest.Hook{Before: func(ctx context.Context, _ objecttest.Call) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		a := &archiver{store: archive.New(store), cfg: Archiving{Store: store}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := a.mayOpen(ctx, datadir.Identity{InstanceID: ulid.Make()}, lsn.Pos{Epoch: 1, LSN: 7}); err != nil || time.Since(began) > epochWait {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}
