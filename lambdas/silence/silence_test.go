package silence

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"originchain/shared/alarms"
	"originchain/shared/failover"
	"originchain/shared/telemetry"
)

// plane is a control plane whose decisions are written down before.
type plane struct {
	*Silence
	now       time.Duration
	verdict   failover.Verdict
	during    func() // while it is confirmed
	fail      error
	confirmed int
	failovers []string
}

func control() *plane {
	p := &plane{verdict: failover.Promote}
	p.Silence = New(Deps{
		Clock: func() time.Duration { return p.now },
		Confirm: func(context.Context, string) (failover.Decision, error) {
			p.confirmed++
			if p.during != nil {
				p.during()
			}
			return failover.Decision{Verdict: p.verdict, Reasons: []failover.Reason{{Code: failover.LeaseExpired, Detail: "x"}}}, nil
		},
		Failover: func(_ context.Context, writer string, _ failover.Decision) error {
			p.failovers = append(p.failovers, writer)
			return p.fail
		},
		Metrics: telemetry.NewMetrics(),
	})
	return p
}

func (p *plane) act(t *testing.T) Outcome {
	t.Helper()
	o, err := p.Act(t.Context())
	if err != nil && p.fail == nil {
		t.Fatal(err)
	}
	return o
}

func (p *plane) beats(t *testing.T, beats ...Beat) {
	t.Helper()
	for _, b := range beats {
		if err := p.Beat(b); err != nil {
			t.Fatal(err)
		}
	}
}

var a1, b0 = Beat{Node: "a", Writer: true, Epoch: 1}, Beat{Node: "b"}

func TestASilentWriterIsReplaced(t *testing.T) {
	p := control()
	p.beats(t, a1, b0)
	p.now = alarms.SilentAfter
	if o := p.act(t); o.Writer != "" || p.confirmed != 0 {
		t.Fatalf("too early: %+v", o)
	}
	p.now++
	changes, err := p.Look()
	if err != nil || len(changes) != 2 || changes[0].Node != "a" || changes[0].State != alarms.Firing {
		t.Fatalf("%+v, %v", changes, err)
	}
	if o := p.act(t); o.Writer != "a" || !o.Started || len(p.failovers) != 1 {
		t.Fatalf("%+v", o)
	}
	p.beats(t, Beat{Node: "b", Writer: true, Epoch: 2})
	if o := p.act(t); o.Writer != "" {
		t.Errorf("the new writer is well, and %+v", o)
	}
	p.beats(t, Beat{Node: "a", Writer: true, Epoch: 1}) // a zombie does not make itself the writer
	p.now += time.Minute
	if o := p.act(t); o.Writer != "b" {
		t.Errorf("%+v", o)
	}
	if s := p.Status(); len(s) != 2 || s[0].State != alarms.Firing {
		t.Errorf("%+v", s)
	}
}

func TestNothingIsStarted(t *testing.T) {
	for name, c := range map[string]struct {
		verdict failover.Verdict
		during  func(p *plane)
		want    failover.Verdict
	}{
		"a decision to wait":            {failover.Wait, nil, failover.Wait},
		"a slow writer":                 {failover.ShedLoad, nil, failover.ShedLoad},
		"a person is to decide":         {failover.Page, nil, failover.Page},
		"it is done":                    {failover.Done, nil, failover.Done},
		"a blip":                        {failover.Promote, func(p *plane) { _ = p.Beat(a1) }, failover.Wait},
		"another is the writer by now":  {failover.Promote, func(p *plane) { _ = p.Beat(Beat{Node: "b", Writer: true, Epoch: 2}) }, failover.Wait},
		"the node was taken off":        {failover.Promote, func(p *plane) { p.Forget("a") }, failover.Wait},
		"it was started again, and ran": {failover.Promote, func(p *plane) { p.now++; _ = p.Beat(a1) }, failover.Wait},
	} {
		t.Run(name, func(t *testing.T) {
			p := control()
			p.beats(t, a1, b0)
			p.now = time.Minute
			p.verdict = c.verdict
			if c.during != nil {
				p.during = func() { p.now += time.Millisecond; c.during(p) }
			}
			if o := p.act(t); o.Decision.Verdict != c.want || o.Started || len(p.failovers) != 0 {
				t.Errorf("%+v", o)
			}
		})
	}
}

func TestFlapping(t *testing.T) {
	p := control()
	for n := range MaxFailovers {
		p.beats(t, a1)
		p.now += time.Minute
		if o := p.act(t); !o.Started {
			t.Fatalf("failover %d: %+v", n+1, o)
		}
	}
	p.beats(t, a1)
	p.now += time.Minute
	o := p.act(t)
	if o.Started || o.Decision.Verdict != failover.Page || o.Decision.Reasons[len(o.Decision.Reasons)-1].Code != Flapping {
		t.Fatalf("%+v", o)
	}
	p.now += FlapWithin
	if o := p.act(t); !o.Started {
		t.Errorf("long after: %+v", o)
	}
}

// A failover that is not finished is tried again; while one is under way nothing else is.
func TestOneFailoverAtATime(t *testing.T) {
	p := control()
	p.beats(t, a1)
	p.now = time.Minute
	p.fail = errors.New("no answer")
	const tries = 2 * MaxFailovers // more than there may be failovers: it is one
	for range tries {
		if o, err := p.Act(t.Context()); err == nil || !o.Started {
			t.Fatalf("%+v, %v", o, err)
		}
	}
	p.fail = nil
	entered, release := make(chan struct{}), make(chan struct{})
	p.during = func() { close(entered); <-release }
	var first sync.WaitGroup
	first.Go(func() {
		if o, err := p.Act(context.Background()); err != nil || !o.Started {
			t.Errorf("%+v, %v", o, err)
		}
	})
	<-entered
	if o := p.act(t); o.Writer != "" {
		t.Errorf("a second one: %+v", o)
	}
	if _, err := p.Look(); err != nil {
		t.Error(err)
	}
	close(release)
	first.Wait()
	if len(p.failovers) != tries+1 {
		t.Errorf("%q", p.failovers)
	}
}

func TestNodesAreBounded(t *testing.T) {
	p := control()
	for n := range MaxNodes {
		p.beats(t, Beat{Node: string(rune('a'+n%26)) + time.Duration(n).String()})
	}
	if err := p.Beat(Beat{Node: "more"}); err == nil {
		t.Error("more nodes than there may be")
	}
}
