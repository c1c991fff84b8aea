package supervise

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"originchain/shared/lease"
	"originchain/shared/lsn"
)

const instance = "01K0000000000000000000000A"

// took is the record after a node has opened at a place, and confirmed.
func took(t *testing.T, from lease.Record, id, place string) lease.Record {
	t.Helper()
	last := lsn.Pos{Epoch: from.Epoch, LSN: lsn.LSN(from.Epoch)}
	r, err := from.Take(lease.Candidate{Instance: instance, Node: id, URL: "http://127.0.0.1:1", Place: place, Last: last, AcceptLoss: true})
	if err == nil && place != "" {
		r, err = r.Confirm(lease.Claim{Node: id, Epoch: r.Epoch}, last, nil, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// stored is a store that has a record, and then fails as hooks say.
func stored(t *testing.T, r lease.Record) (*lease.Memory, *lease.Hooks) {
	t.Helper()
	hooks := &lease.Hooks{}
	m := lease.NewMemory(lease.Hooks{
		Load: func(ctx context.Context) error {
			if hooks.Load != nil {
				return hooks.Load(ctx)
			}
			return nil
		},
		Before: func(ctx context.Context, next lease.Record) error {
			if hooks.Before != nil {
				return hooks.Before(ctx, next)
			}
			return nil
		},
		After: func(ctx context.Context, next lease.Record) error {
			if hooks.After != nil {
				return hooks.After(ctx, next)
			}
			return nil
		},
	})
	if r.Epoch != 0 {
		put(t, m, r)
	}
	return m, hooks
}

func put(t *testing.T, s lease.Store, r lease.Record) {
	t.Helper()
	if _, err := s.CompareAndSet(t.Context(), r.Version, r); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, s lease.Store) lease.Record {
	t.Helper()
	r, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func deadNode(still func() bool) Stopped {
	return Stopped{Machine: "m1", Node: "n1", Place: "here", PID: 7, Start: 8, still: still}
}

func always() bool { return true }

var errAway = errors.New("the store is away")

func TestOnlyTheEpochOfTheDeadNodeIsReleased(t *testing.T) {
	own := took(t, lease.Record{}, "n1", "here")
	released, err := own.Release(lease.Claim{Node: "n1", Epoch: own.Epoch}, 0)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		record lease.Record
		want   Release
		writes bool
	}{
		"its own":               {own, Released, true},
		"released by itself":    {released, Released, false},
		"no record":             {lease.Record{}, NotItsOwn, false},
		"another's":             {took(t, own, "n2", "here"), NotItsOwn, false},
		"given and not opened":  {took(t, own, "n1", ""), Unopened, false},
		"of another directory":  {took(t, lease.Record{}, "n1", "there"), Elsewhere, false},
		"its own, second epoch": {took(t, own, "n1", "here"), Released, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m, hooks := stored(t, c.record)
			writes := 0
			hooks.Before = func(_ context.Context, next lease.Record) error {
				if writes++; next.Holder != "n1" || next.Epoch != c.record.Epoch || !next.Released {
					t.Errorf("wrote %+v", next)
				}
				return nil
			}
			got, err := (&Releaser{m}).Release(t.Context(), deadNode(always))
			if err != nil || got != c.want || writes > 1 || (writes == 1) != c.writes {
				t.Errorf("%s, %v, %d writes; want %s", got, err, writes, c.want)
			}
			if r := load(t, m); r.Epoch != 0 && r.Released != (c.want == Released) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestALostAnswerIsReadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, hooks := stored(t, took(t, lease.Record{}, "n1", "here"))
		writes := 0
		hooks.After = func(context.Context, lease.Record) error {
			writes++
			return errAway
		}
		got, err := (&Releaser{m}).Release(t.Context(), deadNode(always))
		if err != nil || got != Released || writes != 1 {
			t.Errorf("%s, %v, %d writes", got, err, writes)
		}
	})
}

func TestAStoreThatComesBackIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, hooks := stored(t, took(t, lease.Record{}, "n1", "here"))
		loads, writes := 0, 0
		hooks.Load = func(context.Context) error {
			if loads++; loads%2 == 1 {
				return errAway
			}
			return nil
		}
		hooks.Before = func(context.Context, lease.Record) error {
			if writes++; writes < 3 {
				return errAway
			}
			return nil
		}
		if got, err := (&Releaser{m}).Release(t.Context(), deadNode(always)); err != nil || got != Released || writes != 3 {
			t.Errorf("%s, %v, %d writes", got, err, writes)
		}
	})
}

func TestAReleaseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, hooks := stored(t, took(t, lease.Record{}, "n1", "here"))
		hooks.Before = func(context.Context, lease.Record) error { return errAway }
		if got, err := (&Releaser{m}).Release(t.Context(), deadNode(always)); got != NotReleased || !errors.Is(err, errAway) {
			t.Errorf("%s, %v", got, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), releasePause/2)
		defer cancel()
		if got, err := (&Releaser{m}).Release(ctx, deadNode(always)); got != NotReleased || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errAway) {
			t.Errorf("%s, %v", got, err)
		}
	})
}

// between is a store at which something happens between reading and writing.
type between struct {
	lease.Store
	happens func(write int)
	writes  int
}

func (b *between) CompareAndSet(ctx context.Context, expect uint64, next lease.Record) (lease.Record, error) {
	b.writes++
	b.happens(b.writes)
	return b.Store.CompareAndSet(ctx, expect, next)
}

// TestARenewalUnderWayDoesNotPreventTheRelease: what the dead process sent may arrive late.
func TestARenewalUnderWayDoesNotPreventTheRelease(t *testing.T) {
	m, _ := stored(t, took(t, lease.Record{}, "n1", "here"))
	b := &between{Store: m, happens: func(write int) {
		if write == 1 {
			r := load(t, m)
			next, err := r.Renew(lease.Claim{Node: "n1", Epoch: r.Epoch}, 5)
			if err != nil {
				t.Fatal(err)
			}
			put(t, m, next)
		}
	}}
	got, err := (&Releaser{b}).Release(t.Context(), deadNode(always))
	if r := load(t, m); err != nil || got != Released || !r.Released || r.CommitLSN != 5 || b.writes != 2 {
		t.Errorf("%s, %v, %d writes: %+v", got, err, b.writes, r)
	}
}

// TestAnotherEpochIsNeverReleased: the node is given, or takes, another epoch between the
// reading and the write. That epoch is a living one.
func TestAnotherEpochIsNeverReleased(t *testing.T) {
	for name, next := range map[string]func(lease.Record) lease.Record{
		"by the node itself": func(r lease.Record) lease.Record { return took(t, r, "n1", "here") },
		"by another node":    func(r lease.Record) lease.Record { return took(t, r, "n2", "here") },
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := stored(t, took(t, lease.Record{}, "n1", "here"))
			b := &between{Store: m, happens: func(int) { put(t, m, next(load(t, m))) }}
			got, err := (&Releaser{b}).Release(t.Context(), deadNode(always))
			if r := load(t, m); err != nil || got != NotItsOwn || r.Released || b.writes != 1 {
				t.Errorf("%s, %v, %d writes: %+v", got, err, b.writes, r)
			}
		})
	}
}

// TestWhatRunsAgainIsNotReleased: the node was given epoch 2 and died before it opened
// it, was started again, and opens it now: same node, same epoch, alive.
func TestWhatRunsAgainIsNotReleased(t *testing.T) {
	m, _ := stored(t, took(t, lease.Record{}, "n1", "here"))
	var again atomic.Bool
	b := &between{Store: m, happens: func(int) {
		again.Store(true)
		r := load(t, m)
		next, err := r.Renew(lease.Claim{Node: "n1", Epoch: r.Epoch}, 9)
		if err != nil {
			t.Fatal(err)
		}
		put(t, m, next)
	}}
	got, err := (&Releaser{b}).Release(t.Context(), deadNode(func() bool { return !again.Load() }))
	if r := load(t, m); got != NotReleased || !errors.Is(err, ErrStartedAgain) || r.Released || b.writes != 1 {
		t.Errorf("%s, %v, %d writes: %+v", got, err, b.writes, r)
	}
}

