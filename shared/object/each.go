package object

import "context"

// Walker is a Store that gives all of a long list for less than its pages would cost.
type Walker interface {
	// Each calls visit for all objects whose key begins with prefix and is above after,
	// in the order of the keys' bytes. What was put before the call is among them. An
	// error of visit ends it, and is returned.
	Each(ctx context.Context, prefix, after string, visit func(Info) error) error
}

// Each is Walker's, for any store: page by page where the store is none.
func Each(ctx context.Context, s Store, prefix, after string, visit func(Info) error) error {
	if w, ok := s.(Walker); ok {
		return w.Each(ctx, prefix, after, visit)
	}
	for {
		page, err := s.List(ctx, prefix, after, MaxList)
		if err != nil {
			return err
		}
		for _, info := range page {
			if err := visit(info); err != nil {
				return err
			}
			after = info.Key
		}
		if len(page) < MaxList {
			return nil
		}
	}
}
