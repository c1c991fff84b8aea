package awsdrill

import (
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

// A machine is gone: nobody can be asked to stop anything there, and its lease runs out.
// When it has power again its unit, which says writer, makes a follower of it.
func TestAMachineIsLost(t *testing.T) {
	r := newRegion(t)
	a := r.nodes[0]
	l := r.load()
	at := time.Now()
	a.machine.PowerOff()
	r.fake.SSM.Gone(a.Machine)
	rep, steps, err := r.promote("--writer-instance", a.Machine, "--follower-instance", r.nodes[1].Machine)
	r.failedOver(rep, steps, err)
	t.Logf("a write was acknowledged %.2f s after the machine was lost", l.reaches(at, 1).Sub(at).Seconds())
	r.fake.SSM.Machine(a.Machine, a.agent)
	a.machine.Boot()
	a.systemctl("start", unitName)
	r.follows(a)
	l.held()
}

// A server is frozen: it is ended where it is, by a command that its machine carries out,
// and seen to end, so that its epoch is released. Then it is started again, and follows.
func TestAFrozenServer(t *testing.T) {
	r := newRegion(t)
	a := r.nodes[0]
	l := r.load()
	frozen := a.pid()
	at := time.Now()
	r.must(syscall.Kill(frozen, syscall.SIGSTOP))
	rep, steps, err := r.promote("--writer-instance", a.ID, "--follower-instance", r.nodes[1].ID)
	r.failedOver(rep, steps, err)
	t.Logf("a write was acknowledged %.2f s after the server was frozen", l.reaches(at, 1).Sub(at).Seconds())
	r.follows(a)
	if now := a.pid(); now == 0 || now == frozen {
		t.Errorf("the process of %s is %d, and was %d", a.ID, now, frozen)
	}
	l.held()
}

// A switchover of a writer that is well; a command of the epoch before, which comes late,
// changes nothing any more.
func TestAPlannedSwitchover(t *testing.T) {
	r := newRegion(t)
	a := r.nodes[0]
	l := r.load()
	at := time.Now()
	rep, steps, err := r.promote("--writer-instance", a.ID, "--follower-instance", r.nodes[1].ID)
	r.failedOver(rep, steps, err)
	if !rep.Planned {
		t.Errorf("%+v", rep)
	}
	t.Logf("a write was acknowledged %.2f s after it was asked for", l.reaches(at, 1).Sub(at).Seconds())
	r.follows(a)
	b := r.nodes[1]
	was := b.pid()
	out, said, code := b.agent(t.Context(), "exec "+bin+"/oc-node stop --unit "+unitName+" --epoch 1")
	if code != 3 || b.pid() != was {
		t.Errorf("a stop of epoch 1 at the writer of epoch 2: exit code %d, %s%s", code, out, said)
	}
	// So does a restart of its own epoch, which comes when it serves.
	out, said, code = b.agent(t.Context(), "exec "+bin+"/oc-node restart --unattended --unit "+unitName+" --epoch 2")
	if code != 0 || b.pid() != was || !strings.Contains(out, `"left":true`) {
		t.Errorf("a restart of the writer that serves: exit code %d, %s%s", code, out, said)
	}
	l.held()
}
