package replsim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/sirupsen/logrus"

	"originchain/shared/fault"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/simdisk"
	"originchain/shared/telemetry"
	"originchain/writer"
)

var (
	seedFlag  = flag.Uint64("replsim.seed", 1, "first seed of the simulation")
	seedsFlag = flag.Int("replsim.n", 200, "number of seeds to run")
	verbose   = flag.Bool("replsim.log", false, "print what the nodes log and what is done to them")
)

// Shape of one simulation, in synthetic time.
const (
	clients  = 3
	chaosFor = 40 * time.Second
	settleIn = 90 * time.Second
)

// TestReplication runs one instance per seed through faults and holds what
// clients and disks saw against the invariants. A seed that fails replays with
// -replsim.seed=S -replsim.n=1, as far as the scheduler lets it.
func TestReplication(t *testing.T) {
	var total counts
	for seed := *seedFlag; seed < *seedFlag+uint64(*seedsFlag); seed++ {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSim(t, seed)
				s.simulate()
				total.add(s.counts)
			})
		})
		if !ok {
			t.Fatalf("replay with: go test ./test/replsim -run TestReplication -replsim.seed=%d -replsim.n=1 -replsim.log", seed)
		}
	}
	t.Logf("%+v", total)
	if *seedsFlag >= 50 && (total.Epochs < *seedsFlag || total.Aside == 0 || total.Acked < 20**seedsFlag) {
		t.Errorf("too little happened to prove anything: %+v", total)
	}
}

// counts say what happened, so that a simulation that tests nothing is seen.
type counts struct{ Acked, Unknown, Degraded, Epochs, Kills, Aside, Holds, Cuts int }

func (c *counts) add(o counts) {
	c.Acked += o.Acked
	c.Unknown += o.Unknown
	c.Degraded += o.Degraded
	c.Epochs += o.Epochs
	c.Kills += o.Kills
	c.Aside += o.Aside
	c.Holds += o.Holds
	c.Cuts += o.Cuts
}

// sim is one instance and all that is known of it.
type sim struct {
	t      *testing.T
	seed   uint64
	names  []string
	net    *network
	store  *lease.Memory
	audit  *telemetry.Audit
	sync   int // followers that a write waits for
	strict bool
	retain int64
	counts counts

	storeAway, storeUnsure atomic.Bool

	mu       sync.Mutex
	rng      *rand.Rand
	disks    map[string]*simdisk.Disk
	procs    map[string]*process
	graves   []*process // killed, and not waited for yet
	storeCut map[string]bool
	token    string
	tenant   string
	history  []porcupine.Operation
	places   []place
	sights   []sight
	writes   map[int]map[lsn.LSN]string // by register: what was answered
	// known are the frames that each node's log ever held at a stop.
	known map[string]map[frameID]bool
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{
		t: t, seed: seed, names: []string{"a", "b", "c"}, rng: rand.New(rand.NewPCG(seed, 1)),
		disks: map[string]*simdisk.Disk{}, procs: map[string]*process{}, storeCut: map[string]bool{},
		writes: map[int]map[lsn.LSN]string{}, known: map[string]map[frameID]bool{},
	}
	s.sync = 1 + int(seed%2)
	s.strict = s.rng.IntN(4) == 0
	s.retain = []int64{1 << 30, 40 << 10}[s.rng.IntN(2)]
	s.net = newNetwork(rand.New(rand.NewPCG(seed, 2)))
	s.store = lease.NewMemory(lease.Hooks{})
	log := logrus.New()
	log.SetOutput(io.Discard)
	var err error
	if s.audit, err = telemetry.OpenAudit(filepath.Join(t.TempDir(), "audit.log"), log); err != nil {
		t.Fatal(err)
	}
	for _, n := range s.names {
		s.disks[n], s.known[n] = simdisk.New(), map[frameID]bool{}
	}
	return s
}

// lines prints what a node logs.
type lines struct {
	s   *sim
	who string
}

func (l *lines) Write(b []byte) (int, error) {
	fmt.Fprintf(os.Stderr, "%s %s %s", time.Now().Format("05.000"), l.who, b)
	return len(b), nil
}

func (s *sim) say(format string, args ...any) {
	if *verbose {
		fmt.Fprintf(os.Stderr, "%s * %s\n", time.Now().Format("05.000"), fmt.Sprintf(format, args...))
	}
}

func (s *sim) fail(format string, args ...any) {
	s.say(format, args...)
	s.t.Errorf("seed %d: %s", s.seed, fmt.Sprintf(format, args...))
}

