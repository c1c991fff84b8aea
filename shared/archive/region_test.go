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

// Nor does a node get an epoch there, which would be one that it cannot ship.
func TestNoEpochIsAllottedInAnotherRegion(t *testing.T) {
	store := abroad{object.NewMemory("a")}
	n := newNode(t, 1).open(1)
	var kept claims
	var region *RegionError
	if epoch, err := AllotEpoch(t.Context(), store, n.claimant(), n.ask(&kept)); epoch != 0 || !errors.As(err, &region) || region.Theirs != "us-east-1" {
		t.Errorf("got epoch %d: %v", epoch, err)
	}
	if got := objects(t, store, ""); len(got)+len(kept) > 0 {
		t.Errorf("it has %q, and the node noted %q", got, kept)
	}
	who := n.claimant()
	who.AllowCrossRegion = true
	if epoch, err := AllotEpoch(t.Context(), store, who, n.ask(&kept)); epoch != 2 || err != nil {
		t.Errorf("allowed by name: epoch %d, %v", epoch, err)
	}
	must(t, n.log.Close())
}
