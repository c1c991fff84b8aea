package lease

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/lsn"
)

func at(l lsn.LSN, e lsn.Epoch) lsn.Pos { return lsn.Pos{Epoch: e, LSN: l} }

// confirmed: a holds epoch 2, confirmed, with b and c in the set; epoch 1 ended at
// 95, and 110 was renewed as the commit LSN.
func confirmed() Record {
	return Record{Instance: instance, Version: 4, Epoch: 2, ConfirmedEpoch: 2, Holder: "a",
		ReplicationAddress: "a:7000", URL: "http://a", CommitLSN: 110, InSync: []string{"b", "c"},
		Line: []Opening{{1, 1, 0}, {2, 96, 1}}}
}

// taken: b, whose log ended at 112, has taken epoch 3 and not confirmed it.
func taken() Record {
	r := confirmed()
	r.Epoch, r.Holder, r.ReplicationAddress, r.URL = 3, "b", "b:7000", "http://b"
	r.InSync, r.Eligible = nil, []string{"a", "b", "c"}
	r.Line = append(r.Line, Opening{3, 113, 2})
	return r
}

// fresh: a has taken the first epoch of an instance with an empty log.
func fresh() Record {
	return Record{Instance: instance, Version: 1, Epoch: 1, Holder: "a", ReplicationAddress: "a:7000", URL: "http://a",
		Line: []Opening{{1, 1, 0}}}
}

func with(r Record, change func(*Record)) Record {
	change(&r)
	return r
}