// draw is a random number below n, chance one in n; pause lets time pass.
func (s *sim) draw(n int) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.rng.IntN(n*1000)) * time.Microsecond
}

func (s *sim) chance(n int) bool { return s.pick(n) == 0 }

func (s *sim) pick(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.IntN(n)
}

func (s *sim) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// leads says whether a run is the writer by its own word. In one run a writer may
// become a follower, and never the other way round: whoever is the writer after an
// answer was it before. It answers only while it has the lease, so its word is good.
func (s *sim) leads(p *process) bool {
	if p == nil {
		return false
	}
	w := httptest.NewRecorder()
	p.shell.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/health", nil))
	return field(w.Body.String(), "mode") == writer.RoleWriter
}

// wrote notes a write that was answered: one LSN has one.
func (s *sim) wrote(at lsn.Pos, in input, degraded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Acked++
	if degraded {
		s.counts.Degraded++
		if s.strict {
			s.t.Errorf("seed %d: a degraded answer under strict", s.seed)
		}
	}
	for _, by := range s.writes {
		if v, ok := by[at.LSN]; ok {
			s.t.Errorf("seed %d: LSN %d was answered for %s and for %s", s.seed, at.LSN, v, in.value)
		}
	}
	if s.writes[in.register] == nil {
		s.writes[in.register] = map[lsn.LSN]string{}
	}
	s.writes[in.register][at.LSN] = in.value
}

func (s *sim) saw(x sight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sights = append(s.sights, x)
}

// simulate is one run: begin, trouble, peace, checks.
func (s *sim) simulate() {
	defer func() {
		for _, n := range s.names {
			if s.procs[n] != nil {
				s.stop(n)
			}
		}
		for _, p := range s.graves {
			<-p.done
		}
		if err := s.audit.Close(); err != nil {
			s.t.Error(err)
		}
	}()
	s.start("a")
	s.setUp()
	for _, n := range s.names {
		if s.procs[n] == nil {
			s.start(n)
		}
	}
	end := time.Now().Add(chaosFor)
	var g sync.WaitGroup
	for i := range clients {
		c := &client{s: s, id: i, rng: rand.New(rand.NewPCG(s.seed, uint64(10+i)))}
		g.Go(func() { c.run(end) })
	}
	for time.Now().Before(end) && !s.t.Failed() {
		<-time.After(300*time.Millisecond + s.draw(3000))
		s.trouble()
		s.supervise()
	}
	g.Wait()
	s.peace()
	s.check()
}

// setUp makes the tenant and its table.
func (s *sim) setUp() {
	for {
		if _, a := s.do("a", adminText, "POST", "/v1/admin/tenants", "{}"); a != nil && a.status == 201 {
			s.tenant, s.token = field(a.body, "tenant"), field(a.body, "token")
			break
		}
		<-time.After(100 * time.Millisecond)
		if s.strict && s.procs["b"] == nil {
			s.start("b")
			s.start("c")
		}
	}
	for {
		_, a := s.do("a", s.token, "POST", "/v1/tenants/"+s.tenant+"/schemas", manifest)
		if a != nil && a.status == 201 {
			return
		}
		<-time.After(100 * time.Millisecond)
	}
}

// trouble does one thing to the instance.
func (s *sim) trouble() {
	name, other := s.names[s.pick(3)], s.names[s.pick(3)]
	switch s.pick(15) {
	case 0, 1:
		s.say("cut %s to %s", name, other)
		s.counts.Cuts++
		s.net.set(name, other, true)
	case 2:
		s.say("cut %s from %s both ways", name, other)
		s.counts.Cuts++
		s.net.set(name, other, true)
		s.net.set(other, name, true)
	case 3, 4:
		s.say("heal")
		s.net.heal(s.chance(2))
		s.mu.Lock()
		clear(s.storeCut)
		s.mu.Unlock()
	case 5:
		s.say("reset")
		s.net.drop("")
	case 6, 7, 8:
		if s.procs[name] != nil {
			power := s.chance(2)
			s.say("kill %s, power %t", name, power)
			s.counts.Kills++
			s.kill(name, power, rand.New(rand.NewPCG(s.seed, uint64(s.counts.Kills))))
		}
	case 9:
		d := time.Second + s.draw(9000)
		s.say("hold %s for %s", name, d)
		s.counts.Holds++
		s.hold(name, true)
		<-time.After(d)
		s.hold(name, false)
	case 10:
		s.say("the store is away")
		s.storeAway.Store(true)
	case 11:
		s.say("%s does not reach the store", name)
		s.mu.Lock()
		s.storeCut[name] = true
		s.mu.Unlock()
	case 12:
		s.maroon()
	default:
		s.storeAway.Store(false)
		s.storeUnsure.Store(s.chance(2))
	}
}

