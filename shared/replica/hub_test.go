package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/lsn"
)

// fakeRecord is a record in memory that can be slow, and away.
type fakeRecord struct {
	mu    sync.Mutex
	set   map[string]bool
	calls []string
	// hold, if set, is waited for before a change takes effect.
	hold chan struct{}
	// before fails a change that then has no effect; after one that has.
	before, after error
	changed       func() // told of each change that took effect
}

func (r *fakeRecord) Enter(ctx context.Context, node string) error {
	return r.change("enter", node, true)
}

func (r *fakeRecord) Leave(ctx context.Context, node string) error {
	return r.change("leave", node, false)
}

func (r *fakeRecord) change(what, node string, in bool) error {
	r.mu.Lock()
	r.calls = append(r.calls, what+" "+node)
	hold := r.hold
	r.mu.Unlock()
	if hold != nil {
		<-hold
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.before != nil {
		return r.before
	}
	if in {
		r.set[node] = true
	} else {
		delete(r.set, node)
	}
	if r.changed != nil {
		r.changed()
	}
	return r.after
}

func (r *fakeRecord) do(f func(*fakeRecord)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r)
}

func (r *fakeRecord) named() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []string{}
	for n := range r.set {
		out = append(out, n)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// rig is a hub with its keeper running.
type rig struct {
	*Hub
	t       *testing.T
	rec     *fakeRecord
	durable atomic.Uint64
	stop    func()
	halt    chan struct{}
}

const testTimeout = 100 * time.Millisecond

func newRig(t *testing.T, cfg HubConfig) *rig {
	log := logrus.New()
	log.SetOutput(io.Discard)
	r := &rig{t: t, rec: &fakeRecord{set: map[string]bool{}}, halt: make(chan struct{})}
	if cfg.Timeout == 0 {
		cfg.Timeout = testTimeout
	}
	cfg.RetainBytes, cfg.RetainFor = 1000, time.Hour
	r.Hub = NewHub(cfg, HubDeps{
		Log: log, Record: r.rec, Durable: func() lsn.LSN { return lsn.LSN(r.durable.Load()) },
		Retained: func(from lsn.LSN) int64 { return int64(r.durable.Load()+1) - int64(from) },
	}, 0)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	r.stop = func() { cancel(); <-done }
	return r
}

func follower(node string) Peer { return Peer{Node: node, Promotable: true} }

// write makes the leader durable up to at and asks whether that may be
// acknowledged; the answer comes in the channel.
func (r *rig) write(at lsn.LSN) <-chan error {
	r.durable.Store(uint64(at))
	out := make(chan error, 1)
	go func() { out <- r.Await(at, r.halt) }()
	synctest.Wait()
	return out
}

// pending requires that an answer is not there yet.
func (r *rig) pending(what string, answer <-chan error) {
	r.t.Helper()
	synctest.Wait()
	select {
	case err := <-answer:
		r.t.Fatalf("%s: answered with %v", what, err)
	default:
	}
}

// answered requires that an answer is there, without time passing.
func (r *rig) answered(what string, answer <-chan error) {
	r.t.Helper()
	synctest.Wait()
	select {
	case err := <-answer:
		if err != nil {
			r.t.Fatalf("%s: %v", what, err)
		}
	default:
		r.t.Fatalf("%s: no answer; the record names %q", what, r.rec.named())
	}
}

func (r *rig) record(what, want string) {
	r.t.Helper()
	synctest.Wait()
	if got := r.rec.named(); got != want {
		r.t.Fatalf("%s: the record names %q, want %q", what, got, want)
	}
	in := r.InSync()
	if got := strings.Join(in, " "); got != want {
		r.t.Fatalf("%s: the hub says that %q are in sync, the record %q", what, got, want)
	}
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// bubble runs a test of a hub in synthetic time.
func bubble(t *testing.T, cfg HubConfig, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, cfg)
		defer r.stop()
		f(t, r)
	})
}

