package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"originchain/shared/alarms"
	"originchain/shared/aws/cwmetrics"
	"originchain/shared/aws/ec2machine"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/registry"
	"originchain/writer/config"
	"originchain/writer/reach"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// puts is a CloudWatch that keeps what it takes, and does as it is told.
type puts struct {
	mu   sync.Mutex
	data []cwmetrics.Datum
	do   func(data []cwmetrics.Datum) (int, error)
}

func (p *puts) Put(_ context.Context, data []cwmetrics.Datum) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, err := len(data), error(nil)
	if p.do != nil {
		n, err = p.do(data)
	}
	p.data = append(p.data, data[:n]...)
	return n, err
}

func (p *puts) names() (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.data {
		out = append(out, d.Metric)
	}
	return out
}

// record is a lease record that may be away.
type record struct {
	lease.Store
	holder string
	away   error
}

func (r *record) Load(context.Context) (lease.Record, bool, error) {
	return lease.Record{Holder: r.holder}, r.holder != "", r.away
}

func quiet(t *testing.T) (*logrus.Logger, *bytes.Buffer) {
	t.Helper()
	var said bytes.Buffer
	log := logrus.New()
	log.SetOutput(&said)
	return log, &said
}

func newAgent(t *testing.T, cfg *config.Config, change func(*Deps)) (*Agent, *bytes.Buffer) {
	t.Helper()
	log, said := quiet(t)
	d := Deps{Log: log, Registry: registry.NewMemory(), Publisher: &puts{}, Server: func() (config.Config, error) { return *cfg, nil },
		Machine: func(context.Context) (ec2machine.Machine, error) {
			return ec2machine.Machine{ID: "i-1", Address: "10.0.0.9"}, nil
		}}
	if change != nil {
		change(&d)
	}
	a, err := New("orders", d)
	if err != nil {
		t.Fatal(err)
	}
	a.began = time.Now()
	return a, said
}

// taken is what the queue has, as text, and empties it.
func taken(a *Agent) (out []string) {
	for _, d := range a.queue.data {
		value := fmt.Sprint(d.Values)
		if d.Metric == alarms.HeartbeatAge {
			value = fmt.Sprint(d.Values[0] > 1)
		}
		out = append(out, fmt.Sprintf("%s %s/%s %s", d.Metric, d.Dimensions[InstanceDimension], d.Dimensions[NodeDimension], value))
	}
	a.queue.data = nil
	return out
}

