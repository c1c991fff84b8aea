package replica

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/engine"
	"originchain/shared/lsn"
)

// model is what is true of the followers, whatever the hub was told.
type model struct {
	*rig
	rng   *rand.Rand
	nodes []*modelNode
	acked lsn.LSN // the highest answer
	next  lsn.LSN
	stuck bool // the publisher waits
	trace []string
}

type modelNode struct {
	name    string
	durable lsn.LSN
	session *Session
	// stale: it lost frames and has not said Hello since; the hub cannot know.
	stale bool
}

// Any mixture of traffic, followers that stop, lose frames and come back, and a
// record that is slow, away, or does not say what it did. At each moment whoever
// the record names has everything acknowledged; and when all is well again,
// acknowledgements come and the set is full.
func TestHubAgainstAModel(t *testing.T) {
	seeds := uint64(300)
	if testing.Short() {
		seeds = 50
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			r := newRig(t, HubConfig{Sync: 1 + rng.IntN(2), Strict: rng.IntN(3) == 0})
			m := &model{rig: r, rng: rng}
			for _, n := range []string{"b", "c", "d"} {
				m.nodes = append(m.nodes, &modelNode{name: n})
			}
			m.run(seed)
			close(r.halt)
			r.stop()
		})
	}
}

func (m *model) run(seed uint64) {
	m.Begin(0, nil)
	answers := make(chan error, 1)
	defer func() {
		if m.t.Failed() {
			m.t.Logf("seed %d:\n%v", seed, m.trace)
			m.t.FailNow()
		}
	}()
	for range 150 {
		m.step(answers)
		synctest.Wait()
		m.take(answers)
		m.check()
		if m.t.Failed() {
			return
		}
	}
	m.heal(answers)
}

func (m *model) say(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

func (m *model) step(answers chan error) {
	n := m.nodes[m.rng.IntN(len(m.nodes))]
	switch k := m.rng.IntN(20); {
	case k < 5:
		m.write(answers)
	case k < 10:
		m.copy(n)
	case k < 13:
		m.connect(n)
	case k == 13 && n.session != nil:
		m.say("%s ends", n.name)
		n.session.End()
		n.session = nil
	case k == 14 && m.rng.IntN(4) == 0 && n.durable > 0:
		n.durable -= lsn.LSN(m.rng.IntN(int(n.durable) + 1))
		n.stale, n.session = true, nil
		m.say("%s loses all above %d", n.name, n.durable)
	case k == 15:
		m.record(m.rng.IntN(3))
	case k < 18:
		d := time.Duration(m.rng.IntN(300)) * time.Millisecond
		m.say("%v", d)
		<-time.After(d)
	case k == 18:
		<-time.After(time.Duration(m.rng.IntN(5)) * time.Second)
	}
}

func (m *model) write(answers chan error) {
	if m.stuck {
		return
	}
	m.next++
	m.say("write %d", m.next)
	m.stuck = true
	m.rig.durable.Store(uint64(m.next))
	go func(at lsn.LSN) { answers <- m.Await(at, m.halt) }(m.next)
}

// take notes an answer; one that expired is asked for again.
func (m *model) take(answers chan error) {
	select {
	case err := <-answers:
		var expired *engine.Expired
		switch {
		case err == nil:
			m.acked, m.stuck = m.next, false
			m.say("acked %d", m.acked)
		case errors.As(err, &expired) && m.cfg.Strict:
			go func(at lsn.LSN) { answers <- m.Await(at, m.halt) }(m.next)
		default:
			m.t.Errorf("unexpected: %v", err)
		}
	default:
	}
}

func (m *model) copy(n *modelNode) {
	if n.session == nil || n.stale {
		return
	}
	if n.durable < m.next {
		n.durable += 1 + lsn.LSN(m.rng.IntN(int(m.next-n.durable)))
	}
	m.say("%s has %d", n.name, n.durable)
	n.session.Acknowledge(n.durable, 0)
}

// connect is what a Server does with a Hello.
func (m *model) connect(n *modelNode) {
	if err := m.Readmit(m.t.Context(), n.name, n.durable); err != nil {
		m.say("%s is refused: %v", n.name, err)
		return
	}
	m.say("%s is back with %d", n.name, n.durable)
	n.stale = false
	n.session = m.Connected(follower(n.name), n.durable)
}

func (m *model) record(how int) {
	m.rec.do(func(f *fakeRecord) {
		f.before, f.after = nil, nil
		switch how {
		case 0:
			f.before = errors.New("away")
		case 1:
			f.after = errors.New("time-out of the answer")
		}
		if f.hold != nil {
			close(f.hold)
			f.hold = nil
		} else if m.rng.IntN(3) == 0 && how == 2 {
			f.hold = make(chan struct{})
			hold := f.hold
			time.AfterFunc(time.Second, func() {
				m.rec.do(func(f *fakeRecord) {
					if f.hold == hold {
						close(hold)
						f.hold = nil
					}
				})
			})
		}
	})
	m.say("record %d", how)
}

// check is the invariant. The record's own lock is no matter: nothing runs.
func (m *model) check() {
	for _, n := range m.nodes {
		if m.rec.set[n.name] && !n.stale && n.durable < m.acked {
			m.t.Errorf("the record names %s, which ends at %d, and %d is acknowledged", n.name, n.durable, m.acked)
		}
	}
	if got := m.Acked(); got < m.acked {
		m.t.Errorf("acked went back from %d to %d", m.acked, got)
	}
	if m.cfg.Strict && m.acked > 0 && m.Degraded(m.acked) {
		m.t.Errorf("strict, and %d is degraded", m.acked)
	}
}

// heal ends all trouble and requires that the hub finds out of it by itself.
func (m *model) heal(answers chan error) {
	m.say("heal")
	m.record(2)
	m.record(3)
	m.rec.do(func(f *fakeRecord) { f.before, f.after = nil, nil })
	for _, n := range m.nodes {
		m.connect(n)
		n.durable = m.next
		n.session.Acknowledge(n.durable, 0)
	}
	for range 3 { // what expired meanwhile is asked for again
		<-time.After(maxBackoff)
		synctest.Wait()
		m.take(answers)
	}
	synctest.Wait()
	if m.stuck {
		m.t.Errorf("frame %d is not acknowledged although all followers have it", m.next)
		return
	}
	have, want := m.Short()
	if in := m.InSync(); len(in) != m.cfg.Sync || len(m.rec.set) != len(in) || have != want {
		m.t.Errorf("all is well, and %v are in sync, %d in the record, %d answer; want %d", in, len(m.rec.set), have, want)
	}
	if err := m.Admit(); err != nil {
		m.t.Errorf("all is well: %v", err)
	}
	m.check()
}