func TestAFollowerOfAnIdleLeaderGetsInSync(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(_ *testing.T, r *rig) {
		r.durable.Store(1)
		r.Begin(1, nil)
		r.Connected(follower("b"), 1)
		r.record("nothing is written", "b")
	})
}

func TestAFollowerEntersOnlyWithEveryAcknowledgedFrame(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
		r.durable.Store(10)
		r.Begin(10, nil)
		s := r.Connected(follower("b"), 4)
		r.record("behind what was acknowledged", "")
		s.Acknowledge(9, 9)
		r.record("one frame behind", "")
		s.Acknowledge(10, 9)
		r.record("with every frame", "b")
		a := r.write(11)
		r.pending("the member lacks it", a)
		s.Acknowledge(11, 11)
		r.answered("the member has it", a)
		if r.Degraded(11) || r.Acked() != 11 || r.Committed() != 11 {
			t.Fatalf("degraded %t, acked %d, committed %d", r.Degraded(11), r.Acked(), r.Committed())
		}
	})
}

func TestOneFarBehindIsNotWaitedFor(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
		r.durable.Store(5000)
		r.Begin(5000, nil)
		s := r.Connected(follower("b"), 1)
		r.answered("nobody is near", r.write(5001))
		if !r.Degraded(5001) || r.Degraded(5002) {
			t.Fatal("a frame that no follower has is not degraded, or others are")
		}
		s.Acknowledge(4500, 0)
		synctest.Wait()
		a := r.write(5002)
		r.pending("it is near now", a)
		s.Acknowledge(5002, 0)
		r.answered("it came", a)
		r.record("it came", "b")
	})
}

func TestOneThatCannotLeadIsNeverWaitedFor(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
		r.Begin(0, nil)
		r.Connected(Peer{Node: "r"}, 0)
		r.answered("a read replica", r.write(1))
		r.record("a read replica", "")
		if !r.Degraded(1) {
			t.Fatal("a frame that only a read replica has is not degraded")
		}
	})
}

// A member that does not answer leaves the record before the acknowledgement;
// while the record cannot be changed, nothing is acknowledged.
func TestNothingIsAcknowledgedBeforeWhoLacksItHasLeft(t *testing.T) {
	for name, broken := range map[string]func(*fakeRecord){
		"the record is away":        func(r *fakeRecord) { r.before = errors.New("away") },
		"nobody knows what it says": func(r *fakeRecord) { r.after = errors.New("time-out of the answer") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
				r.Begin(0, nil)
				r.Connected(follower("b"), 0)
				r.record("connected", "b")
				r.rec.do(broken)
				a := r.write(1)
				pass(testTimeout - 1)
				r.pending("before the time-out", a)
				pass(time.Minute)
				r.pending("while the record cannot be changed", a)
				r.rec.do(func(f *fakeRecord) { f.before, f.after = nil, nil })
				pass(recordRetry)
				r.record("it has left", "")
				r.answered("it has left", a)
				if !r.Degraded(1) {
					t.Fatal("an acknowledgement without a follower is not degraded")
				}
			})
		})
	}
}

// The record is slow, so that leaving takes a while: until it is over the frame is
// not acknowledged.
func TestAnAcknowledgementWaitsForASlowLeave(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(_ *testing.T, r *rig) {
		r.Begin(0, nil)
		s := r.Connected(follower("b"), 0)
		r.record("connected", "b")
		hold := make(chan struct{})
		r.rec.do(func(f *fakeRecord) { f.hold = hold })
		a := r.write(1)
		pass(time.Second)
		r.pending("the leave is under way", a)
		s.Acknowledge(1, 1) // too late to stay, in time to be acknowledged
		r.answered("the follower has it after all", a)
		close(hold)
		r.record("the leave took effect", "")
	})
}