func TestMayOpen(t *testing.T) {
	lonely := with(confirmed(), func(r *Record) { r.ReplicationAddress = "" })
	forgotten := with(confirmed(), func(r *Record) { r.Line = []Opening{{2, 96, 1}} })
	adopted := with(fresh(), func(r *Record) { r.Epoch, r.CommitLSN, r.Line = 8, 500, []Opening{{8, 501, 7}} })
	for _, c := range []struct {
		name     string
		r        Record
		node     string
		last     lsn.Pos
		decision Decision
		reason   Reason
	}{
		{"no record", Record{}, "x", at(0, 0), Open, ""},
		{"the holder", confirmed(), "a", at(120, 2), Open, ""},
		{"a member", confirmed(), "b", at(110, 2), Open, ""},
		{"a member that is behind what may be acknowledged", confirmed(), "b", at(109, 2), Follow, Behind},
		{"a member without a log", confirmed(), "b", at(0, 0), Follow, NoHistory},
		{"a member ahead of the fork, from the epoch before", confirmed(), "b", at(120, 1), Follow, Diverged},
		{"a member just before the fork is only behind", confirmed(), "b", at(95, 1), Follow, Behind},
		{"a member just after it", confirmed(), "b", at(96, 1), Follow, Diverged},
		{"before its epoch began", confirmed(), "b", at(95, 2), Follow, Diverged},
		{"an epoch nobody knows", confirmed(), "b", at(120, 9), Follow, Diverged},
		{"another node", confirmed(), "d", at(120, 2), Follow, NotEntitled},
		{"the holder, wiped", confirmed(), "a", at(0, 0), Refuse, NoHistory},
		{"the holder, rolled back", confirmed(), "a", at(100, 2), Refuse, Behind},
		{"the holder, diverged", confirmed(), "a", at(120, 1), Refuse, Diverged},
		{"nobody to follow", lonely, "d", at(120, 2), Refuse, NotEntitled},
		{"an unconfirmed holder, before its first frame", taken(), "b", at(112, 2), Open, ""},
		{"and after it", taken(), "b", at(113, 3), Open, ""},
		{"the holder before, with a tail that the new one never had", taken(), "a", at(130, 2), Open, ""},
		{"an eligible node that followed the unconfirmed one", taken(), "c", at(113, 3), Open, ""},
		{"an eligible node that is behind", taken(), "c", at(109, 2), Follow, Behind},
		{"an eligible node off the confirmed line", taken(), "c", at(120, 1), Follow, Diverged},
		{"not eligible", taken(), "d", at(113, 3), Follow, NotEntitled},
		{"the first holder, before its first frame", fresh(), "a", at(0, 0), Open, ""},
		{"the first holder, after it", fresh(), "a", at(1, 1), Open, ""},
		{"an old epoch that the oldest opening names as parent", with(forgotten, func(r *Record) { r.CommitLSN = 90 }), "b", at(95, 1), Open, ""},
		{"the same beyond the fork", forgotten, "b", at(120, 1), Follow, Diverged},
		{"an epoch older than what is remembered", with(confirmed(), func(r *Record) { r.Line = []Opening{{2, 9, 1}}; r.CommitLSN = 1 }), "b", at(5, 0), Follow, Diverged},
		{"frames of no epoch", fresh(), "a", at(5, 0), Refuse, Diverged},
		{"a log that was there before the record", adopted, "a", at(500, 7), Open, ""},
		{"the same, wiped", adopted, "a", at(0, 0), Refuse, NoHistory},
	} {
		want := Verdict{Decision: c.decision, Reason: c.reason}
		if c.decision == Follow {
			want.Leader, want.ReplicationAddress, want.URL = c.r.Holder, c.r.ReplicationAddress, c.r.URL
		}
		got := c.r.MayOpen(c.node, c.last)
		if (got.Detail == "") != (c.decision == Open) {
			t.Errorf("%s: detail is %q", c.name, got.Detail)
		}
		got.Detail = ""
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestAtRisk(t *testing.T) {
	for _, c := range []struct {
		r          Record
		last       lsn.Pos
		first, end lsn.LSN
	}{
		{confirmed(), at(120, 2), 121, 110},
		{confirmed(), at(100, 2), 101, 110},
		{confirmed(), at(60, 1), 61, 110},
		{confirmed(), at(300, 1), 96, 110},
		{confirmed(), at(300, 9), 1, 110},
		{confirmed(), at(50, 2), 1, 110},
		{confirmed(), at(0, 0), 1, 110},
	} {
		if first, end := c.r.AtRisk(c.last); first != c.first || end != c.end {
			t.Errorf("a log that ends at %s risks %d to %d, want %d to %d", c.last, first, end, c.first, c.end)
		}
	}
}

// candidate is a node that asks for the next epoch, with what the record then says
// of it.
func candidate(node string, last lsn.Pos) Candidate {
	return Candidate{Instance: instance, Node: node, ReplicationAddress: node + ":7000", URL: "http://" + node, Last: last}
}

func lossy(c Candidate) Candidate { c.AcceptLoss = true; return c }

func TestTake(t *testing.T) {
	above := candidate("b", at(112, 2))
	above.AtLeast = 40
	released := with(confirmed(), func(r *Record) { r.Released = true })
	for _, c := range []struct {
		name string
		from Record
		by   Candidate
		want Record
	}{
		{"the first epoch of an instance", Record{}, candidate("a", at(0, 0)), with(fresh(), func(r *Record) { r.Version = 0 })},
		{"the first record of an instance with a log", Record{}, candidate("a", at(500, 7)), with(fresh(), func(r *Record) {
			r.Version, r.Epoch, r.CommitLSN, r.Line = 0, 8, 500, []Opening{{8, 501, 7}}
		})},
		{"a member takes over", confirmed(), candidate("b", at(112, 2)), taken()},
		{"what was released begins anew", released, candidate("b", at(112, 2)), taken()},
		{"above every epoch known elsewhere", confirmed(), above, with(taken(), func(r *Record) { r.Epoch = 41; r.Line[2].Epoch = 41 })},
		{"after an epoch that was not confirmed nothing new is eligible", with(taken(), func(r *Record) { r.Eligible = []string{"a", "c"} }),
			candidate("a", at(130, 2)), with(taken(), func(r *Record) {
				r.Epoch, r.Holder, r.ReplicationAddress, r.URL, r.Eligible = 4, "a", "a:7000", "http://a", []string{"a", "c"}
				r.Line = append(r.Line, Opening{4, 131, 2})
			})},
		{"a loss that is accepted", confirmed(), lossy(candidate("d", at(100, 2))), with(taken(), func(r *Record) {
			r.Holder, r.ReplicationAddress, r.URL, r.CommitLSN, r.Line[2].FirstLSN = "d", "d:7000", "http://d", 100, 101
		})},
		{"accepting one that is none costs nothing", confirmed(), lossy(candidate("b", at(112, 2))), taken()},
		{"another line, from a fork that is known", confirmed(), lossy(candidate("d", at(300, 1))), with(taken(), func(r *Record) {
			r.Holder, r.ReplicationAddress, r.URL, r.CommitLSN, r.ConfirmedEpoch = "d", "d:7000", "http://d", 300, 1
			r.Line = []Opening{{1, 1, 0}, {3, 301, 1}}
		})},
		{"another line, from nobody knows where", confirmed(), lossy(candidate("d", at(70, 9))), with(taken(), func(r *Record) {
			r.Epoch, r.Holder, r.ReplicationAddress, r.URL, r.CommitLSN, r.ConfirmedEpoch = 10, "d", "d:7000", "http://d", 70, 0
			r.Line = []Opening{{10, 71, 9}}
		})},
		{"a log that ends where its epoch had not begun", confirmed(), lossy(candidate("d", at(50, 2))), with(taken(), func(r *Record) {
			r.Holder, r.ReplicationAddress, r.URL, r.CommitLSN, r.ConfirmedEpoch = "d", "d:7000", "http://d", 50, 0
			r.Line = []Opening{{3, 51, 2}}
		})},
	} {
		before := c.from.clone()
		got, err := c.from.Take(c.by)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if got.Version++; got.Validate() != nil {
			t.Errorf("%s: %v", c.name, got.Validate())
		}
		if diff := cmp.Diff(before, c.from); diff != "" {
			t.Errorf("%s changed the record it came from:\n%s", c.name, diff)
		}
		// The node that took it may stop and start before its first frame and after.
		for _, last := range []lsn.Pos{c.by.Last, at(c.by.Last.LSN+1, got.Epoch)} {
			if v := got.MayOpen(c.by.Node, last); v.Decision != Open {
				t.Errorf("%s: the new holder at %s is told %+v", c.name, last, v)
			}
		}
		if _, err := got.Confirm(Claim{got.Holder, got.Epoch}, c.by.Last, nil, 0); err != nil {
			t.Errorf("%s: confirm: %v", c.name, err)
		}
	}
}

func TestTakeRefuses(t *testing.T) {
	foreign := candidate("b", at(112, 2))
	foreign.Instance = "01HZX3V9J8Q2W4E6R8T0Y2M4K7"
	if _, err := confirmed().Take(lossy(foreign)); !errors.Is(err, ErrOtherInstance) {
		t.Errorf("another instance: got %v", err)
	}
	for name, c := range map[string]struct {
		by     Candidate
		reason Reason
	}{
		"not a member":                        {candidate("d", at(120, 2)), NotEntitled},
		"behind":                              {candidate("b", at(109, 2)), Behind},
		"diverged":                            {candidate("b", at(120, 1)), Diverged},
		"empty":                               {candidate("b", at(0, 0)), NoHistory},
		"empty, whatever is accepted":         {lossy(candidate("b", at(0, 0))), NoHistory},
		"empty and no member, all the same":   {lossy(candidate("d", at(0, 0))), NotEntitled},
		"the old holder that lost everything": {lossy(candidate("a", at(0, 0))), NoHistory},
	} {
		_, err := confirmed().Take(c.by)
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Verdict.Reason != c.reason {
			t.Errorf("%s: got %v, want %s", name, err, c.reason)
		}
	}
}

// TestTheLineIsBounded: the oldest opening goes, the last confirmed one stays.
func TestTheLineIsBounded(t *testing.T) {
	r, last := confirmed(), at(112, 2)
	for range 2 * MaxLine {
		next, err := r.Take(candidate("a", last))
		if err != nil {
			t.Fatal(err)
		}
		next.Version++
		if err := next.Validate(); err != nil {
			t.Fatal(err)
		}
		r, last = next, at(last.LSN+1, next.Epoch)
	}
	if len(r.Line) != MaxLine || r.Line[0].Epoch != 2 || r.Line[1].Epoch != 2+MaxLine+2 {
		t.Errorf("%d openings, from %v", len(r.Line), r.Line[:2])
	}
	if v := r.MayOpen("b", at(112, 2)); v.Decision != Open {
		t.Errorf("a member of the last confirmed epoch: %+v", v)
	}
	if v := r.MayOpen("b", at(113, 3)); v.Reason != Diverged {
		t.Errorf("an epoch that was dropped: %+v", v)
	}
}

func TestConfirm(t *testing.T) {
	b := Claim{"b", 3}
	branched := with(taken(), func(r *Record) {
		r.Epoch, r.Line = 5, append(r.Line, Opening{4, 131, 2}, Opening{5, 114, 3})
	})
	for _, c := range []struct {
		name   string
		from   Record
		by     Claim
		last   lsn.Pos
		inSync []string
		line   []Opening
		set    []string
	}{
		{"alone", taken(), b, at(112, 2), nil, []Opening{{1, 1, 0}, {2, 96, 1}, {3, 113, 2}}, nil},
		{"with followers", taken(), b, at(112, 2), []string{"c", "a", "c"}, []Opening{{1, 1, 0}, {2, 96, 1}, {3, 113, 2}}, []string{"a", "c"}},
		{"where it really began", taken(), b, at(125, 2), nil, []Opening{{1, 1, 0}, {2, 96, 1}, {3, 126, 2}}, nil},
		{"an epoch that left no frame is no ancestor", branched, Claim{"b", 5}, at(113, 3), nil,
			[]Opening{{1, 1, 0}, {2, 96, 1}, {3, 113, 2}, {5, 114, 3}}, nil},
		{"not even the one before", branched, Claim{"b", 5}, at(113, 2), nil, []Opening{{1, 1, 0}, {2, 96, 1}, {5, 114, 2}}, nil},
		{"the first", fresh(), Claim{"a", 1}, at(0, 0), []string{"b"}, []Opening{{1, 1, 0}}, []string{"b"}},
	} {
		want := c.from.clone()
		want.ConfirmedEpoch, want.Eligible, want.InSync, want.Line = c.from.Epoch, nil, c.set, c.line
		want.SyncReplicas = 1
		got, err := c.from.Confirm(c.by, c.last, c.inSync, 1)
		if diff := cmp.Diff(want, got); diff != "" || err != nil || got.Validate() != nil {
			t.Errorf("%s: %v, %v (-want +got):\n%s", c.name, err, got.Validate(), diff)
		}
	}
	var refused *RefusedError
	if _, err := taken().Confirm(b, at(100, 2), nil, 1); !errors.As(err, &refused) || refused.Verdict.Reason != Behind {
		t.Errorf("a log that lost frames: got %v", err)
	}
	if _, err := taken().Confirm(b, at(112, 2), []string{"b"}, 1); !errors.Is(err, ErrNotMember) {
		t.Errorf("the holder as its own follower: got %v", err)
	}
	if _, err := taken().Confirm(b, at(112, 2), nodes(MaxMembers+1), 1); !errors.Is(err, ErrSetFull) {
		t.Errorf("too many: got %v", err)
	}
	if _, err := confirmed().Confirm(Claim{"a", 2}, at(95, 1), nil, 1); !errors.Is(err, ErrConfirmed) {
		t.Errorf("twice: got %v", err)
	}
}

func TestEnterAndLeave(t *testing.T) {
	a, b := Claim{"a", 2}, Claim{"b", 3}
	enter := func(r Record, by Claim, node string) ([]string, error) {
		got, err := r.Enter(by, node)
		return got.InSync, err
	}
	if got, err := enter(confirmed(), a, "ab"); err != nil || !slices.Equal(got, []string{"ab", "b", "c"}) {
		t.Errorf("enter: %v, %v", got, err)
	}
	if got, err := enter(confirmed(), a, "b"); err != nil || !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("enter again: %v, %v", got, err)
	}
	if _, err := enter(taken(), b, "c"); !errors.Is(err, ErrUnconfirmed) {
		t.Errorf("enter before the epoch is confirmed: got %v", err)
	}
	for _, node := range []string{"a", "", "d d"} {
		if _, err := enter(confirmed(), a, node); !errors.Is(err, ErrNotMember) {
			t.Errorf("enter %q: got %v", node, err)
		}
	}
	if _, err := enter(with(confirmed(), func(r *Record) { r.InSync = nodes(MaxMembers) }), a, "b"); !errors.Is(err, ErrSetFull) {
		t.Errorf("enter a full set: got %v", err)
	}
	for _, c := range []struct {
		r                Record
		by               Claim
		node             string
		inSync, eligible []string
	}{
		{confirmed(), a, "b", []string{"c"}, nil},
		{confirmed(), a, "d", []string{"b", "c"}, nil},
		{taken(), b, "c", nil, []string{"a", "b"}},
	} {
		want := c.r.clone()
		want.InSync, want.Eligible = c.inSync, c.eligible
		got, err := c.r.Leave(c.by, c.node)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s leaves: %v (-want +got):\n%s", c.node, err, diff)
		}
	}
}

