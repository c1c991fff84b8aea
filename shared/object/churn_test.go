package object

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// TestEachMissesNothingThatStays while others put and delete beside it.
func TestEachMissesNothingThatStays(t *testing.T) {
	f := NewFolder(t.TempDir())
	const stay = 200
	for i := range stay {
		put(t, f, fmt.Sprintf("log/%03d/stay", i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	for w := range 2 {
		g.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				k := fmt.Sprintf("log/%03d/go%d", i%(2*stay), w)
				if err := errors.Join(f.Put(ctx, k, Bytes([]byte(k))), f.Delete(ctx, k)); err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v", k, err)
				}
			}
		})
	}
	for range 20 {
		met, last := 0, ""
		err := Each(t.Context(), f, "log/", "", func(info Info) error {
			if info.Key <= last {
				t.Errorf("%s after %s", info.Key, last)
			}
			if last = info.Key; strings.HasSuffix(last, "/stay") {
				met++
			}
			return nil
		})
		if err != nil || met != stay {
			t.Errorf("%d of %d: %v", met, stay, err)
		}
	}
	cancel()
	g.Wait()
}