// maroon cuts the writer off with what it is writing, kills it, and lets the others
// begin anew without it: what it has and they do not is to be found when it is back.
func (s *sim) maroon() {
	held := ""
	for _, n := range s.names {
		if rec, _, err := s.store.Load(context.Background()); err == nil && s.procs[n] != nil && rec.Holder == n {
			held = n
		}
	}
	if held == "" {
		return
	}
	s.say("maroon %s", held)
	s.cutOff(held, true)
	<-time.After(50*time.Millisecond + s.draw(300))
	s.counts.Kills++
	s.kill(held, false, rand.New(rand.NewPCG(s.seed, uint64(s.counts.Kills))))
	s.cutOff(held, false)
	s.storeAway.Store(false)
	for _, n := range s.names {
		if n == held {
			continue
		}
		if s.procs[n] != nil {
			s.counts.Kills++
			s.kill(n, false, rand.New(rand.NewPCG(s.seed, uint64(s.counts.Kills))))
		}
		s.start(n)
	}
	<-time.After(9 * time.Second) // longer than a lease stands
}

// cutOff cuts a node from all others, or lets it back.
func (s *sim) cutOff(name string, cut bool) {
	for _, other := range s.names {
		if other != name {
			s.net.set(name, other, cut)
			s.net.set(other, name, cut)
		}
	}
}

// supervise starts what has ended, as systemd does, most of the time.
func (s *sim) supervise() {
	for _, n := range s.names {
		p := s.procs[n]
		if p != nil {
			select {
			case <-p.done:
				s.ended(p)
			default:
				continue
			}
		}
		if s.chance(2) {
			s.say("start %s", n)
			s.start(n)
		}
	}
}

// ended looks at why a run ended by itself.
func (s *sim) ended(p *process) {
	s.say("%s ended: %v", p.name, p.err)
	var broken *fault.Corruption
	if p.err == nil || errors.As(p.err, &broken) || strings.Contains(p.err.Error(), "digest") {
		s.fail("%s ended by itself: %v", p.name, p.err)
	}
	s.net.drop(p.name)
	s.remember(p.name)
	s.mu.Lock()
	delete(s.procs, p.name)
	s.mu.Unlock()
}

// stop is SIGTERM.
func (s *sim) stop(name string) {
	p := s.procs[name]
	p.cancel()
	<-p.done
	if p.err != nil {
		s.say("%s stopped: %v", name, p.err)
	}
	s.net.drop(name)
	s.remember(name)
	s.mu.Lock()
	delete(s.procs, name)
	s.mu.Unlock()
}

// peace ends all trouble and waits until every node shows what the writer has.
func (s *sim) peace() {
	s.say("peace")
	s.net.heal(true)
	s.storeAway.Store(false)
	s.storeUnsure.Store(false)
	s.mu.Lock()
	clear(s.storeCut)
	s.mu.Unlock()
	deadline := time.Now().Add(settleIn)
	for {
		for _, n := range s.names {
			p := s.procs[n]
			if p != nil {
				select {
				case <-p.done:
					s.ended(p)
					p = nil
				default:
				}
			}
			if p == nil {
				s.start(n)
			}
		}
		<-time.After(time.Second)
		state, ok := s.settled()
		if ok || s.t.Failed() {
			return
		}
		if time.Now().After(deadline) {
			s.fail("the instance does not settle: %s", state)
			return
		}
	}
}

// settled says whether one writer and its followers stand at one place with one
// digest, and as many followers are in sync as are asked for.
func (s *sim) settled() (state string, ok bool) {
	var lsns, digests []string
	writers, in := 0, 0
	for _, n := range s.names {
		_, a := s.do(n, adminText, "GET", "/v1/admin/replication", "")
		if a == nil || a.status != 200 {
			return state + n + " does not answer", false
		}
		state += a.body + "\n"
		lsns, digests = append(lsns, field(a.body, "applied_lsn")), append(digests, field(a.body, "digest"))
		if field(a.body, "role") == "writer" {
			writers++
			in = strings.Count(field(a.body, "in_sync"), " ") + 1
			if field(a.body, "in_sync") == "[]" {
				in = 0
			}
		}
	}
	if lsns[0] != lsns[1] || lsns[0] != lsns[2] || writers != 1 || in != s.sync {
		return state, false
	}
	if digests[0] != digests[1] || digests[0] != digests[2] {
		s.fail("at one LSN there are several digests: %s", state)
	}
	return state, true
}