// A leave whose outcome nobody knows, of a follower that then answers: whether the
// record names it has to be settled, or frames count as in sync that are not.
func TestAFollowerThatComesBackDuringAnUnknownLeaveIsInTheRecord(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
		r.Begin(0, nil)
		s := r.Connected(follower("b"), 0)
		r.record("connected", "b")
		r.rec.do(func(f *fakeRecord) { f.after = errors.New("time-out of the answer") })
		a := r.write(1)
		pass(testTimeout)
		r.pending("the leave failed", a)
		s.Acknowledge(1, 1)
		r.answered("it has the frame", a)
		r.rec.do(func(f *fakeRecord) { f.after = nil })
		pass(recordRetry)
		r.record("settled", "b")
		a = r.write(2)
		s.Acknowledge(2, 2)
		r.answered("as a member again", a)
		if r.Degraded(2) {
			t.Fatal("the record names the follower, which has the frame")
		}
	})
}

// A follower that is given up while the record is about to name it must be taken
// out again before the acknowledgement.
func TestGivenUpWhileEntering(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(_ *testing.T, r *rig) {
		r.Begin(0, nil)
		hold := make(chan struct{})
		r.rec.do(func(f *fakeRecord) { f.hold = hold })
		r.Connected(follower("b"), 0)
		synctest.Wait()
		a := r.write(1)
		pass(time.Second)
		r.pending("the record may name it", a)
		r.rec.do(func(f *fakeRecord) { f.hold = nil })
		close(hold)
		r.answered("it has left", a)
		r.record("it has left", "")
		if got := fmt.Sprint(r.rec.calls); got != "[enter b leave b]" {
			t.Fatalf("the record was changed by %s", got)
		}
	})
}

// Who is joining is in no record yet, and is given up at once, also when its
// stream ends.
func TestGivenUpWhileJoining(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(_ *testing.T, r *rig) {
		r.durable.Store(10)
		r.Begin(10, nil)
		s := r.Connected(follower("b"), 9)
		synctest.Wait()
		a := r.write(11)
		r.pending("it is waited for", a)
		s.End()
		r.answered("its stream has ended", a)
		s = r.Connected(follower("b"), 9)
		pass(firstBackoff)
		a = r.write(12)
		r.pending("it is waited for again", a)
		pass(testTimeout)
		r.answered("it was too slow", a)
		s.Acknowledge(12, 12)
		r.record("it is not asked at once", "")
		pass(2 * firstBackoff)
		r.record("it is asked again", "b")
	})
}

func TestOfTwoThatWaitTheNearerInTimeIsAskedFirst(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(_ *testing.T, r *rig) {
		for range 20 { // whatever the order of a map
			r.Begin(r.Acked(), nil)
			at := lsn.LSN(r.durable.Load())
			b, c := r.Connected(follower("b"), at), r.Connected(follower("c"), at)
			r.mu.Lock()
			for node, in := range map[string]time.Duration{"b": time.Second, "c": time.Minute} {
				p := r.followers[node]
				p.state, p.retryAt = outside, time.Now().Add(in)
			}
			r.notify()
			r.mu.Unlock()
			r.rec.do(func(f *fakeRecord) { clear(f.set) })
			pass(time.Second)
			r.record("b waits a second, c a minute", "b")
			b.End()
			c.End()
		}
	})
}

func TestStrict(t *testing.T) {
	bubble(t, HubConfig{Sync: 1, Strict: true}, func(t *testing.T, r *rig) {
		r.Begin(0, nil)
		if err := r.Admit(); fault.CodeOf(err) != fault.NotReady {
			t.Fatalf("a write without a follower: %v", err)
		}
		s := r.Connected(follower("b"), 0)
		r.record("idle", "b")
		if err := r.Admit(); err != nil {
			t.Fatal(err)
		}
		a := r.write(1)
		pass(testTimeout)
		var expired *engine.Expired
		if err := <-a; !errors.As(err, &expired) || fault.CodeOf(expired.Err) != fault.ReplicationTimeout {
			t.Fatalf("a follower that does not answer: %v", err)
		}
		if err := r.Admit(); err == nil {
			t.Fatal("a write was let in while the one follower is overdue")
		}
		a = r.write(1) // the frames are asked for again
		pass(time.Hour)
		if err := <-a; !errors.As(err, &expired) {
			t.Fatalf("asked again: %v", err)
		}
		r.record("without another it stays", "b")
		a = r.write(1)
		s.Acknowledge(1, 1)
		r.answered("it has it", a)
		if err := r.Admit(); err != nil || r.Degraded(1) {
			t.Fatalf("it is back: %v, degraded %t", err, r.Degraded(1))
		}
	})
}

