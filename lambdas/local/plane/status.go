package plane

import (
	"context"
	"encoding/json"

	"originchain/lambdas/local/control"
	"originchain/shared/failover"
)

// Status implements control.Plane: it says what was heard within the last moments.
func (p *Plane) Status(ctx context.Context) (control.Status, error) {
	out := control.Status{Followers: []control.Follower{}, Alarms: p.bells.firing(), LastFailover: json.RawMessage("{}")}
	rec, _, err := p.record.Load(ctx)
	if err != nil {
		return out, err
	}
	out.Epoch = uint64(rec.Epoch)
	if out.Incidents, err = p.openIncidents(ctx); err != nil {
		return out, err
	}
	if out.Verification, err = p.verification(ctx); err != nil {
		return out, err
	}
	writer, seen, writes := p.watch.writer()
	if writes {
		out.Epoch = max(out.Epoch, seen.Epoch)
	}
	for _, n := range p.nodes {
		node := control.Node{Node: n.ID, Address: n.URL}
		if process, err := p.machines.Process(ctx, n); err == nil && process.Running {
			node.PID = process.PID
		}
		// Where nobody says that it writes, it is whose the record is.
		if writes && n.ID == writer.ID || !writes && n.ID == rec.Holder {
			out.Writer = node
			continue
		}
		out.Followers = append(out.Followers, p.follower(n, node, seen, writes))
	}
	if last, err := p.lastFailover(ctx); err != nil {
		return out, err
	} else if last != nil {
		out.LastFailover = last
	}
	return out, nil
}

// follower is what the writer says of a node, and the node of itself.
func (p *Plane) follower(n failover.Node, node control.Node, writer sight, writes bool) control.Follower {
	f := control.Follower{Node: node}
	own := p.watch.of(n.ID)
	f.AppliedLSN = own.AppliedLSN
	if !writes {
		return f
	}
	for _, seen := range writer.Followers {
		if seen.Node == n.ID {
			f.Connected, f.InSync = seen.Connected, seen.Sync
		}
	}
	return f
}