func TestObservations(t *testing.T) {
	page := "oc_node_info{mode=\"writer\"} 1\noc_lease_remaining_ms 3000\n# TYPE oc_panics_total counter\noc_panics_total 3\n"
	dead, failing := false, false
	var mu sync.Mutex // an answer may go on when its connection has ended here
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case dead:
			panic(http.ErrAbortHandler)
		case r.URL.Path == "/ready", failing && r.URL.Path == "/health":
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/metrics":
			_, _ = io.WriteString(w, page)
		}
	}))
	defer srv.Close()
	cfg := config.Config{NodeID: "orders-a", Listen: strings.TrimPrefix(srv.URL, "http://"), Control: "x"}
	rec := &record{holder: "orders-a"}
	opened := 0
	a, said := newAgent(t, &cfg, func(d *Deps) {
		d.Lease = func(context.Context, string) (lease.Store, error) { opened++; return rec, nil }
	})
	defer func() { a.server.Close() }()
	both := func(line string) []string {
		return []string{strings.Replace(line, " ", " orders/ ", 1), strings.Replace(line, " ", " orders/orders-a ", 1)}
	}
	check := func(what string, want ...[]string) {
		t.Helper()
		a.observeOnce(t.Context())
		if diff := cmp.Diff(slices.Concat(want...), taken(a)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	writes := []string{NodeWrites + " orders/orders-a [0]"} // it is not ready
	const beats = alarms.HeartbeatAge + " false"
	check("a writer", both("/health [200]"), both("/ready [503]"), both(beats), both("oc_lease_remaining_ms [3000]"), writes)
	mu.Lock()
	page = strings.Replace(page, "total 3", "total 5", 1)
	mu.Unlock()
	rec.away = errors.New("away")
	check("its record is away", both("/health [200]"), both("/ready [503]"), both(beats), both("oc_lease_remaining_ms [3000]"), both("oc_panics_total [2]"), writes)
	mu.Lock()
	rec.away, dead = nil, true
	mu.Unlock()
	a.answered = a.answered.Add(-5 * time.Second)
	check("the server is dead", both("/health [0]"), both("/ready [0]"), both(alarms.HeartbeatAge+" true"), writes)
	mu.Lock()
	dead, failing = false, true
	mu.Unlock()
	check("its log takes no writes", both("/health [503]"), both("/ready [503]"), both(alarms.HeartbeatAge+" true"), both("oc_lease_remaining_ms [3000]"), both("oc_panics_total [0]"), writes)
	mu.Lock()
	rec.holder, failing = "orders-b", false
	page = strings.Replace(page, "writer", "follower", 1)
	mu.Unlock()
	check("another node writes", both("/health [200]"), both("/ready [503]"), both(beats)[1:], both("oc_panics_total [0]"), writes)
	mu.Lock()
	page = "{"
	mu.Unlock()
	check("a page that cannot be read", both("/health [200]"), both("/ready [503]"), both(beats)[1:], writes)
	if opened != 1 {
		t.Errorf("the record was opened %d times", opened)
	}
	for words, want := range map[string]int{"the record of who writes cannot be read": 1, "the record of who writes is read": 2, "does not answer as it should": 2} {
		if n := strings.Count(said.String(), words); n != want {
			t.Errorf("%q was logged %d times, want %d:\n%s", words, n, want, said)
		}
	}
}

// TestAMachineThatBoots: what its server has set aside before the agent's next look is published.
func TestAMachineThatBoots(t *testing.T) {
	const counter = "oc_replication_set_aside_frames_total"
	var up atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !up.Load():
			panic(http.ErrAbortHandler)
		case r.URL.Path == "/metrics":
			_, _ = fmt.Fprintf(w, "process_start_time_seconds %d\n# TYPE %[2]s counter\n%[2]s 7\n", time.Now().Unix(), counter)
		}
	}))
	defer srv.Close()
	cfg := config.Config{NodeID: "orders-a", Listen: strings.TrimPrefix(srv.URL, "http://"), Mode: config.ModeFollower}
	a, _ := newAgent(t, &cfg, nil)
	defer func() { a.server.Close() }()
	var got []string
	for range 2 {
		a.observeOnce(t.Context())
		for _, line := range taken(a) {
			if strings.HasPrefix(line, counter) {
				got = append(got, line)
			}
		}
		up.Store(true)
	}
	if diff := cmp.Diff([]string{counter + " orders/ [7]", counter + " orders/orders-a [7]"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestAFreshAgentSpeaksForNoServer: one that was just started has heard nothing, and a
// server that is dead must not seem to have answered.
func TestAFreshAgentSpeaksForNoServer(t *testing.T) {
	answers := false
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if !answers {
			panic(http.ErrAbortHandler)
		}
	}))
	defer srv.Close()
	cfg := config.Config{NodeID: "orders-a", Listen: strings.TrimPrefix(srv.URL, "http://"), Control: "x"}
	start := func() *Agent {
		a, _ := newAgent(t, &cfg, func(d *Deps) {
			d.Lease = func(context.Context, string) (lease.Store, error) { return &record{holder: "orders-a"}, nil }
		})
		return a
	}
	beats := func(a *Agent) (out []string) {
		a.observeOnce(t.Context())
		for _, line := range taken(a) {
			if strings.HasPrefix(line, alarms.HeartbeatAge) {
				out = append(out, line)
			}
		}
		return out
	}
	for range 2 {
		a := start()
		if got := append(beats(a), beats(a)...); len(got) > 0 {
			t.Errorf("an agent whose server never answered says %q", got)
		}
	}
	a := start()
	answers = true
	if got := beats(a); len(got) != 2 {
		t.Errorf("it has answered: %q", got)
	}
	answers = false
	a.answered = a.answered.Add(-5 * time.Second)
	want := []string{alarms.HeartbeatAge + " orders/ true", alarms.HeartbeatAge + " orders/orders-a true"}
	if diff := cmp.Diff(want, beats(a)); diff != "" {
		t.Errorf("it answers no more (-want +got):\n%s", diff)
	}
}

// TestAnObservationEnds, though the server answers nothing: before the next begins.
func TestAnObservationEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := reach.New("http://server", &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			asked++
			<-r.Context().Done()
			return nil, r.Context().Err()
		})})
		began := time.Now()
		page, standing, err := look(t.Context(), c)
		if took := time.Since(began); took == 0 || took >= Interval || asked != 3 || page != nil || err == nil {
			t.Errorf("it took %s for %d requests: %v", took, asked, err)
		}
		if diff := cmp.Diff(reach.Standing{}, standing); diff != "" {
			t.Error(diff)
		}
	})
}