// The frame that a member was given up for is on its disk, and only the
// acknowledgement was lost with the stream.
func TestStrictAdmitsAgainWhenTheMemberIsBack(t *testing.T) {
	bubble(t, HubConfig{Sync: 1, Strict: true}, func(t *testing.T, r *rig) {
		r.Begin(0, nil)
		s := r.Connected(follower("b"), 0)
		r.record("connected", "b")
		a := r.write(1)
		pass(testTimeout)
		<-a
		s.End()
		a = r.write(1)
		r.Connected(follower("b"), 1)
		r.answered("it came back with the frame", a)
		if err := r.Admit(); err != nil {
			t.Fatalf("every frame is in sync: %v", err)
		}
	})
}

func TestStrictLetsAMemberGoForAnother(t *testing.T) {
	bubble(t, HubConfig{Sync: 1, Strict: true}, func(t *testing.T, r *rig) {
		r.Begin(0, nil)
		r.Connected(follower("b"), 0)
		r.record("connected", "b")
		a := r.write(1)
		pass(testTimeout)
		<-a
		c := r.Connected(follower("c"), 0)
		a = r.write(1)
		r.pending("neither has it", a)
		c.Acknowledge(1, 0)
		r.answered("c has it", a)
		r.record("c for b", "c")
		if r.Degraded(1) {
			t.Fatal("strict, and degraded")
		}
	})
}

func TestAnotherWritersRecordEndsAcknowledgements(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
		r.Begin(0, nil)
		r.Connected(follower("b"), 0)
		r.record("connected", "b")
		r.rec.do(func(f *fakeRecord) { f.before = fmt.Errorf("%w: c", ErrFenced) })
		a := r.write(1)
		pass(testTimeout)
		if err := <-a; !errors.Is(err, ErrFenced) {
			t.Fatalf("got %v", err)
		}
		if err := <-r.write(2); !errors.Is(err, ErrFenced) {
			t.Fatalf("the next: %v", err)
		}
		calls := len(r.rec.calls)
		pass(time.Minute)
		if got := len(r.rec.calls); got != calls {
			t.Fatalf("another's record was asked for %d more changes", got-calls)
		}
	})
}

func TestAStopEndsTheWait(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
		r.Begin(0, []string{"b"})
		a := r.write(1)
		close(r.halt)
		if err := <-a; !errors.Is(err, engine.ErrStopped) {
			t.Fatalf("got %v", err)
		}
	})
}

// Of two streams of one node the newer one counts; the older one's words and its
// end change nothing.
func TestALateWordOfAnOlderStreamCountsForNothing(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
		r.Begin(0, nil)
		older := r.Connected(follower("b"), 0)
		r.record("connected", "b")
		newer := r.Connected(follower("b"), 0)
		a := r.write(1)
		older.Acknowledge(1, 1)
		older.End()
		r.pending("only the older stream said so", a)
		if f := r.Followers(); len(f) != 1 || !f[0].Connected {
			t.Fatalf("%+v", f)
		}
		newer.Acknowledge(1, 1)
		r.answered("the newer stream said so", a)
	})
}

