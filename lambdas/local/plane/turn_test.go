package plane

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A failover waits for what takes a moment, and is told which other one has its turn.
func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := newTurn()
		if !turn.try("") || turn.try("") {
			t.Fatal("one has the turn")
		}
		go func() {
			<-time.After(turnPatience / 2)
			turn.end()
		}()
		if err := turn.take(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		var busy *busyError
		if err := turn.take(t.Context(), "c"); !errors.As(err, &busy) || busy.To != "b" {
			t.Errorf("%v", err)
		}
		turn.end()
		if err := turn.take(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
	})
}
