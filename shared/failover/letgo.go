package failover

import (
	"context"
	"fmt"
	"time"
)

// startTimeout bounds the start of a server that was held.
const startTimeout = 30 * time.Second

// LetGo starts the old writer's server again, which fence has stopped and which nothing
// else starts since: by the record it follows the new writer. Where a supervisor does so
// by itself there is no need for it.
//
// Invariant: nobody is started before another node has confirmed an epoch above its own.
func LetGo(ctx context.Context, d Deps, r Report) error {
	nodes, err := Nodes(ctx, d.Registry)
	if err != nil {
		return err
	}
	old, err := find(nodes, r.From)
	if err != nil {
		return err
	}
	rec, _, err := d.Lease.Load(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%s is not started: read the record of who writes: %w", old.ID, err)
	case rec.Holder == old.ID || uint64(rec.Epoch) < r.Epoch || !rec.Confirmed():
		return fmt.Errorf("%s is not started: the record names %s for epoch %d, confirmed %t", old.ID, rec.Holder, rec.Epoch, rec.Confirmed())
	}
	short, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := asOf(d.Control, uint64(rec.Epoch)).Start(short, old); err != nil {
		return fmt.Errorf("the server of %s may be held, and was not let go: %w", old.ID, err)
	}
	return nil
}
