package writer

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"originchain/shared/api"
	"originchain/shared/lease"
	"originchain/shared/replica"
	"originchain/shared/simdisk"
)

// led is a writer that waits for followers, with one that the test speaks for.
type led struct {
	*node
	store *lease.Memory
	// silence ends the follower's acknowledgements, session is its stream.
	silence func()
	session *replica.Session
}

const ledInstance = "01JADE00000000000000000001"

// openLed opens a writer whose followers are not there yet.
func openLed(t testing.TB, disk *simdisk.Disk, store *lease.Memory, r Replication, opts ...option) *led {
	t.Helper()
	r.Control = store
	if r.Timeout == 0 {
		r.Timeout = 50 * time.Millisecond
	}
	opts = append([]option{func(c *Config, _ *Deps) { c.Engine.InstanceID, c.URL = ledInstance, "http://node-1" }}, opts...)
	return &led{node: openWith(t, disk, r, opts...), store: store}
}

// follow has a follower come that makes everything durable, and waits until it is
// in sync.
func (l *led) follow(name string) {
	l.t.Helper()
	hub, e := l.w.leader.hub, l.w.own
	s := hub.Connected(replica.Peer{Node: name, Promotable: true}, e.Durable())
	l.session = s
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			s.Acknowledge(e.Durable(), 0)
			select {
			case <-e.Log().Advanced():
			case <-time.After(time.Millisecond):
			case <-quit:
				return
			}
		}
	}()
	l.silence = func() { close(quit); <-done }
	for deadline := time.Now().Add(20 * time.Second); len(hub.InSync()) == 0; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatal("the follower does not get in sync")
		}
	}
}

// marked requires that an answer says, or does not, that its write was degraded.
func (a *answer) marked(degraded bool) *answer {
	a.t.Helper()
	if got := a.header.Get(api.HeaderReplication) == api.ReplicationDegraded; got != degraded {
		a.t.Errorf("%s: degraded is %t in the answer, want %t", a.what, got, degraded)
	}
	return a
}

// Whoever has lost the first answer learns the same from the second.
func TestARepeatedAnswerSaysThatItsWriteWasDegraded(t *testing.T) {
	n := openLed(t, simdisk.New(), lease.NewMemory(lease.Hooks{}), Replication{Sync: 1})
	n.tenant, n.token = n.newTenant(`{}`)
	n.register(ordersManifest)
	tx := n.call("POST", "/tx/begin", "").want(200).str("tx_id")
	n.call("POST", "/rows/shop.orders", `{"id":"tx"}`, api.HeaderTx, tx).want(200)
	writes := map[string]func(key string) *answer{
		"row":    func(key string) *answer { return n.call("POST", "/rows/shop.orders", `{"id":"a"}`, idem, key) },
		"delete": func(key string) *answer { return n.call("DELETE", "/rows/shop.orders/a", "", idem, key) },
		"sql": func(key string) *answer {
			return n.sql(`INSERT INTO shop.orders (id) VALUES ('`+key+`')`, idem, key)
		},
		"batch": func(key string) *answer {
			return n.call("POST", "/rows/shop.orders/_batch", `[{"id":"b"},{"id":"c"}]`, idem, key)
		},
		"table": func(key string) *answer {
			return n.sql(`CREATE TABLE lab.t`+key+` (k BIGINT PRIMARY KEY)`, idem, key)
		},
	}
	first := map[string]string{}
	for what, write := range writes {
		first[what] = write(what + "1").want(200).marked(true).body
	}
	done := n.call("POST", "/tx/"+tx+"/commit", "", idem, "commit").want(200).marked(true)
	n.follow("f")
	for what, write := range writes {
		fresh := write(what + "2").want(200).marked(false)
		write(what + "2").want(200).marked(false).is(fresh.body)
		write(what + "1").want(200).marked(true).is(first[what])
	}
	n.call("POST", "/tx/"+tx+"/commit", "", idem, "commit").want(200).marked(true).is(done.body)
	n.call("GET", "/rows/shop.orders/b", "").want(200).marked(false)
	n.silence()
}

