package writer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/api"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/simdisk"
)

// deposed has another node take the record, as one does that was given it.
func (l *led) deposed(by string) {
	l.t.Helper()
	for {
		rec, _, err := l.store.Load(context.Background())
		if err != nil {
			l.t.Fatal(err)
		}
		next, err := rec.Take(lease.Candidate{Instance: ledInstance, Node: by, Last: lsn.Pos{LSN: l.w.own.Durable(), Epoch: l.w.own.Epoch()}, AcceptLoss: true, URL: "http://" + by})
		if err != nil {
			l.t.Fatal(err)
		}
		if _, err = l.store.CompareAndSet(context.Background(), rec.Version, next); err == nil {
			return
		}
		var lost *lease.ConflictError
		if !errors.As(err, &lost) {
			l.t.Fatal(err)
		}
	}
}

// ends requires that the node's run ends as one does that is to follow, and closes
// it as whoever follows does.
func (l *led) ends() {
	l.t.Helper()
	var other *MustFollowError
	if err := l.stop(); !errors.As(err, &other) {
		l.t.Errorf("the writer ended with %v", err)
	}
}

// send sends a request that is not waited for.
func (l *led) send(wg *sync.WaitGroup, method, path string, body io.Reader, headers ...string) *answer {
	out := &answer{}
	wg.Go(func() {
		*out = *l.do(context.Background(), l.token, method, "/v1/tenants/"+l.tenant+path, body, headers...)
	})
	return out
}

// modes are all ways in which a writer waits for followers.
var modes = []Replication{{}, {Sync: 1}, {Sync: 1, Strict: true}}

func inEveryMode(t *testing.T, f func(t *testing.T, n *led)) {
	for _, r := range modes {
		t.Run(fmt.Sprintf("sync=%d,strict=%t", r.Sync, r.Strict), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := simdisk.New()
				r.Timeout = time.Hour
				n := openLed(t, disk, lease.NewMemory(lease.Hooks{}), r)
				n.silence = func() {}
				if r.Sync > 0 {
					n.follow("f")
				}
				n.tenant, n.token = n.newTenant(`{}`)
				n.register(ordersManifest)
				f(t, n)
			})
		})
	}
}

// A writer whose record is another's acknowledges nothing more, whether it waits
// for followers or not; whoever waits for an answer gets one.
func TestADeposedWriterAnswersWhoWaitsAndAcknowledgesNothing(t *testing.T) {
	inEveryMode(t, func(t *testing.T, n *led) {
		n.call("POST", "/rows/shop.orders", `{"id":"before"}`, idem, "k").want(200)
		visible := n.w.own.Visible().LSN
		n.silence() // nobody has what comes now
		disk := n.fs.(*simdisk.Disk)
		stalled, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		disk.OnCall(func(_ int, c simdisk.Call, _ func() *simdisk.Disk) {
			if c.Op == simdisk.OpSync && strings.HasPrefix(c.Path, "/data/log/") {
				once.Do(func() { close(stalled); <-release })
			}
		})
		var wg sync.WaitGroup
		first := n.send(&wg, "POST", "/rows/shop.orders", strings.NewReader(`{"id":"in flight"}`), idem, "k1")
		<-stalled
		again := n.send(&wg, "POST", "/rows/shop.orders", strings.NewReader(`{"id":"in flight"}`), idem, "k1")
		batch := n.send(&wg, "POST", "/rows/shop.orders/_batch", strings.NewReader(`[{"id":"batch"}]`), idem, "k2")
		statement := n.send(&wg, "POST", "/sql", strings.NewReader(`{"sql":"INSERT INTO shop.orders (id) VALUES ('sql')"}`), idem, "k3")
		waiting := n.send(&wg, "GET", "/rows/shop.orders/before", nil, api.HeaderMinLSN, fmt.Sprint(uint64(visible)+1000))
		began := time.Now()
		if n.w.leader.cfg.Sync == 0 {
			// Its fsync ends after it has heard that it is not the writer any more.
			go func() { <-n.w.own.Failed(); close(release) }()
		} else {
			close(release)
		}
		synctest.Wait()
		n.deposed("f")
		wg.Wait()
		for what, a := range map[string]*answer{"a write": first, "its repetition": again, "a batch": batch, "a statement": statement} {
			a.t = t
			a.want(503)
			if got := a.str("outcome"); got != "unknown" {
				t.Errorf("%s: outcome %q: %s", what, got, a.body)
			}
		}
		waiting.t = t
		if waiting.refused(503, "lsn_not_reached"); time.Since(began) > requestGrace {
			t.Errorf("it took %s", time.Since(began))
		}
		n.call("POST", "/rows/shop.orders", `{"id":"later"}`).want(503)
		n.ends()
		if age := time.Since(began); age > requestGrace {
			t.Errorf("the writer gave up after %s", age)
		}
	})
}

