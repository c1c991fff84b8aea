package writer

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/rows"
)

// A write whose table changes again and again is prepared for as long as that is worth it, and
// nothing else is repeated.
func TestAWriteIsPreparedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changed := fmt.Errorf("conflict: %w", rows.ErrSchemaChanged)
		var p preparing
		began, tries := time.Now(), 0
		for p.again(t.Context(), changed) {
			tries++
		}
		if took := time.Since(began); took < prepareFor || took > prepareFor+lsnPoll || tries < 1000 {
			t.Errorf("%d times within %s", tries, took)
		}
		for _, err := range []error{nil, errors.New("conflict")} {
			var p preparing
			if p.again(t.Context(), err) {
				t.Errorf("%v is prepared again", err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if p = (preparing{}); p.again(ctx, changed) {
			t.Error("who has gone is served")
		}
	})
}
