package plane

import (
	"context"
	"time"

	"originchain/shared/failover"
)

// follow sends the endpoint, and the name in DNS, to who writes, until ctx ends.
func (p *Plane) follow(ctx context.Context) {
	var epoch uint64
	for {
		changed := p.watch.changed()
		if n, s, ok := p.watch.writer(); ok && s.ready && s.Epoch > epoch {
			epoch = s.Epoch
			p.point(ctx, n, s)
		}
		select {
		case <-changed:
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
func (p *Plane) point(ctx context.Context, n failover.Node, s sight) {
	if err := p.proxy.SetWriter(s.lsnEpoch(), n.URL); err != nil {
		p.log.WithError(err).Errorf("the endpoint cannot go to %s", n.ID)
	}
	if err := p.zone.Point(ctx, p.in.Name, n.Address, failover.RecordTTL*time.Second); err != nil && ctx.Err() == nil {
		p.log.WithError(err).Errorf("%s does not name %s", p.in.Name, n.ID)
	}
	if p.in.Tenant == "" {
		return // nobody has endpoints yet
	}
	if err := p.dir.SaveEndpoints(p.in, n.ID); err != nil {
		p.log.WithError(err).Error("the endpoints could not be written")
	}
}
