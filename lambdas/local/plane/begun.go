package plane

import (
	"context"
	"time"

	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// openWithin is how long a writer whose process runs has to open after all were started,
// before another node takes its place: it may have a log to replay, and a record that was
// released in order would otherwise be anybody's who is faster.
const openWithin = 20 * time.Second

// begun is the record's epoch when the nodes were started, and when that was.
type begun struct {
	epoch lsn.Epoch
	at    time.Time
}

// opens says whether nobody has opened an epoch since, and the time for that runs.
func (b begun) opens(rec lease.Record, now time.Time) bool {
	return rec.Epoch == b.epoch && now.Sub(b.at) < openWithin
}

// runs says whether a node's process is there.
func (p *Plane) runs(ctx context.Context, node string) bool {
	n, ok := p.node(node)
	if !ok {
		return false
	}
	process, err := p.machines.Process(ctx, n)
	return err == nil && process.Running
}