func TestRenew(t *testing.T) {
	for _, commit := range []lsn.LSN{110, 111, math.MaxUint64} {
		if got, err := confirmed().Renew(Claim{"a", 2}, commit); err != nil || got.CommitLSN != commit {
			t.Errorf("renew with %d: %d, %v", commit, got.CommitLSN, err)
		}
	}
	if _, err := confirmed().Renew(Claim{"a", 2}, 109); !errors.Is(err, ErrCommitFalls) {
		t.Errorf("a commit LSN that falls: got %v", err)
	}
	if got, err := taken().Renew(Claim{"b", 3}, 110); err != nil || got.CommitLSN != 110 {
		t.Errorf("renew before confirmation: %v", err)
	}
	if _, err := taken().Renew(Claim{"b", 3}, 111); !errors.Is(err, ErrUnconfirmed) {
		t.Errorf("a commit before confirmation: got %v", err)
	}
}

func TestRelease(t *testing.T) {
	a := Claim{"a", 2}
	r, err := confirmed().Release(a, 0)
	if want := with(confirmed(), func(r *Record) { r.Released = true }); err != nil || !cmp.Equal(want, r) {
		t.Fatalf("got %+v, %v", r, err)
	}
	if again, err := r.Release(a, 0); err != nil || !cmp.Equal(r, again) {
		t.Errorf("again: %+v, %v", again, err)
	}
	var fenced *FencedError
	if _, err := r.Renew(a, 120); !errors.As(err, &fenced) || !fenced.Released {
		t.Errorf("renewing what was released: got %v", err)
	}
}

