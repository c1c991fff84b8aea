package engine

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/datadir"
	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/simdisk"
)

// A log may have frames that the history of the writer has not: whoever may not
// write must not have them in its state.
func TestWhoMayNotOpenReplaysNothing(t *testing.T) {
	disk := simdisk.New()
	roomy := testConfig()
	roomy.MemtableBytes = 8 << 20
	e, err := Open(context.Background(), roomy, testDeps(disk))
	if err != nil {
		t.Fatal(err)
	}
	n := run(t, e, e.Run)
	n.create()
	n.work(0, 50)
	last := lsn.Pos{Epoch: n.Epoch(), LSN: n.Durable()}
	killed := disk.KillClone() // with a state that is behind its log
	n.mustClose()
	stands := func() lsn.LSN {
		t.Helper()
		e, err := OpenFollower(testConfig(), testDeps(killed.KillClone()))
		if err != nil {
			t.Fatal(err)
		}
		at, err := e.Applied()
		if err := errors.Join(err, e.Close()); err != nil {
			t.Fatal(err)
		}
		return at.Pos.LSN
	}
	before := stands()
	if before >= last.LSN {
		t.Fatalf("the state is at LSN %d already, of %d", before, last.LSN)
	}
	refusal := errors.New("another node is the writer")
	deps := testDeps(killed)
	var said bytes.Buffer // an opening says when it begins to replay
	log := logrus.New()
	log.SetOutput(&said)
	deps.Log = log
	replays := func() bool { return strings.Contains(said.String(), "recovering the state from the log") }
	deps.MayOpen = func(_ context.Context, who datadir.Identity, at lsn.Pos) error {
		if at != last || who.NodeID == "" {
			t.Errorf("asked for %s of %+v, the log ends at %s", at, who, last)
		}
		return refusal
	}
	deps.TakeEpoch = func(context.Context, Opening) (lsn.Epoch, error) {
		t.Error("whoever may not open takes an epoch")
		return 0, refusal
	}
	if _, err := Open(context.Background(), testConfig(), deps); !errors.Is(err, refusal) {
		t.Fatalf("got %v", err)
	}
	if after := stands(); after != before || replays() {
		t.Errorf("the state went from LSN %d to %d", before, after)
	}
	deps.MayOpen = func(context.Context, datadir.Identity, lsn.Pos) error { return nil }
	deps.TakeEpoch = nil
	if e, err = Open(context.Background(), testConfig(), deps); err != nil {
		t.Fatal(err)
	}
	if got := e.Visible().LSN; got != last.LSN+1 || !replays() {
		t.Errorf("LSN %d is visible, the log ended at %d", got, last.LSN)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// What one leader said of commits may be of frames that the next one does not have:
// what comes in their place is not committed by it.
func TestANewLeaderSaysAnewWhatIsCommitted(t *testing.T) {
	leader := lead(t, simdisk.New())
	defer leader.mustClose()
	leader.create()
	leader.work(0, 50)
	l := listen(t, leader.Log(), 1, 1<<10)
	n := openFollower(t, followerConfig(), simdisk.New())
	defer n.mustClose()
	half := len(l.chunks) / 2
	copied := func(from, to int) {
		t.Helper()
		for _, c := range l.chunks[from:to] {
			if err := n.Copy(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.SyncLog(); err != nil {
			t.Fatal(err)
		}
	}
	copied(0, half)
	reached := n.Durable()
	n.Advance(l.last, 0) // of a leader that is ahead of its stream
	until(t, "all that is here", func() bool { return n.Visible().LSN == reached })
	n.NewLeader()
	if got := n.CommitLSN(); got != reached {
		t.Fatalf("committed up to %d after a new leader, %d are shown", got, reached)
	}
	copied(half, len(l.chunks))
	for range 50 {
		if err := n.SyncLog(); err != nil { // which wakes whoever applies
			t.Fatal(err)
		}
		if got := n.Visible().LSN; got != reached {
			t.Fatalf("LSN %d is shown, and the new leader has said nothing yet", got)
		}
		<-time.After(100 * time.Microsecond)
	}
	n.Advance(l.last, 0)
	until(t, "the last frame", func() bool { return n.Visible().LSN == l.last })
	l.same(t, n.Engine)
}

// gateFunc is a gate that admits everything.
type gateFunc func(at lsn.LSN, stop <-chan struct{}) error

func (gateFunc) Admit() error                                   { return nil }
func (g gateFunc) Await(at lsn.LSN, stop <-chan struct{}) error { return g(at, stop) }

// A writer that is fenced acknowledges nothing more, whether it waits for followers
// or not: neither what waits for its fsync just then, nor what comes later.
func TestAFencedWriterAcknowledgesNothing(t *testing.T) {
	for name, gate := range map[string]Gate{
		"no followers are waited for": nil,
		"followers are waited for":    gateFunc(func(lsn.LSN, <-chan struct{}) error { return nil }),
	} {
		t.Run(name, func(t *testing.T) { testFenced(t, gate) })
	}
}

func testFenced(t *testing.T, gate Gate) {
	disk := simdisk.New()
	e, err := Open(context.Background(), testConfig(), testDeps(disk))
	if err != nil {
		t.Fatal(err)
	}
	e.Lead(gate, nil)
	n := run(t, e, e.Run)
	n.create()
	visible := n.Visible().LSN
	stalled, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	disk.OnCall(func(_ int, c simdisk.Call, _ func() *simdisk.Disk) {
		if c.Op == simdisk.OpSync && strings.HasPrefix(c.Path, "/data/log/") {
			once.Do(func() { close(stalled); <-release })
		}
	})
	answer := make(chan error, 1)
	go func() { _, err := n.put(1, "in flight", rows.Any()); answer <- err }()
	<-stalled
	other := errors.New("node b holds epoch 2")
	n.Fence(other)
	close(release)
	if err := <-answer; fault.CodeOf(err) != fault.Fenced || fault.From(err).Fields["outcome"] != "unknown" {
		t.Errorf("what was in flight: %v", err)
	}
	if _, err := n.put(2, "later", rows.Any()); fault.CodeOf(err) != fault.Fenced {
		t.Errorf("what comes later: %v", err)
	}
	if got := n.Visible().LSN; got != visible {
		t.Errorf("LSN %d is visible, %d was", got, visible)
	}
	if err := <-n.done; !errors.Is(err, other) {
		t.Errorf("Run: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// Requests of /metrics and /ready are not waited for when an engine is closed: they
// may have it in hand for a moment longer.
func TestAClosedEngineCanBeAskedForItsSize(t *testing.T) {
	n := start(t, simdisk.New())
	n.create()
	asked, stop := make(chan struct{}), make(chan struct{})
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for {
				n.StateBytes()
				_, _ = n.Log().Segments(), n.Durable()
				select {
				case asked <- struct{}{}:
				case <-stop:
					return
				default:
				}
			}
		})
	}
	<-asked
	n.mustClose()
	<-asked
	close(stop)
	asking.Wait()
}