func TestAReleaseNeedsToKnowTheNode(t *testing.T) {
	m, _ := stored(t, took(t, lease.Record{}, "n1", "here"))
	for _, s := range []Stopped{{Machine: "m", Node: "n1", still: always}, {Machine: "m", Place: "here", still: always}, {Node: "n1", Place: "here"}} {
		if got, err := (&Releaser{m}).Release(t.Context(), s); got != NotReleased || err == nil || load(t, m).Released {
			t.Errorf("%+v: %s, %v", s, got, err)
		}
	}
}

// TestTheLeaseOfADeadWriterIsGivenUpAtOnce, by the supervisor itself.
func TestTheLeaseOfADeadWriterIsGivenUpAtOnce(t *testing.T) {
	data := t.TempDir()
	place, err := lease.PlaceOf(data)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := stored(t, took(t, lease.Record{}, "n1", place))
	dir := t.TempDir()
	writeUnit(t, dir, "n1", unitOf(t, "obedient", "--node-id n1 --data-dir "+data, "Restart=always"))
	writeUnit(t, dir, "n2", unitOf(t, "obedient", "--node-id n2 --data-dir "+t.TempDir()))
	r := supervise(t, dir, func(_ *Config, d *Deps) {
		d.Releaser = &Releaser{m}
		d.Decide = func(_, id string, e Exit) Next {
			if id == "n1" && e.Failures == 1 {
				return RestartNow
			}
			return Hold
		}
	})
	// A follower's end changes nothing.
	r.must(r.Start(t.Context(), node("n2")))
	r.next(Started)
	if _, err := r.Stop(t.Context(), node("n2")); err != nil {
		t.Fatal(err)
	}
	r.next(Exited)
	if e := r.next(LeaseGivenUp); e.Release != NotItsOwn || e.Err != nil {
		t.Errorf("%+v", e)
	}
	// A writer that is started again keeps its lease.
	r.started()
	r.must(r.Kill(t.Context(), node("n1"), syscall.SIGKILL))
	r.next(Exited)
	pid := r.next(Started).PID
	if load(t, m).Released {
		t.Error("the lease of a node that runs was given up")
	}
	r.must(r.Kill(t.Context(), node("n1"), syscall.SIGKILL))
	if e := r.next(Exited); e.Next != Hold || e.PID != pid {
		t.Errorf("%+v", e)
	}
	if e := r.next(LeaseGivenUp); e.Release != Released || e.Err != nil || e.Node != "n1" || e.PID != pid {
		t.Errorf("%+v", e)
	}
	if rec := load(t, m); !rec.Released {
		t.Errorf("%+v", rec)
	}
	r.must(r.Start(t.Context(), node("n1")))
	r.next(Started)
}

// A server that somebody has started by hand in the directory of a node that is held may
// be the one that the record names by now: nothing of it has ended.
func TestADirectoryThatIsOpenIsNotReleased(t *testing.T) {
	data := t.TempDir()
	place, err := lease.PlaceOf(data)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := stored(t, took(t, lease.Record{}, "n1", place))
	dir := t.TempDir()
	writeUnit(t, dir, "n1", unitOf(t, "obedient", "--node-id n1 --data-dir "+data))
	r := supervise(t, dir, func(_ *Config, d *Deps) { d.Releaser = &Releaser{m} })
	r.must(r.Start(t.Context(), node("n1")))
	r.next(Started)
	byHand := exec.Command(self(t), data)
	byHand.Env = append(os.Environ(), roleVariable+"=opener")
	out, err := byHand.StdoutPipe()
	if err == nil {
		err = byHand.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(byHand.Process.Kill(), byHand.Wait()) }()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	p, err := r.Stop(t.Context(), node("n1"))
	if r.must(err); !p.Reaped || p.Place != "" {
		t.Errorf("%+v", p)
	}
	r.next(Exited)
	if e := r.next(LeaseGivenUp); e.Release != NotReleased || e.Err == nil || load(t, m).Released {
		t.Errorf("%+v", e)
	}
	if err := byHand.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = byHand.Wait() // it was killed
	if p, err := r.Process(t.Context(), node("n1")); err != nil || !p.Reaped || p.Place != place {
		t.Errorf("%+v, %v", p, err)
	}
}
