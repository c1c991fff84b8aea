package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/simdisk"
	"originchain/shared/wal"
)

// told is what a leader's log says of each of its frames.
type told struct {
	chunks []wal.Chunk
	chain  map[lsn.LSN]lsn.Chain
	digest map[lsn.LSN]lsn.Digest
	stamp  map[lsn.LSN]int64
	last   lsn.LSN
}

// listen reads a log as a leader streams it, in chunks of at most limit bytes.
func listen(t *testing.T, log *wal.Log, from lsn.LSN, limit int) *told {
	t.Helper()
	out := &told{chain: map[lsn.LSN]lsn.Chain{0: {}}, digest: map[lsn.LSN]lsn.Digest{0: {}}, stamp: map[lsn.LSN]int64{}, last: log.Durable()}
	r, err := log.NewChunkReader(from)
	if err != nil {
		t.Fatal(err)
	}
	for {
		c, ok, err := r.Next(limit)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		c.Bytes = slices.Clone(c.Bytes)
		out.chunks = append(out.chunks, c)
	}
	frames, err := log.NewReader(log.FirstLSN())
	if err != nil {
		t.Fatal(err)
	}
	for {
		f, err := frames.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		out.chain[f.LSN], out.digest[f.LSN], out.stamp[f.LSN] = f.Chain, f.Digest, f.Timestamp
	}
	if err := errors.Join(r.Close(), frames.Close()); err != nil {
		t.Fatal(err)
	}
	return out
}

func followerConfig() Config {
	cfg := testConfig()
	cfg.InstanceID, cfg.Follower = "01JADE00000000000000000001", true
	cfg.SegmentBytes, cfg.MemtableBytes = 8<<10, 12<<10
	return cfg
}

// lead is a leader on a disk of its own.
func lead(t *testing.T, disk *simdisk.Disk) *node {
	t.Helper()
	cfg := followerConfig()
	cfg.Follower = false
	e, err := Open(context.Background(), cfg, testDeps(disk))
	if err != nil {
		t.Fatal(err)
	}
	e.Lead(nil, func() lsn.LSN { return 1 }) // a follower wants all of it
	return run(t, e, e.Run)
}

func run(t *testing.T, e *Engine, f func(context.Context) error) *node {
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{Engine: e, t: t, stop: cancel, done: make(chan error, 1)}
	go func() { n.done <- f(ctx) }()
	return n
}

// work makes frames of several kinds, over several segments.
func (n *node) work(from, to int64) {
	n.t.Helper()
	for i := from; i < to; i++ {
		if _, err := n.put(i%40, fmt.Sprintf("name %d of %0200d", i, i), rows.Any()); err != nil {
			n.t.Fatal(err)
		}
	}
}

func openFollower(t *testing.T, cfg Config, disk *simdisk.Disk) *node {
	t.Helper()
	e, err := OpenFollower(cfg, testDeps(disk))
	if err != nil {
		t.Fatal(err)
	}
	return run(t, e, e.RunFollower)
}

// until waits for what a follower does by itself.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come about", what)
		}
		<-time.After(100 * time.Microsecond)
	}
}

// same holds log and state against the leader's.
func (l *told) same(t *testing.T, e *Engine) {
	t.Helper()
	tail := e.Log().Tail()
	at, err := e.Applied()
	if err != nil {
		t.Fatal(err)
	}
	if tail.Chain != l.chain[tail.Pos.LSN] {
		t.Fatalf("the log ends at LSN %d with another history", tail.Pos.LSN)
	}
	if at.Chain != l.chain[at.Pos.LSN] || at.Digest != l.digest[at.Pos.LSN] {
		t.Fatalf("the state at LSN %d is not the leader's: digest %s, want %s", at.Pos.LSN, at.Digest, l.digest[at.Pos.LSN])
	}
	if at.Pos.LSN > tail.Pos.LSN {
		t.Fatalf("the state at LSN %d is ahead of the log, %d", at.Pos.LSN, tail.Pos.LSN)
	}
}

// rest gives a follower what it lacks.
func (l *told) rest(t *testing.T, n *node, leader *wal.Log) {
	t.Helper()
	for _, c := range listen(t, leader, n.Durable()+1, 4<<10).chunks {
		if err := n.Copy(c); err != nil {
			t.Fatalf("copy LSN %d to %d behind %d: %v", c.First, c.Last, n.Durable(), err)
		}
	}
	if err := n.SyncLog(); err != nil {
		t.Fatal(err)
	}
	n.Advance(l.last, 0)
	until(t, "the last frame", func() bool { return n.Visible().LSN == l.last || n.Failure() != nil })
	l.same(t, n.Engine)
	n.verify()
}

