package sim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"originchain/shared/engine"
	"originchain/shared/rows"
	"originchain/shared/simdisk"
	"originchain/shared/table"
	"originchain/test/oracle"
)

var (
	seedFlag  = flag.Uint64("seed", 1, "first seed of the simulation")
	seedsFlag = flag.Int("n", 1, "number of seeds to run, each in full")
)

// Shape of one workload: rounds of clients, each closed loop, with a clean stop
// and a start between the rounds.
const (
	rounds   = 2
	clients  = 4
	requests = 45 // per client and round
	checkers = 2
	// reopenEvery: at every such cut the reopening itself is cut, at each of its calls.
	reopenEvery = 100
)

// TestSim cuts the power before every call of seeded workloads.
func TestSim(t *testing.T) {
	var cuts int64
	for seed := *seedFlag; seed < *seedFlag+uint64(*seedsFlag); seed++ {
		cuts += crashLoop(t, seed)
	}
	t.Logf("%d crash points", cuts)
	if cuts < 1000*int64(*seedsFlag) {
		t.Errorf("only %d crash points in %d seeds; the workload is too small to prove anything", cuts, *seedsFlag)
	}
}

// cut is one crash to be examined.
type cut struct {
	n    int
	call simdisk.Call
	disk *simdisk.Disk
	evidence
}

// loop runs one workload and takes a cut before each of its calls.
type loop struct {
	t     *testing.T
	seed  uint64
	disk  *simdisk.Disk
	rec   *record
	hist  *history
	cuts  chan cut
	count atomic.Int64
	fail  atomic.Bool
}

func crashLoop(t *testing.T, seed uint64) int64 {
	t.Helper()
	l := &loop{
		t: t, seed: seed, disk: simdisk.New(), rec: &record{},
		hist: newHistory(&oracle.Schemas{}), cuts: make(chan cut, checkers),
	}
	var wg sync.WaitGroup
	for range checkers {
		wg.Go(func() {
			for c := range l.cuts {
				l.examine(&c)
			}
		})
	}
	l.disk.OnCall(l.before)
	l.work()
	l.disk.OnCall(nil)
	close(l.cuts)
	wg.Wait()
	if l.hist.err != nil {
		t.Errorf("seed %d: %v", seed, l.hist.err)
	}
	l.required()
	return l.count.Load()
}

// before takes a cut ahead of a call. What was answered is noted first, then
// the disk is frozen, then what was asked is noted: so nothing that was answered
// may be missing from the cut, and nothing may be in it that was not asked.
func (l *loop) before(n int, call simdisk.Call, freeze func() *simdisk.Disk) {
	if l.fail.Load() {
		return
	}
	c := cut{n: n, call: call}
	c.hist, c.acks = l.hist, l.rec.heard()
	c.disk = freeze()
	c.said = l.rec.said()
	if isTrim(call) {
		l.hist.keep(c.disk, call.Path)
	}
	l.cuts <- c
}

// examine crashes at one cut. Names survive in the order in which they were made,
// as on every journaling file system, because Pebble's marker of the current
// manifest needs that.
func (l *loop) examine(c *cut) {
	if l.fail.Load() {
		return
	}
	l.count.Add(1)
	disk := c.disk.CrashClone(cutRand(l.seed, c.n))
	if c.n%reopenEvery != 0 {
		f, err := c.evidence.examine(disk, l.seed+uint64(c.n), nil)
		if err == nil && c.n%4 == 0 {
			err = f.reopen(disk, l.seed)
		}
		l.report(c, "", err)
		return
	}
	var again []cut
	disk.OnCall(func(n int, call simdisk.Call, freeze func() *simdisk.Disk) {
		again = append(again, cut{n: n, call: call, disk: freeze()})
	})
	_, err := c.evidence.examine(disk, l.seed&^1, func() { disk.OnCall(nil) })
	l.report(c, "", err)
	for _, in := range again {
		l.count.Add(1)
		where := fmt.Sprintf("and again before call %d of the reopening (%s %s)", in.n, in.call.Op, in.call.Path)
		_, err := c.evidence.examine(in.disk.CrashClone(cutRand(l.seed, c.n*1000+in.n)), l.seed, nil)
		l.report(c, where, err)
	}
}

