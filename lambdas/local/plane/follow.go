package plane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"originchain/shared/failover"
)

// pointAgain is the pause before what could not be pointed at the writer is tried again.
const pointAgain = time.Second

// follow sends the endpoint, and the name in DNS, to who writes, until ctx ends. What
// fails is tried again: there may be no other epoch for a long time.
func (p *Plane) follow(ctx context.Context) {
	var epoch uint64
	left := false // something is to be pointed there still
	var again <-chan time.Time
	for {
		changed := p.watch.changed()
		n, s, ok := p.watch.writer()
		if ok && s.ready && (s.Epoch > epoch || left && s.Epoch == epoch && again == nil) {
			epoch, again, left = s.Epoch, nil, false
			if err := p.point(ctx, n, s); err != nil && ctx.Err() == nil {
				p.log.WithError(err).Errorf("clients are not all sent to %s yet; it is tried again every %s", n.ID, pointAgain)
				again, left = time.After(pointAgain), true
			}
		}
		select {
		case <-changed:
		case <-again:
			again = nil
		case <-p.proxy.Hints():
			p.watch.all(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// Point implements control.Plane.
func (p *Plane) Point(ctx context.Context, name, address string, ttl time.Duration) error {
	return p.zone.Point(ctx, name, address, ttl)
}

// point makes a node the one that clients find.
func (p *Plane) point(ctx context.Context, n failover.Node, s sight) (err error) {
	if failed := p.proxy.SetWriter(s.lsnEpoch(), n.URL); failed != nil {
		err = errors.Join(err, fmt.Errorf("the endpoint cannot go there: %w", failed))
	}
	if failed := p.zone.Point(ctx, p.in.Name, n.Address, failover.RecordTTL*time.Second); failed != nil {
		err = errors.Join(err, fmt.Errorf("%s does not name it: %w", p.in.Name, failed))
	}
	if failed := p.saveEndpoints(n.ID); failed != nil {
		err = errors.Join(err, fmt.Errorf("the endpoints could not be written: %w", failed))
	}
	return err
}
