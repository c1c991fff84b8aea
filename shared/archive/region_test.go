package archive

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/object"
)

// abroad is a store in another region than anyone says.
type abroad struct{ *object.Memory }

func (abroad) Resides(context.Context) (string, error) { return "us-east-1", nil }

// A bucket in another region is refused before anything is in it, whatever the first
// writer would call its region.
func TestABucketInAnotherRegionIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := abroad{object.NewMemory("a")}
		n := newNode(t, 1).open(1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var region *RegionError
		if err := n.shipper(store).Run(ctx); !errors.As(err, &region) || region.Theirs != "us-east-1" {
			t.Errorf("got %v", err)
		}
		if got := objects(t, store, ""); len(got) > 0 {
			t.Errorf("it has %q", got)
		}
		s := n.shipper(store, func(c *Config) { c.AllowCrossRegion = true })
		must(t, started(t, s)())
		must(t, n.log.Close())
	})
}