func (l *loop) report(c *cut, inner string, err error) {
	if err == nil {
		return
	}
	if l.fail.CompareAndSwap(false, true) {
		l.t.Errorf("seed %d, power cut before call %d (%s %s) %s:\n%v\nto run it again: go test ./test/sim -run 'TestSim$' -args -seed=%d -n=1", l.seed, c.n, c.call.Op, c.call.Path, inner, err, l.seed)
	}
}

// setup are the names that come into being before the journal does.
var setup = map[string]bool{
	oracle.TableName("sim.journal"): true, oracle.TableName("sim.customers"): true,
	oracle.TableName("sim.orders"): true, oracle.RecordName(table.SpaceTenants, tenant[:]): true,
}

// work is the workload itself.
func (l *loop) work() {
	cs := make([]*client, clients)
	for i := range cs {
		cs[i] = newClient(i, l.seed, l.rec)
	}
	for round := range rounds {
		r, err := open(l.disk, l.seed)
		if err != nil {
			l.t.Fatalf("seed %d, round %d: %v", l.seed, round, err)
		}
		if round == 0 {
			if err := makeTables(r); err != nil {
				l.t.Errorf("seed %d: %v", l.seed, err)
			}
		}
		var wg sync.WaitGroup
		for _, c := range cs {
			wg.Go(func() {
				for range requests {
					c.step(r)
				}
			})
		}
		wg.Wait()
		for _, c := range cs {
			if err := errors.Join(c.errs...); err != nil {
				l.t.Errorf("seed %d, client %d: %v", l.seed, c.id, err)
			}
		}
		if err := r.close(); err != nil {
			l.t.Errorf("seed %d: stop: %v", l.seed, err)
		}
	}
}

// makeTables are the first frames of a workload.
func makeTables(r *run) error {
	_, err := r.Commit(context.Background(), engine.Proposal{Build: func(b *rows.Builder) error {
		return b.PutRecord(table.SpaceTenants, tenant[:], []byte("tenant"), true)
	}})
	if err != nil {
		return err
	}
	for _, m := range []string{journalManifest, customersManifest, ordersManifest} {
		if _, _, err := r.CreateTable(context.Background(), tenant, []byte(m)); err != nil {
			return err
		}
	}
	return nil
}

// required fails a workload that left out what it is there to test.
func (l *loop) required() {
	seen := map[string]int{}
	for _, c := range l.disk.Calls() {
		dir, name := path.Split(c.Path)
		switch {
		case c.Op == simdisk.OpRename && strings.HasSuffix(c.To, ".log"):
			seen["begin a segment"]++
		case c.Op == simdisk.OpRemove && strings.HasSuffix(name, ".log"):
			seen["trim the log"]++
		case c.Op == simdisk.OpRename && strings.Contains(dir, "checkpoints"):
			seen["make a checkpoint"]++
		case c.Op == simdisk.OpCreate && strings.HasSuffix(name, ".sst"):
			seen["flush or compact"]++
		case c.Op == simdisk.OpRemove && strings.HasSuffix(name, ".sst") && strings.Contains(dir, "state"):
			seen["compact"]++
		}
	}
	l.t.Logf("seed %d: %d calls, %d requests, %d answers, %v", l.seed, l.disk.CallCount(), len(l.rec.said()), len(l.rec.heard()), seen)
	for _, what := range []string{"begin a segment", "trim the log", "make a checkpoint", "flush or compact", "compact"} {
		if seen[what] < 2 && !l.fail.Load() {
			l.t.Errorf("seed %d: the workload does not %s", l.seed, what)
		}
	}
}
