package plane

import (
	"context"
	"time"

	"originchain/shared/datadir"
	"originchain/shared/failover"
)

// lossEvery is how often the report of the last failover is held against its old writer.
const lossEvery = time.Second

// losses says when to look next. The guard alone uses it.
type losses struct{ next time.Time }

// learnLoss corrects what the last failover lost, once its old writer is back and says
// which frames it has set aside.
func (p *Plane) learnLoss(ctx context.Context) {
	if time.Now().Before(p.losses.next) {
		return
	}
	p.losses.next = time.Now().Add(lossEvery)
	rec, ok, err := p.record.Load(ctx)
	if err != nil || !ok {
		return // the guard has said so
	}
	for _, n := range p.nodes {
		s := p.watch.of(n.ID)
		if !s.answers {
			continue
		}
		made, err := datadir.Made(p.dir.Data(n.Machine))
		if err != nil {
			continue // it has none yet
		}
		r, changed, err := failover.Returned(ctx, p.registry, rec, s.Replication, made)
		switch log := p.log.WithField("node", n.ID); {
		case err != nil && ctx.Err() == nil:
			log.WithError(err).Error("what the last failover lost is not corrected yet")
		case changed && r.LostTo > 0:
			log.WithField("lost_from", r.LostFrom).WithField("lost_to", r.LostTo).Warn("the old writer is back: these LSNs only it had, and it keeps them in its divergent files")
		case changed:
			log.Info("the old writer is back: nothing was lost with it")
		}
	}
}