func TestAFollowerShowsNothingAboveTheCommit(t *testing.T) {
	leader := lead(t, simdisk.New())
	leader.create()
	leader.work(0, 50)
	l := listen(t, leader.Log(), 1, 4<<10)
	n := openFollower(t, followerConfig(), simdisk.New())
	for _, c := range l.chunks {
		if err := n.Copy(c); err != nil {
			t.Fatal(err)
		}
	}
	n.Advance(20, 0)
	if n.Visible().LSN > 0 {
		t.Fatal("frames are visible that are not durable")
	}
	if err := n.SyncLog(); err != nil {
		t.Fatal(err)
	}
	until(t, "the commit", func() bool { return n.Visible().LSN >= 20 })
	n.Advance(10, 0) // late word
	for range 100 {
		if err := n.SyncLog(); err != nil {
			t.Fatal(err)
		}
		<-time.After(50 * time.Microsecond)
	}
	if got := n.Visible().LSN; got != 20 {
		t.Fatalf("LSN %d is visible, 20 are committed", got)
	}
	l.same(t, n.Engine)
	n.mustClose()
	leader.mustClose()
}

// A follower is cut at every call to its disk while it copies, rolls, applies and
// makes checkpoints. What it had said to be durable is there, and log and state are
// beginnings of the leader's; then it goes on to the end.
func TestAFollowerCutAnywhereGoesOn(t *testing.T) {
	leader := lead(t, simdisk.New())
	defer leader.mustClose()
	leader.create()
	leader.work(0, 120)
	l := listen(t, leader.Log(), 1, 3<<10)
	type cut struct {
		disk           *simdisk.Disk
		acked, applied lsn.LSN
	}
	var mu sync.Mutex
	var cuts []cut
	disk := simdisk.New()
	n := openFollower(t, followerConfig(), disk)
	acked, allowed := lsn.LSN(0), lsn.LSN(0)
	disk.OnCall(func(_ int, _ simdisk.Call, freeze func() *simdisk.Disk) {
		mu.Lock()
		defer mu.Unlock()
		cuts = append(cuts, cut{freeze(), acked, allowed})
	})
	for _, c := range l.chunks {
		if err := n.Copy(c); err != nil {
			t.Fatal(err)
		}
		if err := n.SyncLog(); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		acked = n.Durable()
		allowed = max(allowed, acked-min(acked, 3))
		commit := allowed
		mu.Unlock()
		n.Advance(commit, 0)
	}
	n.Advance(l.last, 0)
	mu.Lock()
	allowed = l.last
	mu.Unlock()
	until(t, "the last frame", func() bool { return n.Visible().LSN == l.last })
	n.mustClose()
	disk.OnCall(nil)
	if len(cuts) < 100 {
		t.Fatalf("only %d calls to the disk", len(cuts))
	}
	for i, c := range cuts {
		if i%3 != 0 && testing.Short() {
			continue
		}
		for _, after := range []*simdisk.Disk{c.disk.CrashClone(rand.New(rand.NewPCG(uint64(i), 2))), c.disk.KillClone()} {
			n := openFollower(t, followerConfig(), after)
			if n.Durable() < c.acked {
				t.Fatalf("cut %d: the log ends at %d, %d were said to be durable", i, n.Durable(), c.acked)
			}
			if got := n.Visible().LSN; got > c.applied {
				t.Fatalf("cut %d: LSN %d is visible, %d were committed", i, got, c.applied)
			}
			l.same(t, n.Engine)
			if i%10 == 0 {
				l.rest(t, n, leader.Log())
			}
			n.mustClose()
		}
	}
	t.Logf("%d cuts", len(cuts))
}

