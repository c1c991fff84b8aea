package awsdrill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"originchain/lambdas/local/drill"
	"originchain/shared/failover"
	"originchain/test/settle"
)

// process is that of a node's server; 0 while none runs.
func (n *node) process() (int, error) {
	out, err := n.machine.Systemctl("show", "-p", "MainPID", unitName)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimPrefix(out, "MainPID="))
}

func (n *node) pid() int {
	n.r.t.Helper()
	pid, err := n.process()
	n.r.must(err)
	return pid
}

// failedOver checks what a failover from a to b leaves, as every failover does.
func (r *region) failedOver(rep failover.Report, steps string) {
	r.t.Helper()
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

// fault is what happens to the first writer: strike does it, mend is what a machine that is
// well again does by itself, and back says what is wrong with how its server came back.
type fault struct {
	name         string
	strike, mend func()
	back         func() error
}

// survives is the story of every failover: a fault under load, another node that takes the
// writer's place, however that comes about, and the one before, which follows it then. What
// the clients saw is reported as by every drill.
func (r *region) survives(f fault, replace func(at time.Time) error) drill.Report {
	r.t.Helper()
	rep, err := drill.Run(r.t.Context(), drill.Plan{
		Load: r.load(), Fault: f.name, Epoch: 1,
		Do: func(context.Context) (time.Time, uint64, error) {
			at := time.Now()
			f.strike()
			return at, 1, replace(at)
		},
		Undo: func(context.Context) error { f.mend(); return nil },
		Rejoined: func(ctx context.Context) error {
			return settle.Becomes(ctx, func() error { return errors.Join(f.back(), r.rejoined()) })
		},
		Report: func(ctx context.Context) (json.RawMessage, error) {
			left, _, err := failover.LastFailover(ctx, r.deps.Registry)
			return json.RawMessage(indented(r.t, left)), err
		},
		Say: r.t.Logf,
	})
	r.t.Logf("%s\n%s", rep.Text(), indented(r.t, rep))
	if err != nil {
		r.t.Fatal(err)
	}
	r.passed(rep)
	return rep
}

// rejoined says what is wrong unless the first writer follows the second, in sync.
func (r *region) rejoined() error {
	if err := r.whole(); err != nil {
		return err
	}
	rec, _, err := r.deps.Lease.Load(context.Background())
	if err != nil {
		return err
	}
	a, b := r.nodes[0], r.nodes[1]
	s, err := a.stands()
	if err != nil || s.Role != "follower" || rec.Epoch != 2 || rec.Holder != b.ID || !slices.Equal(rec.InSync, []string{a.ID}) {
		return fmt.Errorf("%s is a %s, %v; epoch %d is %s's, and %v in sync", a.ID, s.Role, err, rec.Epoch, rec.Holder, rec.InSync)
	}
	return nil
}

// passed checks what the report of a drill says, but for how long anything took.
func (r *region) passed(rep drill.Report) {
	r.t.Helper()
	if rep.Verdict != drill.Passed || rep.EpochBefore != 1 || rep.EpochAfter != 2 || rep.Writers != clients || rep.Beside != nil {
		r.t.Errorf("%s, epoch %d, then %d; %d writers, beside %+v", rep.Verdict, rep.EpochBefore, rep.EpochAfter, rep.Writers, rep.Beside)
	}
	r.there(rep)
	var took failover.Report
	r.must(json.Unmarshal(rep.Failover, &took))
	if took.Epoch != rep.EpochAfter || took.From != r.nodes[0].ID || took.To != r.nodes[1].ID || took.LostTo != 0 || took.Error != "" {
		r.t.Errorf("%+v", took)
	}
}

func indented(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Error(err)
	}
	return b
}

// lostMachine: nobody can be asked to stop anything there, and its lease runs out. When it has
// power again its unit, which says writer, makes a follower of it.
func (r *region) lostMachine() fault {
	return fault{"machine", r.nodes[0].lost, r.nodes[0].boots, func() error { return nil }}
}

// frozenServer: it is ended where it is, by a command that its machine carries out, and seen
// to end, so that its epoch is released. Then it is started again, and can only follow.
func (r *region) frozenServer() fault {
	a := r.nodes[0]
	was := a.pid()
	return fault{"stop", func() { r.must(syscall.Kill(was, syscall.SIGSTOP)) }, func() {}, func() error {
		now, err := a.process()
		if err == nil && (now == 0 || now == was) {
			err = fmt.Errorf("the process of %s is %d, and was %d", a.ID, now, was)
		}
		return err
	}}
}

// nothing is a writer that is well.
func nothing() fault { return fault{"planned", func() {}, func() {}, func() error { return nil }} }

// byScript is an operator's command, which says which nodes are meant; planned: the writer
// hands over.
func (r *region) byScript(name func(*node) string, planned bool) func(time.Time) error {
	return func(time.Time) error {
		r.t.Helper()
		rep, steps, err := r.promote("--writer-instance", name(r.nodes[0]), "--follower-instance", name(r.nodes[1]))
		if err != nil {
			return fmt.Errorf("%w\n%s\n%+v", err, steps, rep)
		}
		r.failedOver(rep, steps)
		if rep.Planned != planned {
			r.t.Errorf("%+v", rep)
		}
		return nil
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
