package archive

import "context"

// resident is a store that knows where its bytes are; "" says that it does not.
type resident interface {
	Resides(ctx context.Context) (string, error)
}

// reside refuses a store whose bytes are in another region than the node: what
// instance.json says is what the first writer took for its own region.
func (c *claim) reside(ctx context.Context) error {
	r, ok := c.a.store.(resident)
	if !ok || c.who.AllowCrossRegion {
		return nil
	}
	region, err := r.Resides(ctx)
	if err != nil || region == "" || region == c.who.Region {
		return err
	}
	return &RegionError{Store: c.a.store.String(), Theirs: region, Ours: c.who.Region}
}
