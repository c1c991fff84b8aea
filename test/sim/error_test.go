package sim

import (
	"errors"
	"fmt"
	"path"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"originchain/shared/fault"
	"originchain/shared/simdisk"
	"originchain/test/oracle"
)

// Shape of the workload in which one call fails: short, because it runs once
// for every call.
const (
	errorClients = 3
	// errorRequests is what a client sends before the fault must have been met.
	errorRequests = 18
	// afterRequests is what it sends after it, to see what the engine does then.
	afterRequests = 6
	// patience is how many times errorRequests the clients go on when a fault
	// has not been met yet; calls are not the same in number from run to run.
	patience = 10
	// errorStride leaves calls out in a plain test; a simulation takes them all.
	errorStride = 3
)

// TestSimErrors fails every call of a workload once: with an I/O error, a full
// disk or a torn write, for a moment or for ever.
func TestSimErrors(t *testing.T) {
	stride := errorStride
	if *seedsFlag > 1 {
		stride = 1
	}
	for seed := *seedFlag; seed < *seedFlag+uint64(*seedsFlag); seed++ {
		errorLoop(t, seed, stride)
	}
}

func errorLoop(t *testing.T, seed uint64, stride int) {
	t.Helper()
	plan := &errorRun{seed: seed, disk: simdisk.New(), rec: &record{}}
	if err := plan.serve(); err != nil {
		t.Fatalf("seed %d, without a fault: %v", seed, err)
	}
	total := plan.disk.CallCount()
	points := make(chan int)
	var wg sync.WaitGroup
	var stopped atomic.Int64
	var failed atomic.Bool
	for range checkers {
		wg.Go(func() {
			for n := range points {
				if failed.Load() {
					continue
				}
				run := &errorRun{seed: seed, n: n, disk: simdisk.New(), rec: &record{}}
				err := guarded(run)
				if run.stopped {
					stopped.Add(1)
				}
				if err != nil && failed.CompareAndSwap(false, true) {
					t.Errorf("seed %d, %s: %v\nto run it again: go test ./test/sim -run 'TestSimErrors$' -args -seed=%d", seed, run.what(), err, seed)
				}
			}
		})
	}
	count := 0
	for n := 1 + int(seed)%stride; n < total; n += stride {
		points <- n
		count++
	}
	close(points)
	wg.Wait()
	t.Logf("seed %d: %d of %d calls failed, %d stopped the engine", seed, count, total, stopped.Load())
}

// errorRun is a workload in which call n fails.
type errorRun struct {
	seed    uint64
	n       int
	disk    *simdisk.Disk
	rec     *record
	hist    *history
	stopped bool
	// done counts requests and phases, so that a hang can be told from work.
	done atomic.Int64
}

// fault is the one that call n suffers: its kind goes round with n.
func (e *errorRun) fault() simdisk.Fault {
	f := simdisk.Fault{From: e.n, Err: syscall.EIO}
	switch e.n % 5 {
	case 1:
		f.Err = syscall.ENOSPC
	case 2:
		f.Short = 7
	case 3:
		f.Forever = true
	case 4:
		f.Forever, f.Err = true, syscall.ENOSPC
	}
	return f
}

func (e *errorRun) what() string {
	f := e.fault()
	call := "never made"
	if calls := e.disk.Calls(); e.n <= len(calls) && e.n > 0 {
		c := calls[e.n-1]
		call = fmt.Sprintf("%s %s %s", c.Op, c.Path, c.To)
	}
	return fmt.Sprintf("call %d fails with %v, forever %v, short %d (%s)", e.n, f.Err, f.Forever, f.Short, call)
}

// hangAfter is how long no request may come to an end before a run counts as
// hung. It bounds a broken run and decides nothing about a working one.
const hangAfter = 30 * time.Second

// guarded runs and tells a hang from work by what has come to an end.
func guarded(e *errorRun) error {
	result := make(chan error, 1)
	go func() { result <- e.run() }()
	watch := time.NewTicker(hangAfter)
	defer watch.Stop()
	last := int64(-1)
	for {
		select {
		case err := <-result:
			return err
		case <-watch.C:
			now := e.done.Load()
			if now == last {
				buf := make([]byte, 1<<20)
				return fmt.Errorf("hangs:\n%s", buf[:runtime.Stack(buf, true)])
			}
			last = now
		}
	}
}