// TestEveryChangeIsFenced: nobody changes the record but its holder in its epoch.
func TestEveryChangeIsFenced(t *testing.T) {
	for name, change := range map[string]func(r Record, by Claim) (Record, error){
		"confirm": func(r Record, by Claim) (Record, error) { return r.Confirm(by, at(112, 2), nil, 1) },
		"enter":   func(r Record, by Claim) (Record, error) { return r.Enter(by, "d") },
		"leave":   func(r Record, by Claim) (Record, error) { return r.Leave(by, "c") },
		"renew":   func(r Record, by Claim) (Record, error) { return r.Renew(by, r.CommitLSN) },
		"release": func(r Record, by Claim) (Record, error) { return r.Release(by, 0) },
	} {
		released := with(taken(), func(r *Record) { r.Released = true })
		for _, c := range []struct {
			r  Record
			by Claim
		}{{taken(), Claim{"a", 2}}, {taken(), Claim{"b", 2}}, {taken(), Claim{"a", 3}}, {taken(), Claim{"b", 4}}, {Record{}, Claim{}}, {released, Claim{"b", 3}}} {
			got, err := change(c.r, c.by)
			if c.r.Released && name == "release" {
				continue
			}
			want := &FencedError{By: c.by, Holder: c.r.Holder, Epoch: c.r.Epoch, URL: c.r.URL, Released: c.r.Released}
			var fenced *FencedError
			if !errors.As(err, &fenced) || !cmp.Equal(want, fenced) || got.Epoch != 0 {
				t.Errorf("%s by %+v: got %v, want %v", name, c.by, err, want)
			}
		}
	}
}

