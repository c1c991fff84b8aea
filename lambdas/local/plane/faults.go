package plane

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"originchain/lambdas/local/control"
	"originchain/shared/failover"
)

// Fault implements control.Plane, for drills.
func (p *Plane) Fault(ctx context.Context, fault, id string) (f control.Fault, err error) {
	rec, ok, err := p.record.Load(ctx)
	if err != nil {
		return f, err
	}
	n, known := p.node(rec.Holder)
	if !ok || !known || rec.Released {
		return f, errors.New("no node writes: there is nothing to be failed")
	}
	process, err := p.machines.Process(ctx, n)
	if err != nil || !process.Running {
		return f, errors.Join(fmt.Errorf("%s, whose record it is, does not run", n.ID), err)
	}
	f = control.Fault{ID: id, Fault: fault, Node: n.ID, PID: process.PID, Epoch: uint64(rec.Epoch)}
	return f, p.going.begin(ctx, f, func() (func(context.Context) error, error) {
		f.At = time.Now()
		return p.inflict(ctx, f, n)
	})
}

// inflict makes a fault of a node, and says what ends it. What was killed is started again
// anyway.
func (p *Plane) inflict(ctx context.Context, f control.Fault, n failover.Node) (end func(context.Context) error, err error) {
	switch f.Fault {
	case control.FaultKill:
		return nil, p.machines.Kill(ctx, n, syscall.SIGKILL)
	case control.FaultStop:
		return p.still(n, f.PID, func(ctx context.Context) error { return p.machines.Kill(ctx, n, syscall.SIGCONT) }), p.machines.Kill(ctx, n, syscall.SIGSTOP)
	case control.FaultDisk:
		end, err := fillFiles(f.PID)
		return p.still(n, f.PID, func(context.Context) error { return end() }), err
	case control.FaultPartition:
		return func(context.Context) error { p.ways.heal(n); return nil }, p.partition(n)
	}
	return nil, fmt.Errorf("no fault is called %q", f.Fault)
}

// still ends a fault of the process that it was made of: one that has ended meanwhile has
// taken it along.
func (p *Plane) still(n failover.Node, pid int, end func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		process, err := p.machines.Process(ctx, n)
		if err != nil || !process.Running || process.PID != pid {
			return err
		}
		return end(ctx)
	}
}

// Undo implements control.Plane.
func (p *Plane) Undo(ctx context.Context, f control.Fault) error { return p.going.undo(ctx, f) }