// answers is a server's answers, as a node of a mode gives them.
func answers(mode string, ready int) transport {
	return func(r *http.Request) (*http.Response, error) {
		status, body := http.StatusOK, ""
		switch r.URL.Path {
		case "/health":
			body = fmt.Sprintf("{%q:%q}", "mode", mode)
		case "/ready":
			status = ready
		}
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

// TestWhatTheRecordSaidHoldsForAWhile: then the instance's word is that of the server which
// itself says that it writes, and a writer's that was followed is not.
func TestWhatTheRecordSaidHoldsForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &record{}
		a, _ := newAgent(t, &config.Config{}, func(d *Deps) { d.Lease = func(context.Context, string) (lease.Store, error) { return rec, nil } })
		cfg := config.Config{NodeID: "orders-a", Control: "x"}
		for _, c := range []struct {
			holder string
			away   bool
			pass   time.Duration
			want   [2]bool // where its server does not serve as the writer, and where it does
		}{
			{"", true, 0, [2]bool{false, true}}, // never read
			{"orders-a", false, 0, [2]bool{true, true}},
			{"orders-a", true, maxStale - 1, [2]bool{true, true}},
			{"orders-a", true, 1, [2]bool{false, true}},
			{"orders-a", true, 24 * time.Hour, [2]bool{false, true}},
			{"orders-b", false, 0, [2]bool{false, false}}, // whatever its server says
			{"orders-b", true, maxStale - 1, [2]bool{false, false}},
			{"orders-b", true, 1, [2]bool{false, true}},
		} {
			time.Sleep(c.pass)
			rec.holder, rec.away = c.holder, nil
			if c.away {
				rec.away = errors.New("away")
			}
			for i, serves := range []bool{false, true} {
				if got := a.writes(t.Context(), cfg, serves); got != c.want[i] {
					t.Errorf("%+v: %t, its server serves as the writer %t", c, got, serves)
				}
			}
		}
	})
}

// TestNodeWrites: by the server's own word, and of the node alone.
func TestNodeWrites(t *testing.T) {
	for what, c := range map[string]struct {
		do   transport
		want float64
	}{
		"a writer":                 {answers("writer", http.StatusOK), 1},
		"a writer without a lease": {answers("writer", http.StatusServiceUnavailable), 0},
		"a follower":               {answers("follower", http.StatusOK), 0},
		"no answer":                {func(*http.Request) (*http.Response, error) { return nil, errors.New("away") }, 0},
	} {
		cfg := config.Config{NodeID: "orders-a", Listen: "127.0.0.1:7400"}
		a, _ := newAgent(t, &cfg, nil)
		standing, _ := reach.New("http://server", &http.Client{Transport: c.do}).Standing(t.Context()) // it says it all
		got := a.nodeWrites(cfg.NodeID, time.Now(), standing.Writes())
		want := []cwmetrics.Datum{{Metric: "oc_node_writes", Values: []float64{c.want}, Standard: true, Dimensions: map[string]string{"Instance": "orders", "Node": "orders-a"}}}
		if len(got) == 1 {
			got[0].At = time.Time{}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		if got := a.nodeWrites("", time.Now(), true); got != nil {
			t.Errorf("a node without a name: %v", got)
		}
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func datum(name string) []cwmetrics.Datum { return []cwmetrics.Datum{{Metric: name}} }

// TestACloudWatchThatIsAway: what was queued comes in its order once it is back, and both
// are logged once.
func TestACloudWatchThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		p := &puts{}
		p.do = func(data []cwmetrics.Datum) (int, error) {
			if tries++; tries <= 5 {
				return 0, fmt.Errorf("away, request %d", tries)
			}
			return len(data), nil
		}
		a, said := newAgent(t, &config.Config{}, func(d *Deps) { d.Publisher = p })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); a.publish(ctx) }()
		for _, name := range []string{"a", "b", "c"} {
			a.queue.put(datum(name)) // which does not wait
		}
		if !wait(ctx, 5*maxPause) {
			t.Fatal("it ended")
		}
		synctest.Wait()
		if diff := cmp.Diff([]string{"a", "b", "c"}, p.names()); diff != "" || tries != 6 {
			t.Errorf("%d tries (-want +got):\n%s", tries, diff)
		}
		cancel()
		<-done
		if n := strings.Count(said.String(), "cannot be put"); n != 1 || strings.Count(said.String(), "metrics are put") != 1 {
			t.Errorf("it was logged %d times:\n%s", n, said)
		}
	})
}

// TestWhatCanNeverBePutHoldsNothingUp.
func TestWhatCanNeverBePutHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &puts{}
		p.do = func(data []cwmetrics.Datum) (int, error) {
			if data[0].Metric == "bad" {
				return len(data), &cwmetrics.RefusedError{Err: errors.New("bad")}
			}
			return len(data), nil
		}
		a, said := newAgent(t, &config.Config{}, func(d *Deps) { d.Publisher = p })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); a.publish(ctx) }()
		began := time.Now()
		for _, name := range []string{"bad", "good", "bad"} {
			a.queue.put(datum(name))
			synctest.Wait()
		}
		if diff := cmp.Diff([]string{"bad", "good", "bad"}, p.names()); diff != "" || time.Since(began) != 0 {
			t.Errorf("(-want +got):\n%s", diff)
		}
		cancel()
		<-done
		if n := strings.Count(said.String(), "can never be put"); n != 2 {
			t.Errorf("it was logged %d times:\n%s", n, said)
		}
	})
}