func (e *errorRun) run() error {
	e.disk.Inject(e.fault())
	serveErr := e.serve()
	e.disk.Heal()
	met := e.disk.CallCount() >= e.n
	if !met {
		return errors.New("the fault was never met")
	}
	if serveErr != nil {
		return serveErr
	}
	ev := evidence{hist: e.hist, acks: e.rec.heard(), said: e.rec.said()}
	e.done.Add(1)
	if _, err := ev.examine(e.disk.KillClone(), e.seed, nil); err != nil {
		return fmt.Errorf("after the process was started again: %w", err)
	}
	e.done.Add(1)
	if _, err := ev.examine(e.disk.CrashClone(cutRand(e.seed, e.n)), e.seed, nil); err != nil {
		return fmt.Errorf("after the machine was started again: %w", err)
	}
	return nil
}

// serve runs the workload. What it returns is what no engine may do on a
// failing disk; that the engine stops is not among it.
func (e *errorRun) serve() error {
	e.hist = newHistory(&oracle.Schemas{})
	e.disk.OnCall(func(n int, c simdisk.Call, freeze func() *simdisk.Disk) {
		if isTrim(c) {
			e.hist.keep(freeze(), c.Path)
		}
	})
	defer e.disk.OnCall(nil)
	r, err := open(e.disk, e.seed)
	if err != nil {
		return e.mayFail(err)
	}
	err = makeTables(r)
	if err == nil {
		err = e.clients(r)
	} else {
		err = e.mayFail(err)
	}
	failure := r.Failure()
	e.stopped = failure != nil
	logFailed := r.Log().Err()
	e.done.Add(1)
	r.stop()
	runErr := <-r.done
	e.done.Add(1)
	closeErr := r.Engine.Close()
	e.done.Add(1)
	switch {
	case err != nil:
		return err
	case failure != nil && runErr == nil:
		return fmt.Errorf("Run returned nil after: %w", failure)
	case failure == nil && e.mustStop():
		return fmt.Errorf("the engine goes on; the log says: %w", logFailed)
	case e.n == 0:
		return errors.Join(runErr, closeErr)
	}
	return nil
}

// mayFail accepts an error once the fault has been met, and not before.
func (e *errorRun) mayFail(err error) error {
	if e.n == 0 || e.disk.CallCount() < e.n {
		return err
	}
	return nil
}

// mustStop reports that the failed call was the log's: then every promise about
// what is durable is void. A segment is written under the name it began with,
// next.tmp.
func (e *errorRun) mustStop() bool {
	if e.n == 0 {
		return false
	}
	c := e.disk.Calls()[e.n-1]
	const fatal = simdisk.OpWrite | simdisk.OpSync | simdisk.OpCreate | simdisk.OpRename | simdisk.OpTruncate
	return path.Base(path.Dir(c.Path)) == "log" && c.Op&fatal != 0
}

// clients send requests until the fault has been met, and a few more.
func (e *errorRun) clients(r *run) error {
	cs := make([]*client, errorClients)
	var wg sync.WaitGroup
	for i := range cs {
		cs[i] = newClient(i, e.seed, e.rec)
		wg.Go(func() { e.send(r, cs[i]) })
	}
	wg.Wait()
	for _, c := range cs {
		for _, err := range c.errs {
			if err := e.judge(err); err != nil {
				return fmt.Errorf("client %d: %w", c.id, err)
			}
		}
	}
	return nil
}

func (e *errorRun) send(r *run, c *client) {
	after := 0
	for i := 0; i < errorRequests*patience && after < afterRequests; i++ {
		c.step(r)
		e.done.Add(1)
		if e.n > 0 && e.disk.CallCount() >= e.n || e.n == 0 && i >= errorRequests {
			after++
		}
	}
}

// judge accepts the answers that a request may get on a failing disk: that the
// server stops, and, from a read, the disk's own error.
func (e *errorRun) judge(err error) error {
	if e.mayFail(err) != nil {
		return err
	}
	switch {
	case fault.CodeOf(err) == fault.NotReady, errors.Is(err, syscall.EIO), errors.Is(err, syscall.ENOSPC):
		return nil
	}
	return err
}

// isTrim reports the removal of a log segment.
func isTrim(c simdisk.Call) bool {
	return c.Op == simdisk.OpRemove && path.Base(path.Dir(c.Path)) == "log" && path.Ext(c.Path) == ".log"
}