// An epoch that was taken on a node's behalf is opened by one process: who says first
// where it is. All others, and whoever opens what it opened itself, take another one.
func TestAdopt(t *testing.T) {
	last := lsn.Pos{LSN: 7, Epoch: 1}
	free := first()
	free.ConfirmedEpoch, free.InSync, free.CommitLSN = 1, []string{"b"}, 5
	given, err := free.Take(Candidate{Instance: free.Instance, Node: free.InSync[0], Last: last})
	if err != nil {
		t.Fatal(err)
	}
	node := given.Holder
	if !given.Given(node) || given.Given(free.Holder) || free.Given(free.Holder) {
		t.Fatalf("%+v", given)
	}
	later := lsn.Pos{LSN: 9, Epoch: 1} // the log went on until the node opened
	own := Candidate{Instance: free.Instance, Node: node, Last: later, Place: "here", URL: "http://b:1", ReplicationAddress: "b:2"}
	opened, err := given.Adopt(own)
	if err != nil {
		t.Fatal(err)
	}
	if o := opened.Line[len(opened.Line)-1]; opened.Epoch != given.Epoch || opened.Place != "here" || opened.URL != own.URL || o.FirstLSN != 10 || o.Parent != 1 {
		t.Errorf("%+v", opened)
	}
	confirmed, err := opened.Confirm(Claim{Node: node, Epoch: opened.Epoch}, later, nil, 0)
	if err != nil || confirmed.Given(node) {
		t.Errorf("%+v, %v", confirmed, err)
	}
	for name, refused := range map[string]struct {
		r Record
		c func(*Candidate)
	}{
		"adopted already":      {opened, func(c *Candidate) { c.Place = "elsewhere" }},
		"confirmed":            {confirmed, func(*Candidate) {}},
		"another node":         {given, func(c *Candidate) { c.Node = free.Holder }},
		"another instance":     {given, func(c *Candidate) { c.Instance = "01HZX3V9J8Q2W4E6R8T0Y2M4K7" }},
		"nobody knows where":   {given, func(c *Candidate) { c.Place = "" }},
		"a log that fell back": {given, func(c *Candidate) { c.Last = lsn.Pos{} }},
		"released meanwhile":   {func() Record { r := given.clone(); r.Released = true; return r }(), func(*Candidate) {}},
	} {
		c := own
		refused.c(&c)
		if got, err := refused.r.Adopt(c); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
