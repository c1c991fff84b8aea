package restore

import (
	"cmp"
	"context"

	"originchain/shared/object"
)

// Each implements object.Walker: a list that broke off goes on behind what was visited.
func (p patient) Each(ctx context.Context, prefix, after string, visit func(object.Info) error) error {
	for {
		var broken, refused error
		from := after
		err := again(ctx, func() error {
			broken = object.Each(ctx, p.Store, prefix, after, func(info object.Info) error {
				if refused = visit(info); refused == nil {
					after = info.Key
				}
				return refused
			})
			if refused != nil || after != from {
				return nil // it came on: what follows is no further try of the same
			}
			return broken
		})
		if refused != nil || err != nil || broken == nil || final(broken) || ctx.Err() != nil {
			return cmp.Or(refused, err, broken)
		}
	}
}