// The stream may go on copying for a moment after the engine's run has ended.
func TestCopyingAfterTheRunHasEnded(t *testing.T) {
	leader := lead(t, simdisk.New())
	defer leader.mustClose()
	leader.create()
	leader.work(0, 60)
	l := listen(t, leader.Log(), 1, 3<<10)
	n := openFollower(t, followerConfig(), simdisk.New())
	n.stop()
	if err := <-n.done; err != nil {
		t.Fatal(err)
	}
	for _, c := range l.chunks {
		if err := n.Copy(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(n.SyncLog(), n.Close()); err != nil {
		t.Fatal(err)
	}
}

// A follower with a delay has frames at once and shows them later, by the leader's
// clock.
func TestApplyDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leader := lead(t, simdisk.New())
		leader.create()
		wrote := map[lsn.LSN]time.Time{}
		for i := range int64(5) {
			<-time.After(10 * time.Second)
			pos, err := leader.put(i, fmt.Sprint(i), rows.Any())
			if err != nil {
				t.Fatal(err)
			}
			wrote[pos.LSN] = time.Now()
		}
		l := listen(t, leader.Log(), 1, 1<<20)
		cfg := followerConfig()
		cfg.ApplyDelay = time.Minute
		n := openFollower(t, cfg, simdisk.New())
		for _, c := range l.chunks {
			if err := n.Copy(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.SyncLog(); err != nil {
			t.Fatal(err)
		}
		n.Advance(l.last, l.stamp[l.last])
		if n.Durable() != l.last {
			t.Fatalf("durable up to %d of %d", n.Durable(), l.last)
		}
		for at := n.Visible().LSN + 1; at <= l.last; at++ {
			synctest.Wait()
			for n.Visible().LSN < at {
				<-time.After(100 * time.Millisecond)
				synctest.Wait()
			}
			if w, ok := wrote[at]; ok {
				if late := time.Since(w); late < time.Minute-time.Second || late > time.Minute+time.Second {
					t.Errorf("LSN %d is shown %s after it was written", at, late)
				}
			}
		}
		n.mustClose()
		leader.mustClose()
	})
}

// Tables that a leader makes and drops are known on a follower, whatever it has
// in its cache; and it is told when tenants or tokens change.
func TestCatalogsOnAFollower(t *testing.T) {
	leader := lead(t, simdisk.New())
	defer leader.mustClose()
	n := openFollower(t, followerConfig(), simdisk.New())
	defer n.mustClose()
	l := &told{chain: map[lsn.LSN]lsn.Chain{}}
	step := func() {
		t.Helper()
		*l = *listen(t, leader.Log(), 1, 1<<20)
		l.rest(t, n, leader.Log())
	}
	step()
	cat, err := n.Catalog(tenant)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cat.Table("shop.items"); err == nil {
		t.Fatal("a table before it is created")
	}
	leader.create()
	leader.work(0, 5)
	step()
	if got, ok := n.name(3); !ok {
		t.Fatalf("row 3 on the follower: %q", got)
	}
	if _, err := leader.DropTable(context.Background(), tenant, "shop.items"); err != nil {
		t.Fatal(err)
	}
	step()
	if cat, err = n.Catalog(tenant); err != nil {
		t.Fatal(err)
	}
	if _, err := cat.Table("shop.items"); err == nil {
		t.Fatal("a dropped table is still there on the follower")
	}
	if _, err := n.Commit(context.Background(), Proposal{Tenant: tenant, Build: func(*rows.Builder) error { return nil }}); err == nil {
		t.Fatal("a follower took a write")
	}
}

// A node that was the writer has frames that its successor lacks. Rewind is cut at
// every call to the disk and run again: the frames are in divergent files, and log
// and state are beginnings of the shared history.
func TestRewindCutAnywhereIsRunAgain(t *testing.T) {
	for name, more := range map[string]int64{"only an epoch began": 0, "rows were written": 4} {
		t.Run(name, func(t *testing.T) {
			disk := simdisk.New()
			old := lead(t, disk)
			old.create()
			old.work(0, 100)
			fork := old.Durable()
			shared := listen(t, old.Log(), 1, 1<<20)
			old.mustClose() // and every checkpoint that a roll asked for is made, below the fork
			old = lead(t, disk)
			old.work(100, 100+more) // few: no roll, and no checkpoint above it
			last := old.Durable()
			old.mustClose()
			chain := shared.chain[fork]
			rewound := 0
			for n := 0; ; n++ {
				cut := disk.KillClone()
				cut.CrashAfter(n + 1)
				_, err := Rewind(followerConfig(), testDeps(cut), fork, chain[:])
				if err == nil {
					rewound = n
				} else if !errors.Is(err, simdisk.ErrCrashed) && !cut.Crashed() {
					t.Fatalf("cut %d: %v", n, err)
				}
				after := cut.CrashClone(rand.New(rand.NewPCG(uint64(n), 3)))
				if _, again := Rewind(followerConfig(), testDeps(after), fork, chain[:]); again != nil {
					t.Fatalf("cut %d, run again: %v", n, again)
				}
				checkRewound(t, n, after, shared, fork, last)
				if err == nil {
					break
				}
			}
			t.Logf("%d cuts", rewound)
		})
	}
}

// checkRewound holds a directory against the shared history.
func checkRewound(t *testing.T, n int, disk *simdisk.Disk, shared *told, fork, last lsn.LSN) {
	t.Helper()
	e, err := OpenFollower(followerConfig(), testDeps(disk))
	if err != nil {
		t.Fatalf("cut %d: %v", n, err)
	}
	if tail := e.Log().Tail(); tail.Pos.LSN != fork || tail.Chain != shared.chain[fork] {
		t.Fatalf("cut %d: the log ends at %s, want LSN %d", n, tail.Pos, fork)
	}
	shared.same(t, e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	aside := map[lsn.LSN]bool{}
	names, err := disk.List("data")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var epoch, first uint64
		if _, err := fmt.Sscanf(name, "divergent-%016x-%016x.log", &epoch, &first); err != nil {
			continue
		}
		s, err := wal.OpenSegment(disk, "data/"+name)
		if err != nil {
			t.Fatalf("cut %d: %s: %v", n, name, err)
		}
		for {
			f, _, err := s.Next()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("cut %d: %s: %v", n, name, err)
			}
			aside[f.LSN] = true
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for at := fork + 1; at <= last; at++ {
		if !aside[at] {
			t.Fatalf("cut %d: LSN %d is in no divergent file of %v", n, at, names)
		}
	}
}

// A rewind that finds no state old enough leaves a directory that waits for a
// checkpoint. Wherever it is cut, a start finds what is left to do, and no frame is
// lost when the log goes.
func TestARewindWithoutACheckpointLosesNoFrame(t *testing.T) {
	disk := simdisk.New()
	old := lead(t, disk)
	old.create()
	old.work(0, 5)
	fork := old.Durable()
	shared := listen(t, old.Log(), 1, 1<<20)
	old.work(5, 9)
	last := old.Durable()
	old.mustClose() // the state is flushed above the fork, and there is no checkpoint
	chain := shared.chain[fork]
	waiting := 0
	for n := 0; ; n++ {
		cut := disk.KillClone()
		cut.CrashAfter(n + 1)
		_, err := Rewind(followerConfig(), testDeps(cut), fork, chain[:])
		done := errors.Is(err, ErrNoCheckpoint) && !cut.Crashed()
		after := cut.CrashClone(rand.New(rand.NewPCG(uint64(n), 7)))
		e, err := OpenFollower(followerConfig(), testDeps(after))
		switch {
		case errors.Is(err, ErrUnusable):
			waiting++
			aside, err := FinishRewind(followerConfig(), testDeps(after))
			if err != nil {
				t.Fatalf("cut %d: %v", n, err)
			}
			kept := lsn.LSN(0)
			for _, a := range aside {
				kept += a.Last - a.First + 1
			}
			if kept != last-fork {
				t.Fatalf("cut %d: %d frames above LSN %d are kept, want %d", n, kept, fork, last-fork)
			}
		case err != nil:
			t.Fatalf("cut %d: %v", n, err)
		case done:
			t.Fatalf("cut %d: the directory opens", n)
		default:
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if done {
			break
		}
	}
	if waiting < 3 {
		t.Errorf("only %d cuts left a directory that waits", waiting)
	}
}

// A writer that recovers applies its whole log, and may then not become the writer:
// what its state has above the commit is not read before a leader has committed it.
func TestAStateThatIsAheadOfTheCommitIsNotRead(t *testing.T) {
	disk := simdisk.New()
	writer := lead(t, disk)
	writer.create()
	writer.work(0, 20)
	last := writer.Durable()
	writer.mustClose()
	n := openFollower(t, followerConfig(), disk)
	if got := n.Visible().LSN; got != last {
		t.Fatalf("the state stands at LSN %d, want %d", got, last)
	}
	caught := func() bool {
		select {
		case <-n.CaughtUp():
			return true
		default:
			return false
		}
	}
	n.Advance(last-1, 1)
	for range 100 {
		if err := n.SyncLog(); err != nil {
			t.Fatal(err)
		}
		<-time.After(50 * time.Microsecond)
	}
	if caught() {
		t.Fatalf("LSN %d can be read, and %d is committed", last, last-1)
	}
	n.NewLeader()
	n.Advance(last, 2)
	until(t, "what is committed is read", caught)
	n.mustClose()
}

// Applying leaves the machine to a log that is being caught up, for a share of the
// time alone, and not to one that comes as it is written.
func TestApplyingYieldsToALogThatIsCaughtUp(t *testing.T) {
	const worked = 10 * time.Millisecond
	cases := []struct {
		name  string
		since time.Duration // of the last full chunk
		want  time.Duration
	}{
		{"while full chunks come", 0, copyingShare * worked},
		{"just after", copyingFor - time.Millisecond, copyingShare * worked},
		{"no longer", copyingFor, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &Engine{failed: make(chan struct{})}
				e.follow.copied.Store(time.Now().Add(-c.since).UnixNano())
				start := time.Now()
				e.yield(t.Context(), worked)
				if got := time.Since(start); got != c.want {
					t.Errorf("rested for %s, want %s", got, c.want)
				}
			})
		})
	}
	t.Run("a stop is not held up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := &Engine{failed: make(chan struct{})}
			e.follow.copied.Store(time.Now().UnixNano())
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			start := time.Now()
			if e.yield(ctx, time.Hour); time.Since(start) != 0 {
				t.Errorf("rested for %s", time.Since(start))
			}
		})
	})
}