// A member comes back without frames that were acknowledged: it leaves the record
// before it is streamed to.
func TestWhoLostAcknowledgedFramesLeavesTheRecordFirst(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
		r.Begin(0, nil)
		s := r.Connected(follower("b"), 0)
		r.record("connected", "b")
		a := r.write(5)
		s.Acknowledge(5, 5)
		r.answered("in sync", a)
		s.End()
		if err := r.Readmit(t.Context(), "b", 5); err != nil {
			t.Fatal(err)
		}
		r.record("back with everything", "b")
		if err := r.Readmit(t.Context(), "b", 3); err != nil {
			t.Fatal(err)
		}
		r.record("back with less", "")
		s = r.Connected(follower("b"), 3)
		pass(time.Minute)
		r.record("streamed to, and still behind", "")
		s.Acknowledge(5, 3)
		r.record("it has everything again", "b")
		r.rec.do(func(f *fakeRecord) { f.before = errors.New("away") })
		if err := r.Readmit(t.Context(), "b", 3); err == nil {
			t.Fatal("it was let in with the record away")
		}
	})
}

// The same, while the keeper is just entering it: the later of the two changes
// must not be the entry.
func TestWhoLostFramesDoesNotEnterBehindItsLeave(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
		r.durable.Store(5)
		r.Begin(5, nil)
		hold := make(chan struct{})
		r.rec.do(func(f *fakeRecord) { f.hold = hold })
		r.Connected(follower("b"), 5)
		synctest.Wait() // the entry is under way
		readmitted := make(chan error, 1)
		go func() { readmitted <- r.Readmit(t.Context(), "b", 3) }()
		synctest.Wait()
		r.rec.do(func(f *fakeRecord) { f.hold = nil })
		close(hold)
		if err := <-readmitted; err != nil {
			t.Fatal(err)
		}
		r.Connected(follower("b"), 3)
		pass(time.Minute)
		r.record("without two frames", "")
	})
}

// Between its Hello and its stream nothing is acknowledged on account of what an
// older stream of the node said.
func TestWhatANodeLostIsNotCountedFromItsHelloOn(t *testing.T) {
	bubble(t, HubConfig{Sync: 2}, func(t *testing.T, r *rig) {
		r.Begin(0, nil)
		b, c := r.Connected(follower("b"), 0), r.Connected(follower("c"), 0)
		r.record("connected", "b c")
		a := r.write(5)
		b.Acknowledge(5, 0)
		r.pending("c lacks it", a)
		if err := r.Readmit(t.Context(), "b", 3); err != nil {
			t.Fatal(err)
		}
		c.Acknowledge(5, 0)
		r.pending("b has lost it", a)
		b.Acknowledge(5, 0)
		r.pending("the older stream's word", a)
		b = r.Connected(follower("b"), 3)
		b.Acknowledge(5, 0)
		r.answered("b has it again", a)
	})
}

func TestNothingIsCommittedBeforeTheEpochIsConfirmed(t *testing.T) {
	for _, n := range []int{0, 1} {
		bubble(t, HubConfig{Sync: n}, func(t *testing.T, r *rig) {
			r.durable.Store(7)
			r.mu.Lock()
			r.acked = 4 // as the record of the epoch before says
			r.mu.Unlock()
			r.Connected(follower("b"), 7)
			pass(time.Minute)
			if got := r.Committed(); got != 4 {
				t.Fatalf("sync %d: committed %d, not confirmed", n, got)
			}
			if got := r.rec.named(); got != "" {
				t.Fatalf("sync %d: %s entered a record that is not confirmed", n, got)
			}
			r.Begin(7, nil)
			if got := r.Committed(); got != 7 {
				t.Fatalf("sync %d: committed %d, confirmed up to 7", n, got)
			}
		})
	}
}

func TestMembersOfTheEpochBeforeAreWaitedFor(t *testing.T) {
	bubble(t, HubConfig{Sync: 2}, func(t *testing.T, r *rig) {
		r.durable.Store(7)
		waited := make(chan struct{}, 2)
		await := func(nodes ...string) { r.AwaitMembers(t.Context(), nodes, 7); waited <- struct{}{} }
		go await("b", "c")
		b := r.Connected(follower("b"), 6)
		synctest.Wait()
		b.Acknowledge(7, 0)
		r.Connected(follower("c"), 6)
		pass(testTimeout)
		<-waited
		if have := r.having(7, []string{"b", "c"}); fmt.Sprint(have) != "[b]" {
			t.Fatalf("got %v", have)
		}
		go await("b")
		synctest.Wait()
		if len(waited) != 1 {
			t.Fatal("it waits although all are there")
		}
	})
}