// A request that does not end keeps a demotion waiting for requestGrace, and not
// longer: then the process ends with an error that is no demotion, since its data
// cannot be opened again under the request.
func TestADemotionWaitsForRequestsAndNotForEver(t *testing.T) {
	inEveryMode(t, func(t *testing.T, n *led) {
		body, sender := io.Pipe()
		var wg sync.WaitGroup
		n.send(&wg, "POST", "/rows/shop.orders/_batch", body)
		if _, err := io.WriteString(sender, `[{"id":"1"},`); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		n.deposed("f")
		<-n.w.own.Failed()
		began := time.Now()
		err := n.ended()
		var other *MustFollowError
		if err == nil || errors.As(err, &other) || !strings.Contains(err.Error(), "requests were still under way") {
			t.Errorf("the run ended with %v", err)
		}
		if waited := time.Since(began); waited < requestGrace || waited > requestGrace+stopSlack {
			t.Errorf("it waited for %s, and a request may take %s", waited, requestGrace)
		}
		if n.w.engine.Load() == nil {
			t.Error("the engine is taken away under a request")
		}
		if err := sender.CloseWithError(io.ErrUnexpectedEOF); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		n.silence()
		_ = n.stop() // which the run's error is of
	})
}

// stopSlack is what a stop takes beside the requests: the engine lets go of what
// nobody acknowledges, and checks get the time to see a failure.
const stopSlack = time.Second

// Whoever was there before a restart may come for the log from where it ended: it
// is kept for an hour, within the bound, although nobody has asked for it yet.
func TestTheLogIsKeptAfterARestartForWhoMayComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		small := func(c *Config, _ *Deps) { c.Engine.SegmentBytes = 8 << 10 }
		disk, store := simdisk.New(), lease.NewMemory(lease.Hooks{})
		n := openLed(t, disk, store, Replication{RetainBytes: 1 << 30}, small)
		n.tenant, n.token = n.newTenant(`{}`)
		n.register(ordersManifest)
		noise := make([]byte, 800)
		for i := range 80 {
			_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(noise) // never fails
			n.call("POST", "/rows/shop.orders", fmt.Sprintf(`{"id":"%d","email":"%x"}`, i, noise)).want(200)
		}
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
		const bound = 24 << 10
		n = openLed(t, disk, store, Replication{RetainBytes: bound}, small)
		l := n.w.leader
		segments := l.engine.Log().Segments()
		var bytes int64
		oldest := len(segments)
		for oldest > 0 && bytes+segments[oldest-1].Bytes <= bound {
			oldest--
			bytes += segments[oldest].Bytes
		}
		if oldest == 0 || oldest == len(segments) {
			t.Fatalf("%d of %d segments are within the bound", len(segments)-oldest, len(segments))
		}
		for _, after := range []time.Duration{0, retainFor / 2, retainFor/2 - time.Minute} {
			<-time.After(after)
			if got := l.retainFrom(); got != segments[oldest].First {
				t.Errorf("%s after the start the log is kept from LSN %d, want %d", time.Since(l.opened), got, segments[oldest].First)
			}
		}
		<-time.After(time.Hour)
		if got := l.retainFrom(); got != ^lsn.LSN(0) {
			t.Errorf("after an hour without anybody the log is kept from LSN %d", got)
		}
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
	})
}
