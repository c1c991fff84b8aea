package plane

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"originchain/lambdas/local/control"
	"originchain/shared/failover"
)

// Fault implements control.Plane, for drills.
func (p *Plane) Fault(ctx context.Context, fault string) (f control.Fault, err error) {
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
	f = control.Fault{Fault: fault, Node: n.ID, PID: process.PID, Epoch: uint64(rec.Epoch), At: time.Now()}
	switch fault {
	case control.FaultKill:
		return f, p.machines.Kill(ctx, n, syscall.SIGKILL)
	case control.FaultStop:
		return f, p.machines.Kill(ctx, n, syscall.SIGSTOP)
	case control.FaultDisk:
		// No file of the process grows, and none takes a byte: what a full disk does, and
		// for this process alone.
		return f, unix.Prlimit(process.PID, unix.RLIMIT_FSIZE, &unix.Rlimit{}, nil)
	case control.FaultPartition:
		return f, p.partition(n)
	}
	return f, fmt.Errorf("no fault is called %q", fault)
}

// Undo implements control.Plane.
func (p *Plane) Undo(ctx context.Context, f control.Fault) (err error) {
	for _, n := range p.nodes {
		if f.Node == "" || f.Node == n.ID {
			err = errors.Join(err, p.undo(ctx, f, n))
		}
	}
	return err
}

// undo ends a fault of a node. What was killed, or has ended by itself, is started again
// anyway.
func (p *Plane) undo(ctx context.Context, f control.Fault, n failover.Node) error {
	switch f.Fault {
	case control.FaultPartition:
		p.ways.heal(n)
	case control.FaultStop:
		process, err := p.machines.Process(ctx, n)
		if err != nil || !process.Running || f.Node != "" && process.PID != f.PID {
			return err // it was ended meanwhile
		}
		return p.machines.Kill(ctx, n, syscall.SIGCONT)
	}
	return nil
}