func TestLogIsKeptForWhoWillWantIt(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
		r.durable.Store(500)
		r.Begin(500, nil)
		none := ^lsn.LSN(0)
		expect := func(what string, want lsn.LSN) {
			t.Helper()
			if got := r.RetainFrom(); got != want {
				t.Errorf("%s: kept from %d, want %d", what, got, want)
			}
		}
		expect("nobody", none)
		s := r.Connected(follower("b"), 300)
		expect("connected", 301)
		r.Expect("c", 200)
		expect("another takes a checkpoint", 201)
		s.End()
		pass(time.Hour)
		expect("both not seen for an hour", 201)
		pass(1)
		expect("both not seen for longer", none)
		s = r.Connected(follower("b"), 300)
		r.durable.Store(1301)
		expect("too far behind", none)
		s.Acknowledge(302, 0)
		expect("just near enough", 303)
	})
}

func TestRanges(t *testing.T) {
	var r ranges
	for i := range lsn.LSN(maxRanges + 10) {
		r.add(3*i+1, 3*i+2)
	}
	r.add(3*(maxRanges+10), 3*(maxRanges+10)+5) // goes on where the last one ended
	if len(r.list) != maxRanges {
		t.Fatalf("%d stretches", len(r.list))
	}
	// The oldest ones have become one, and what was between them belongs to it.
	for at, want := range map[lsn.LSN]bool{1: true, 3: true, 32: true, 35: true, 36: false, 37: true, 39: false, 3*(maxRanges+10) + 5: true, 3*(maxRanges+10) + 6: false} {
		if r.has(at) != want {
			t.Errorf("LSN %d: %t", at, !want)
		}
	}
}

// And the other way round: the entry was decided, and waits behind the leave.
func TestWhoLostFramesDoesNotEnterByAnOlderDecision(t *testing.T) {
	bubble(t, HubConfig{Sync: 2}, func(t *testing.T, r *rig) {
		r.durable.Store(5)
		r.Begin(5, []string{"c"})
		r.rec.do(func(f *fakeRecord) { f.set["c"] = true })
		hold := make(chan struct{})
		r.rec.do(func(f *fakeRecord) { f.hold = hold })
		b := r.Connected(follower("b"), 4)
		readmitted := make(chan error, 2)
		for _, node := range []string{"c", "b"} {
			go func() { readmitted <- r.Readmit(t.Context(), node, 3) }()
			synctest.Wait()
		}
		b.Acknowledge(5, 0)
		synctest.Wait()
		r.rec.do(func(f *fakeRecord) { f.hold = nil })
		close(hold)
		for range 2 {
			if err := <-readmitted; err != nil {
				t.Fatal(err)
			}
		}
		r.Connected(follower("b"), 3)
		pass(time.Minute)
		r.record("both lack two frames", "")
	})
}

// A member whose state comes as a checkpoint has nothing on its disk that an
// acknowledgement could rest on, until its own log has it.
func TestACheckpointUnderWayAcknowledgesNothing(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
		r.durable.Store(100)
		r.Begin(100, []string{"b"})
		r.Expect("b", 200)
		answer := r.write(150)
		r.pending("while it takes a checkpoint", answer)
		b := r.Connected(follower("b"), 149)
		r.pending("while its log is behind", answer)
		b.Acknowledge(150, 0)
		r.answered("when its log has it", answer)
	})
}