// TestTheQueueIsBounded: the oldest go, those that are being put too, and each is counted.
func TestTheQueueIsBounded(t *testing.T) {
	q := newQueue(3)
	for _, name := range []string{"1", "2"} {
		q.put(datum(name))
	}
	data, lost, ok := q.wait(t.Context())
	if len(data) != 2 || lost != 0 || !ok {
		t.Fatalf("%v, %d, %v", data, lost, ok)
	}
	for _, name := range []string{"3", "4", "5", "6"} { // 1, 2 and 3 go
		q.put(datum(name))
	}
	q.done(2) // 1 and 2 are in: they are not there to be taken away
	data, lost, _ = q.wait(t.Context())
	var names []string
	for _, d := range data {
		names = append(names, d.Metric)
	}
	if diff := cmp.Diff([]string{"4", "5", "6"}, names); diff != "" || lost != 1 {
		t.Errorf("%d were lost, want 1 (-want +got):\n%s", lost, diff)
	}
	q.done(1)
	if data, _, _ := q.wait(t.Context()); len(data) != 2 || data[0].Metric != "5" {
		t.Errorf("%v", data)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, ok := q.wait(ctx); ok {
		t.Error("it goes on after its end")
	}
}

func TestRegistration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config.Config{NodeID: "orders-a", Listen: "0.0.0.0:7400", Advertise: "https://a.example:7400", ReplicationListen: "0.0.0.0:7401", ReplicationAdvertise: "10.0.0.4:7401"}
		reg := registry.NewMemory()
		tries := 0
		a, said := newAgent(t, &cfg, func(d *Deps) {
			d.Registry = reg
			machine := d.Machine
			d.Machine = func(ctx context.Context) (ec2machine.Machine, error) {
				if tries++; tries <= 3 {
					return ec2machine.Machine{}, errors.New("no answer")
				}
				return machine(ctx)
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); a.register(ctx) }()
		wait(ctx, 3*registerAgain)
		synctest.Wait()
		want := failover.Node{ID: "orders-a", Machine: "i-1", URL: "https://a.example:7400", OpsURL: "https://a.example:7400", ReplicationAddress: "10.0.0.4:7401", Address: "10.0.0.4"}
		check := func() {
			t.Helper()
			nodes, err := failover.Nodes(t.Context(), reg)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]failover.Node{want}, nodes); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
		check()
		cfg.Advertise, want.URL, want.OpsURL = "https://b.example:7400", "https://b.example:7400", "https://b.example:7400"
		wait(ctx, registerEvery)
		synctest.Wait()
		check()
		cancel()
		<-done
		if n := strings.Count(said.String(), "is not registered"); n != 1 || strings.Count(said.String(), "is registered") != 1 {
			t.Errorf("it was logged %d times:\n%s", n, said)
		}
	})
}

func TestDescribe(t *testing.T) {
	m := ec2machine.Machine{ID: "i-1", Address: "10.0.0.9"}
	for name, c := range map[string]struct {
		cfg  config.Config
		want failover.Node
	}{
		"an ops address": {config.Config{NodeID: "a", Advertise: "https://a", OpsListen: ":7402", ReplicationListen: "10.0.0.5:7401"},
			failover.Node{ID: "a", Machine: "i-1", URL: "https://a", OpsURL: "http://10.0.0.5:7402", ReplicationAddress: "10.0.0.5:7401", Address: "10.0.0.5"}},
		"no address but the machine's": {config.Config{NodeID: "a", Advertise: "https://a", OpsListen: "10.0.0.7:7402", ReplicationListen: "0.0.0.0:7401"},
			failover.Node{ID: "a", Machine: "i-1", URL: "https://a", OpsURL: "http://10.0.0.7:7402", Address: "10.0.0.9"}},
		"a name for replication": {config.Config{NodeID: "a", Advertise: "https://a", ReplicationAdvertise: "a.example:7401"},
			failover.Node{ID: "a", Machine: "i-1", URL: "https://a", OpsURL: "https://a", ReplicationAddress: "a.example:7401", Address: "10.0.0.9"}},
	} {
		got, err := describe(c.cfg, m)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	for _, cfg := range []config.Config{{}, {NodeID: "a"}, {Advertise: "https://a"}, {NodeID: "a", Advertise: "https://a", OpsListen: "x"}} {
		if n, err := describe(cfg, m); err == nil {
			t.Errorf("%+v is registered as %+v", cfg, n)
		}
	}
	if _, err := New("", Deps{}); err == nil {
		t.Error("an agent of no instance")
	}
}
