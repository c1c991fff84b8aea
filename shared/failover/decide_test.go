package failover

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"originchain/shared/lease"
	"originchain/shared/lsn"
)

const instance = "01HZX3V9J8Q2W4E6R8T0Y2M4K6"

// recordOf is epoch 1 of a, confirmed with the set, committed up to LSN 5000.
func recordOf(t testing.TB, set ...string) lease.Record {
	t.Helper()
	r, err := lease.Record{}.Take(lease.Candidate{Instance: instance, Node: "a", ReplicationAddress: "127.0.0.1:7001", URL: "http://127.0.0.1:8001", Place: "place-a"})
	if err == nil {
		r, err = r.Confirm(lease.Claim{Node: "a", Epoch: 1}, lsn.Pos{}, set, min(1, len(set)))
	}
	if err == nil {
		r, err = r.Renew(lease.Claim{Node: "a", Epoch: 1}, 5000)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// left is epoch 1 of a, which waits for a follower, after the last one has left its set.
func left(t testing.TB) lease.Record {
	t.Helper()
	r, err := recordOf(t, "b").Leave(lease.Claim{Node: "a", Epoch: 1}, "b")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// dead is an observation of a writer that is gone, and of a follower that has all.
func dead(t testing.TB) Observation {
	return Observation{
		Record: recordOf(t, "b"), RecordUnchanged: lease.Expiry,
		Writer: Writer{Silent: 7 * time.Second, Durable: 5000},
		Target: Target{Node: "b", Answers: true, Promotable: true, Last: lsn.Pos{Epoch: 1, LSN: 5010}, Applied: 5010},
	}
}

// A loss that was accepted for what a person was told is accepted for no more than that.
func TestALossIsAcceptedAsItWasTold(t *testing.T) {
	for _, c := range []struct {
		allow Overrides
		want  Verdict
	}{
		{Overrides{}, Page}, {Overrides{AcceptDataLoss: true}, Promote}, {Overrides{Loss: &Loss{From: 1, To: 9999}}, Page},
		{Overrides{AcceptDataLoss: true, Loss: &Loss{From: 4001, To: 5000}}, Promote}, {Overrides{AcceptDataLoss: true, Loss: &Loss{From: 4000, To: 6000}}, Promote},
		{Overrides{AcceptDataLoss: true, Loss: &Loss{From: 4002, To: 5000}}, Page}, {Overrides{AcceptDataLoss: true, Loss: &Loss{From: 4001, To: 4999}}, Page},
		{Overrides{AcceptDataLoss: true, Loss: &Loss{}}, Page},
	} {
		o := dead(t)
		o.Target.Last.LSN, o.Target.Applied = 4000, 4000
		d := Decide(o, c.allow)
		if d.Verdict != c.want || d.From != 4001 || d.To != 5000 {
			t.Errorf("%+v with %+v: %+v, want %s", c.allow, c.allow.Loss, d, c.want)
		}
	}
}

func TestDecide(t *testing.T) {
	usual := Overrides{AllowLag: DefaultAllowLag}
	cases := []struct {
		name    string
		change  func(o *Observation, a *Overrides)
		want    Verdict
		reasons string // codes of all reasons
	}{
		{"a dead writer whose lease has run out", func(*Observation, *Overrides) {}, Promote, "lease_expired"},
		{"a writer that was reaped is not waited for", func(o *Observation, _ *Overrides) {
			o.RecordUnchanged, o.Writer = time.Millisecond, Writer{Stopped: true, Silent: time.Millisecond}
		}, Promote, "writer_stopped"},
		{"a writer that has let go is not waited for", func(o *Observation, _ *Overrides) {
			o.Record.Released, o.RecordUnchanged, o.Writer = true, 0, Writer{Silent: time.Millisecond}
		}, Promote, "writer_released"},
		{"a blip", func(o *Observation, _ *Overrides) {
			o.RecordUnchanged, o.Writer.Silent = 3*time.Second, 1900*time.Millisecond
		}, Wait, "blip"},
		{"an observer that is cut off", func(o *Observation, _ *Overrides) { o.RecordUnchanged = time.Second }, Wait, "observer_cut"},
		{"a lease that runs", func(o *Observation, _ *Overrides) { o.RecordUnchanged = 5900 * time.Millisecond }, Wait, "lease_runs"},
		{"a writer that answers", func(o *Observation, _ *Overrides) {
			o.RecordUnchanged, o.Writer = time.Second, Writer{Took: time.Millisecond, Status: 200}
		}, Wait, "writer_answers"},
		{"a writer that answers and cannot renew", func(o *Observation, _ *Overrides) { o.Writer = Writer{Took: time.Millisecond, Status: 200} }, Promote, "lease_expired"},
		{"a writer that answers and cannot renew, and is heard", func(o *Observation, _ *Overrides) {
			o.Writer, o.Target.Streams = Writer{Took: time.Millisecond, Status: 200}, true
		}, Wait, "lease_expired follower_hears_writer"},
		{"a writer that was to end and hangs", func(o *Observation, _ *Overrides) { o.Writer = Writer{Took: time.Millisecond, Status: 503} }, Promote, "lease_expired writer_failing"},
		{"a writer whose disk hangs, and that is heard", func(o *Observation, _ *Overrides) {
			o.Writer, o.Target.Streams = Writer{Took: time.Millisecond, Status: 503}, true
		}, Promote, "lease_expired writer_failing"},
		{"a writer whose disk hung, and that is silent now", func(o *Observation, _ *Overrides) {
			o.Writer, o.Target.Streams = Writer{Silent: time.Second, Status: 503}, true
		}, Wait, "lease_expired follower_hears_writer"},
		{"a follower that hears the writer", func(o *Observation, _ *Overrides) { o.Target.Streams = true }, Wait, "lease_expired follower_hears_writer"},
		{"and does for long", func(o *Observation, _ *Overrides) { o.Target.Streams, o.RecordUnchanged = true, time.Minute }, Page, "lease_expired follower_hears_writer"},
		{"a slow writer", func(o *Observation, _ *Overrides) {
			o.RecordUnchanged, o.Writer = time.Second, Writer{Took: 2 * time.Second, Status: 200}
		}, ShedLoad, "writer_slow"},
		{"a slow writer, given up", func(o *Observation, a *Overrides) {
			o.RecordUnchanged, o.Writer, a.AllowSlowWriter = time.Second, Writer{Took: 2 * time.Second, Status: 200}, true
		}, Promote, "overridden"},
		{"a writer that is about to end", func(o *Observation, _ *Overrides) {
			o.RecordUnchanged, o.Writer = time.Second, Writer{Took: time.Millisecond, Status: 503}
		}, Wait, "writer_failing"},
		{"a switchover", func(o *Observation, _ *Overrides) {
			o.Planned, o.RecordUnchanged, o.Writer = true, 0, Writer{Took: time.Millisecond, Status: 200, Durable: 5000}
		}, Promote, "planned"},
		{"the target is the writer", func(o *Observation, _ *Overrides) { o.Target.Writer, o.Target.Last.Epoch = true, 2 }, Done, "already_writer"},
		{"the target was the writer of an epoch before", func(o *Observation, _ *Overrides) { o.Target.Writer, o.Record.Epoch = true, 2 }, Promote, "lease_expired"},
		{"no record", func(o *Observation, _ *Overrides) { o.Record = lease.Record{} }, Page, "no_record"},
		{"a store that is away", func(o *Observation, _ *Overrides) { o.RecordError, o.RecordAge = errors.New("x"), time.Second }, Wait, "record_unreadable"},
		{"a store that stays away", func(o *Observation, _ *Overrides) { o.RecordError, o.RecordAge = errors.New("x"), time.Minute }, Page, "record_unreadable"},
		{"a record that was read long ago", func(o *Observation, _ *Overrides) { o.RecordAge = 3 * time.Second }, Wait, "record_unreadable"},
		{"a target that does not answer", func(o *Observation, _ *Overrides) { o.Target.Answers = false }, Wait, "lease_expired target_silent"},
		{"and stays silent", func(o *Observation, _ *Overrides) { o.Target.Answers, o.RecordUnchanged = false, time.Minute }, Page, "lease_expired target_silent"},
		{"a target whose log takes no writes", func(o *Observation, _ *Overrides) { o.Target = Target{Node: "b", Failing: 503} }, Wait, "lease_expired target_failing"},
		{"for long", func(o *Observation, _ *Overrides) {
			o.Target, o.RecordUnchanged = Target{Node: "b", Failing: 503}, time.Minute
		}, Page, "lease_expired target_failing"},
		{"a target that only follows", func(o *Observation, _ *Overrides) { o.Target.Promotable = false }, Page, "lease_expired not_promotable"},
		{"a target out of the set", func(o *Observation, _ *Overrides) { o.Record = recordOf(t, "c") }, Page, "lease_expired not_entitled"},
		{"a target in the set that has lost frames", func(o *Observation, _ *Overrides) { o.Target.Last.LSN, o.Target.Applied = 4000, 4000 }, Page, "lease_expired not_entitled"},
		{"the loss is accepted", func(o *Observation, a *Overrides) {
			o.Target.Last.LSN, o.Target.Applied, a.AcceptDataLoss = 4000, 4000, true
		}, Promote, "lease_expired overridden"},
		{"an empty target, whatever is accepted", func(o *Observation, a *Overrides) {
			o.Target.Last, o.Target.Applied, a.AcceptDataLoss, a.AllowLag = lsn.Pos{}, 0, true, 1<<40
		}, Page, "lease_expired not_entitled"},
		{"no set, a little behind", func(o *Observation, _ *Overrides) {
			o.Record, o.Target.Last.LSN, o.Target.Applied = recordOf(t), 4500, 4500
		}, Promote, "lease_expired"},
		{"no set, too far behind", func(o *Observation, _ *Overrides) {
			o.Record, o.Target.Last.LSN, o.Target.Applied = recordOf(t), 3999, 3999
		}, Page, "lease_expired follower_behind"},
		{"no set, behind what was heard of the writer", func(o *Observation, _ *Overrides) {
			o.Record, o.Writer.Durable = recordOf(t), 6100
		}, Page, "lease_expired follower_behind"},
		{"no set, the lag is allowed", func(o *Observation, a *Overrides) {
			o.Record, o.Target.Last.LSN, o.Target.Applied, a.AllowLag = recordOf(t), 3999, 3999, 1001
		}, Promote, "lease_expired"},
		{"a set that its last member has left", func(o *Observation, _ *Overrides) {
			o.Record, o.Target.Last.LSN, o.Target.Applied = left(t), 4998, 4998
		}, Page, "lease_expired not_entitled"},
		{"much to apply", func(o *Observation, _ *Overrides) { o.Target.Applied = 4000 }, Page, "lease_expired apply_behind"},
		{"a backfill", func(o *Observation, _ *Overrides) { o.Migration = "Backfilling" }, Page, "lease_expired migration_backfilling"},
		{"a backfill, given up", func(o *Observation, a *Overrides) { o.Migration, a.AllowBackfilling = "Backfilling", true }, Promote, "lease_expired overridden"},
		{"all guards are named at once", func(o *Observation, _ *Overrides) {
			o.Record, o.Target.Applied, o.Migration = recordOf(t, "c"), 10, "Backfilling"
		}, Page, "lease_expired not_entitled apply_behind migration_backfilling"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o, allow := dead(t), usual
			c.change(&o, &allow)
			d := Decide(o, allow)
			var codes []string
			for _, r := range d.Reasons {
				codes = append(codes, string(r.Code))
				if r.Detail == "" {
					t.Errorf("%s has no detail", r.Code)
				}
			}
			if got := strings.Join(codes, " "); d.Verdict != c.want || got != c.reasons {
				t.Errorf("%s because of %q, want %s because of %q: %+v", d.Verdict, got, c.want, c.reasons, d.Reasons)
			}
			if (d.Verdict == Wait) != (d.After > 0) {
				t.Errorf("%s, to look again after %s", d.Verdict, d.After)
			}
		})
	}
}

// What may be lost is named to the LSN.
func TestTheLossIsNamed(t *testing.T) {
	o := dead(t)
	o.Record, o.Target.Last.LSN, o.Target.Applied, o.Writer.Durable = recordOf(t), 4990, 4990, 5003
	if d := Decide(o, Overrides{AllowLag: DefaultAllowLag}); d.Verdict != Promote || !d.AcceptLoss || d.From != 4991 || d.To != 5003 {
		t.Errorf("%+v", d)
	}
	o.Target.Last.LSN, o.Target.Applied = 5003, 5003
	if d := Decide(o, Overrides{}); d.Verdict != Promote || d.From != 0 || d.To != 0 {
		t.Errorf("%+v", d)
	}
	if d := Decide(dead(t), Overrides{}); d.AcceptLoss || d.To != 0 {
		t.Errorf("%+v", d)
	}
}

// Whatever is seen and given up, nobody is promoted while the holder may answer, and
// no empty directory ever; and the record's own rules take what was decided.
func TestNobodyIsPromotedBesideAWriter(t *testing.T) {
	promoted := 0
	for seed := range uint64(20000) {
		r := rand.New(rand.NewPCG(seed, 7))
		pick := func(of ...time.Duration) time.Duration { return of[r.IntN(len(of))] }
		chance := func(n int) bool { return r.IntN(n) == 0 }
		sets := [][]string{nil, {"b"}, {"c"}, {"b", "c"}}
		last := lsn.Pos{Epoch: 1, LSN: lsn.LSN([]uint64{0, 10, 3999, 4999, 5000, 5500}[r.IntN(6)])}
		if last.LSN == 0 {
			last.Epoch = 0
		}
		o := Observation{
			Record: recordOf(t, sets[r.IntN(len(sets))]...), RecordAge: pick(0, time.Second, 5*time.Second),
			RecordUnchanged: pick(0, time.Second, 3*time.Second, 5999*time.Millisecond, 6*time.Second, time.Minute),
			Writer:          Writer{Stopped: chance(4), Silent: pick(0, time.Second, 3*time.Second, time.Minute), Took: pick(time.Millisecond, 3*time.Second), Status: []int{200, 503}[r.IntN(2)]},
			Target:          Target{Node: "b", Answers: !chance(4), Writer: chance(8), Last: last, Applied: last.LSN / lsn.LSN(1+r.IntN(2)), Streams: chance(3), Promotable: !chance(4)},
			Planned:         chance(5),
		}
		o.Record.Released = chance(5)
		if chance(10) {
			o.RecordError = errors.New("x")
		}
		if chance(6) {
			o.Migration = backfilling
		}
		allow := Overrides{AllowSlowWriter: chance(3), AllowLag: uint64(r.IntN(2)) * 100000, AllowBackfilling: chance(2), AcceptDataLoss: chance(2)}
		d := Decide(o, allow)
		if len(d.Reasons) == 0 {
			t.Fatalf("seed %d: %s for no reason", seed, d.Verdict)
		}
		if d.Verdict != Promote {
			continue
		}
		promoted++
		handsOver := o.Writer.Silent == 0 && (o.Planned || allow.AllowSlowWriter)
		if !o.Record.Released && !o.Writer.Stopped && !handsOver && o.RecordUnchanged < lease.Expiry {
			t.Fatalf("seed %d: promoted beside a writer: %+v", seed, o)
		}
		if o.RecordError != nil || !o.Target.Answers || !o.Target.Promotable || last.LSN == 0 {
			t.Fatalf("seed %d: promoted in the dark: %+v", seed, o)
		}
		next, err := o.Record.Take(lease.Candidate{Instance: instance, Node: "b", Last: last, AcceptLoss: d.AcceptLoss})
		if err != nil || next.Holder != "b" {
			t.Fatalf("seed %d: the record refuses what was decided: %v", seed, err)
		}
		if lost := last.LSN < 5000; lost && !d.AcceptLoss || lost && (d.From != uint64(last.LSN)+1 || d.To != 5000) {
			t.Fatalf("seed %d: log up to %d, loss %+v", seed, last.LSN, d)
		}
		if slices.ContainsFunc(d.Reasons, func(r Reason) bool { return r.Override != "" }) {
			t.Fatalf("seed %d: promoted against %+v", seed, d.Reasons)
		}
	}
	if promoted < 300 {
		t.Errorf("%d promotions tell little", promoted)
	}
}

// A writer whose disk hangs is replaced once it has left its lease, though its follower hears it;
// not by one whose disk hangs as well, which could not open.
func TestADiskThatHangs(t *testing.T) {
	for _, both := range []bool{false, true} {
		bubble(t, func(t *testing.T, w *world) {
			w.with("a", func(n *fakeNode) { n.unwell = true })
			w.with("b", func(n *fakeNode) { n.unwell = both })
			pass(lease.Expiry)
			_, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
			var refused *RefusedError
			if !both && err != nil || both && (!errors.As(err, &refused) || len(w.controls) > 0) {
				t.Errorf("both: %t: %v", both, err)
			}
		}, "b")
	}
}