// A node that came back without acknowledged frames, and whose leave went wrong,
// has still lost them: the record lets it go, it is not entered once more.
func TestWhoLostFramesDoesNotEnterBecauseItsLeaveFailed(t *testing.T) {
	for _, happened := range []bool{false, true} {
		bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
			r.Begin(0, nil)
			s := r.Connected(follower("b"), 0)
			r.record("connected", "b")
			a := r.write(5)
			s.Acknowledge(5, 5)
			r.answered("in sync", a)
			r.rec.do(func(f *fakeRecord) {
				if happened {
					f.after = errors.New("time-out of the answer")
				} else {
					f.before = errors.New("away")
				}
			})
			if err := r.Readmit(t.Context(), "b", 3); err == nil {
				t.Fatal("it was let in although nobody knows what the record says")
			}
			r.rec.do(func(f *fakeRecord) { f.before, f.after = nil, nil })
			pass(time.Minute)
			r.record("it has not been here since, and lacks two frames", "")
		})
	}
}

// Between a checkpoint and the first frame of the log behind it, a follower needs
// that log as much as while it took the checkpoint.
func TestLogBehindACheckpointIsKeptUntilTheFollowerHasSomeOfIt(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
		r.durable.Store(5000)
		r.Begin(5000, nil)
		r.Expect("b", 4900)
		s := r.Connected(follower("b"), 0)
		if got := r.RetainFrom(); got != 4901 {
			t.Errorf("connected, with a state and no log: kept from %d", got)
		}
		s.Acknowledge(4950, 0)
		if got := r.RetainFrom(); got != 4951 {
			t.Errorf("with some of the log: kept from %d", got)
		}
	})
}

// The two together: the entry was decided, and waits behind a leave that fails.
func TestWhoLostFramesDoesNotEnterBehindAFailedLeave(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
		r.durable.Store(5)
		r.Begin(5, nil)
		hold := make(chan struct{})
		r.rec.do(func(f *fakeRecord) { f.hold = hold })
		r.recording <- struct{}{} // as a change of another node does
		r.Connected(follower("b"), 5)
		synctest.Wait() // the entry is decided, and waits
		readmitted := make(chan error, 1)
		go func() {
			p, named := r.returned("b", 3)
			if !named {
				t.Error("b is about to be named")
			}
			err := r.strike(t.Context(), p)
			<-r.recording
			readmitted <- err
		}()
		synctest.Wait()
		r.rec.do(func(f *fakeRecord) { f.hold, f.before = nil, errors.New("away") })
		close(hold)
		if err := <-readmitted; err == nil {
			t.Fatal("the leave should fail")
		}
		r.rec.do(func(f *fakeRecord) { f.before = nil })
		synctest.Wait()
		for _, call := range r.rec.calls {
			if call == "enter b" {
				t.Errorf("b entered without two frames: %q", r.rec.calls)
			}
		}
		pass(time.Minute)
		r.record("without two frames", "")
	})
}

// A wait for one follower ends when that one is gone: who hands over to it holds writes
// meanwhile.
func TestAWaitForAFollowerEndsWithItsStream(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
		r.durable.Store(7)
		r.Begin(7, nil)
		waits := map[string]func() error{
			"heard":   func() error { return r.AwaitHeard(t.Context(), "b") },
			"durable": func() error { return r.AwaitDurable(t.Context(), "b", 8) },
		}
		for what, wait := range waits {
			if err := wait(); !errors.Is(err, ErrNotConnected) {
				t.Errorf("%s, never connected: %v", what, err)
			}
			s := r.Connected(follower("b"), 7)
			got := make(chan error, 1)
			go func() { got <- wait() }()
			pass(time.Second)
			if len(got) != 0 {
				t.Fatalf("%s: it waits for nobody: %v", what, <-got)
			}
			s.End()
			pass(heardPoll)
			if len(got) == 0 {
				t.Fatalf("%s: it waits for one that is gone", what)
			}
			if err := <-got; !errors.Is(err, ErrNotConnected) {
				t.Errorf("%s, gone: %v", what, err)
			}
		}
	})
}