// A disk that hangs stops everything but the renewals: they stop as well once a follower has all
// that was acknowledged, which may take the writer's place then. If none has by the time that the
// disk comes back the writer goes on, with its epoch.
func TestAWriterWhoseDiskHangsLeavesItsRecord(t *testing.T) {
	disk, store := simdisk.New(), lease.NewMemory(lease.Hooks{})
	n := openLed(t, disk, store, Replication{Sync: 1}, func(c *Config, _ *Deps) { c.StuckAfter = 20 * time.Millisecond })
	n.tenant, n.token = n.newTenant(`{}`)
	n.register(ordersManifest)
	hung := func(what string, renews bool) {
		t.Helper()
		release := disk.HangSyncs("/data/log/*")
		defer release()
		acknowledged := make(chan *answer, 1)
		go func() { acknowledged <- n.call("POST", "/rows/shop.orders", `{"id":"`+what+`"}`) }()
		n.health(503)
		was := n.version()
		for began, seen := time.Now(), was; time.Since(began) < lease.Expiry+lease.RenewEvery; <-time.After(time.Millisecond) {
			if !renews && !n.w.leader.term.Held() {
				n.session.End() // as the server of the streams does
			}
			if now := n.version(); now != seen && !renews {
				t.Fatalf("%s: the record is renewed, by version %d", what, now)
			}
		}
		if now := n.version(); (now != was) != renews {
			t.Errorf("%s: the record has version %d, and had %d", what, now, was)
		}
		release()
		(<-acknowledged).want(200)
		n.health(200)
		for now := n.version(); n.version() == now; <-time.After(time.Millisecond) { // it is renewed again
		}
	}
	hung("alone", true)
	n.follow("f")
	hung("followed", false)
	if rec := n.w.leader.holder.Record(); rec.Epoch != 1 || n.w.leader.hub.Fenced() != nil {
		t.Errorf("%+v, %v", rec, n.w.leader.hub.Fenced())
	}
	n.silence()
	// Nor does a follower that is in the set and not there: it can take nobody's place.
	n.follow("f")
	n.silence()
	n.session.End()
	if set := n.w.leader.holder.Record().InSync; len(set) != 1 {
		t.Fatalf("in sync are %v", set)
	}
	hung("deserted", true)
}

// A lease that ran out while the store was away says nothing of a follower: a writer that has none
// renews when the store is back, though its disk hangs.
func TestAWriterWhoseDiskHangsAndThatNobodyFollowsRenews(t *testing.T) {
	var away atomic.Bool
	disk, store := simdisk.New(), lease.NewMemory(lease.Hooks{Before: func(context.Context, lease.Record) error {
		if away.Load() {
			return errors.New("away")
		}
		return nil
	}})
	n := openLed(t, disk, store, Replication{Sync: 1}, func(c *Config, _ *Deps) { c.StuckAfter = 20 * time.Millisecond })
	n.tenant, n.token = n.newTenant(`{}`)
	n.register(ordersManifest)
	away.Store(true)
	release := disk.HangSyncs("/data/log/*")
	defer release()
	acknowledged := make(chan *answer, 1)
	go func() { acknowledged <- n.call("POST", "/rows/shop.orders", `{"id":"1"}`) }()
	n.health(503)
	for n.w.leader.term.Held() {
		<-time.After(time.Millisecond)
	}
	was := n.version()
	away.Store(false)
	for began := time.Now(); n.version() == was; <-time.After(time.Millisecond) {
		if time.Since(began) > 2*lease.Expiry {
			t.Fatalf("the record is not renewed: it has version %d", was)
		}
	}
	release()
	<-acknowledged // be it that it was refused: the lease had run out
}

// version is that of the record of who writes.
func (l *led) version() uint64 {
	l.t.Helper()
	rec, _, err := l.store.Load(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return rec.Version
}
