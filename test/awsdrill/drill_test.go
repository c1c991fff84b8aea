package awsdrill

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"originchain/shared/failover"
	"originchain/test/settle"
)

// pid is that of a node's server; 0 while none runs.
func (n *node) pid() int {
	n.r.t.Helper()
	out, err := n.machine.Systemctl("show", "-p", "MainPID", unitName)
	n.r.must(err)
	pid, err := strconv.Atoi(strings.TrimPrefix(out, "MainPID="))
	n.r.must(err)
	return pid
}

// failedOver checks what a failover from a to b leaves, as every failover does.
func (r *region) failedOver(rep failover.Report, steps string, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("%v\n%s\n%+v", err, steps, rep)
	}
	r.t.Logf("%s%+v", steps, rep.Notes)
	a, b := r.nodes[0], r.nodes[1]
	if rep.Epoch != 2 || rep.From != a.ID || rep.To != b.ID || rep.LostTo != 0 || rep.Error != "" || len(rep.Steps) != len(failover.StepNames()) {
		r.t.Errorf("%+v", rep)
	}
	for i, s := range rep.Steps {
		if s.Name != failover.StepNames()[i] || s.Outcome != failover.OK {
			r.t.Errorf("%+v", s)
		}
	}
	if got := strings.Count(steps, " … ok ("); got != len(rep.Steps) {
		r.t.Errorf("%d steps are told:\n%s", got, steps)
	}
	if left, ok, err := failover.LastFailover(r.t.Context(), r.deps.Registry); err != nil || !ok || left.Run != rep.Run || left.Epoch != rep.Epoch {
		r.t.Errorf("the registry has %+v, %t, %v", left, ok, err)
	}
	ttl, is := r.fake.Route53.Record(r.zone, record+".", "A")
	if ttl != failover.RecordTTL || len(is) != 1 || is[0] != b.Address {
		r.t.Errorf("%s is %v with TTL %d, want %s", record, is, ttl, b.Address)
	}
	if _, unit, err := r.deps.Control.Unit(r.t.Context(), b.Node); err != nil || strings.Contains(string(unit), "--mode follower") || strings.Contains(string(unit), "--leader-addr") {
		r.t.Errorf("the unit of %s, %v:\n%s", b.ID, err, unit)
	}
}

// follows waits until a node follows in sync.
func (r *region) follows(n *node) {
	r.t.Helper()
	settle.Eventually(r.t, n.ID+" follows in sync", func() error {
		if err := r.whole(); err != nil {
			return err
		}
		_, err := n.stands()
		return err
	})
	if s, err := n.stands(); err != nil || s.Role != "follower" {
		r.t.Errorf("%+v, %v", s, err)
	}
}

// fault is what happens to the first writer: strike does it, and mend what a machine that is
// well again does by itself.
type fault struct{ strike, mend func() }

// survives is the story of every failover: a fault under load, another node that takes the
// writer's place, however that comes about, and the one before, which follows it then.
func (r *region) survives(f fault, replace func(l *load, at time.Time)) {
	r.t.Helper()
	l, at := r.load(), time.Now()
	f.strike()
	replace(l, at)
	f.mend()
	r.follows(r.nodes[0])
	l.held()
}

// lostMachine: nobody can be asked to stop anything there, and its lease runs out. When it has
// power again its unit, which says writer, makes a follower of it.
func (r *region) lostMachine() fault {
	return fault{r.nodes[0].lost, r.nodes[0].boots}
}

// frozenServer: it is ended where it is, by a command that its machine carries out, and seen
// to end, so that its epoch is released. Then it is started again, and can only follow.
func (r *region) frozenServer() fault {
	a := r.nodes[0]
	was := a.pid()
	return fault{func() { r.must(syscall.Kill(was, syscall.SIGSTOP)) }, func() {
		settle.Eventually(r.t, "another process of "+a.ID+" runs", func() error {
			if now := a.pid(); now == 0 || now == was {
				return fmt.Errorf("it is %d, and was %d", now, was)
			}
			return nil
		})
	}}
}

// nothing is a writer that is well.
func nothing() fault { return fault{func() {}, func() {}} }

// byScript is an operator's command, which says which nodes are meant; planned: the writer
// hands over.
func (r *region) byScript(name func(*node) string, planned bool) func(*load, time.Time) {
	return func(l *load, at time.Time) {
		r.t.Helper()
		rep, steps, err := r.promote("--writer-instance", name(r.nodes[0]), "--follower-instance", name(r.nodes[1]))
		r.failedOver(rep, steps, err)
		if rep.Planned != planned {
			r.t.Errorf("%+v", rep)
		}
		r.t.Logf("a write was acknowledged after %.2f s", l.reaches(at, 1).Sub(at).Seconds())
	}
}

// A node may be named by its machine, or by its id.
func byMachine(n *node) string { return n.Machine }
func byID(n *node) string      { return n.ID }

func TestAMachineIsLost(t *testing.T) {
	r := newRegion(t)
	r.survives(r.lostMachine(), r.byScript(byMachine, false))
}

func TestAFrozenServer(t *testing.T) {
	r := newRegion(t)
	r.survives(r.frozenServer(), r.byScript(byID, false))
}

// A switchover of a writer that is well; a command of the epoch before, which comes late,
// changes nothing any more.
func TestAPlannedSwitchover(t *testing.T) {
	r := newRegion(t)
	r.survives(nothing(), r.byScript(byID, true))
	b := r.nodes[1]
	was := b.pid()
	out, said, code := b.agent(t.Context(), "exec "+bin+"/oc-node stop --unit "+unitName+" --epoch 1")
	if code != 3 || b.pid() != was {
		t.Errorf("a stop of epoch 1 at the writer of epoch 2: exit code %d, %s%s", code, out, said)
	}
	// So does a restart of its own epoch, which comes when it serves: it asks the server.
	out, said, code = b.agent(t.Context(), "exec "+bin+"/oc-node restart --unattended --unit "+unitName+" --epoch 2")
	if code != 0 || b.pid() != was || !strings.Contains(out, `"left":true`) {
		t.Errorf("a restart of the writer that serves: exit code %d, %s%s", code, out, said)
	}
}
