package proxy

import (
	"net/http"
	"time"

	"originchain/shared/fault"
	"originchain/shared/telemetry"
)

// Waits before the next attempt at the same writer, doubled each time.
const (
	firstBackoff = 25 * time.Millisecond
	lastBackoff  = time.Second
)

// exchange is one request and what became of it so far. It belongs to the goroutine of
// its handler.
type exchange struct {
	p      *Proxy
	w      http.ResponseWriter
	r      *http.Request
	ctrl   *http.ResponseController
	id     string
	traits traits
	body   *recording // nil without a body
	// home is the writer of a transaction.
	home *target
	// lost counts attempts that were sent and not answered; doubt says that what one of
	// them did is not known.
	lost  int
	doubt bool
	// refused is the last answer of a writer that took nothing, to be passed on if
	// nothing better comes.
	refused *attempt
	backoff time.Duration
	// unsure is closed when the target of the attempt, which was a hint then, is known to
	// write; nil: it was known.
	unsure <-chan struct{}
	// patience ends MaxWait after the first trouble.
	patience  *time.Timer
	impatient bool
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.count.requests.Add(1)
	x := &exchange{
		p: p, w: w, r: r, ctrl: http.NewResponseController(w), id: telemetry.NewRequestID(),
		traits: traitsOf(r), backoff: firstBackoff,
	}
	defer x.end()
	if r.Method == http.MethodConnect || r.URL.Path == "" || r.URL.Path[0] != '/' {
		x.fail(fault.New(fault.ValidationFailed, "this endpoint is no proxy to other hosts: send a path of the API"))
		return
	}
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		x.body = newRecording(p, r, x.ctrl)
	}
	x.run()
}

// end gives back what the exchange holds.
func (x *exchange) end() {
	if x.patience != nil {
		x.patience.Stop()
	}
	if x.body != nil {
		x.body.close()
	}
}

// run sends the request until an answer stands.
func (x *exchange) run() {
	for n := 0; ; n++ {
		t := x.p.current.Load()
		if x.home != nil && x.home != t {
			x.failTransaction()
			return
		}
		if t.base == nil {
			if !x.hold(t) {
				return
			}
			continue
		}
		if x.traits.tx {
			x.home = t
		}
		if n > 0 {
			x.p.count.repeated.Add(1)
		}
		x.sure(t)
		if !x.once(t) {
			return
		}
	}
}

// sure notes whether t is known to write. What it refuses while it is not says nothing of
// what it does once it is.
func (x *exchange) sure(t *target) {
	x.unsure = t.known
	select {
	case <-t.known:
		x.unsure = nil
	default:
	}
}

// once makes one attempt and says whether another is to follow.
func (x *exchange) once(t *target) (again bool) {
	a := x.try(t)
	defer a.finish()
	switch {
	// first, as net/http takes a client that is too slow for one that has gone
	case a.err != nil && x.body != nil && x.body.failed() != nil:
		x.failBody(a)
		return false
	case x.r.Context().Err() != nil:
		x.abandon()
	case a.err != nil:
		return x.failed(a)
	case a.resp.StatusCode != http.StatusServiceUnavailable || !a.whole:
		return x.pass(a)
	}
	said := readRefusal(a.head)
	proof := said.proves(x.traits)
	if proof == final {
		return x.pass(a)
	}
	x.p.hint(t)
	x.p.troubled(t)
	if said.Error == fault.ReadOnly && said.Leader != "" {
		x.p.follow(t, said.Leader)
	}
	x.doubt = x.doubt || proof == undecided
	if !a.replayable {
		return x.pass(a)
	}
	x.refused = a // whole, and so of use when the attempt is finished
	return x.hold(t)
}

// abandon ends a request whose client has gone. Returning would send an empty answer of
// success to a client that has only closed its side of the connection.
func (x *exchange) abandon() { panic(http.ErrAbortHandler) }

// failed decides about an attempt that no answer came to.
func (x *exchange) failed(a *attempt) (again bool) {
	x.p.hint(a.t)
	x.p.troubled(a.t)
	if !a.sent {
		if a.replayable {
			return x.hold(a.t)
		}
		x.giveUp() // what was read of the body is gone, and went nowhere
		return false
	}
	x.lost++
	x.doubt = true
	if !x.traits.repeatable() || !a.replayable || x.lost > x.p.cfg.MaxLost {
		x.giveUp()
		return false
	}
	return x.hold(a.t)
}

// hold waits until t is the writer no more, or for the time to try it again; false: the
// request has been answered, or its client is gone.
//
// Invariant: at most MaxHeld requests wait, each at most MaxWait over all its waits.
func (x *exchange) hold(t *target) bool {
	if t.past.Err() != nil {
		return !x.outOfPatience()
	}
	if x.traits.probe {
		x.giveUp()
		return false
	}
	if x.p.heldNow.Add(1) > int64(x.p.cfg.MaxHeld) {
		x.p.heldNow.Add(-1)
		x.crowded()
		return false
	}
	defer x.p.heldNow.Add(-1)
	x.p.count.held.Add(1)
	if x.outOfPatience() {
		return false
	}
	var retry <-chan time.Time
	if t.base != nil {
		timer := time.NewTimer(x.backoff)
		defer timer.Stop()
		retry = timer.C
		x.backoff = min(2*x.backoff, lastBackoff)
	}
	select {
	case <-t.past.Done():
	case <-x.unsure:
		x.backoff = firstBackoff
	case <-retry:
	case <-x.patience.C:
		x.impatient = true
		return !x.outOfPatience()
	case <-x.r.Context().Done():
		x.abandon()
	}
	return true
}

// outOfPatience says whether the request has waited for long enough, and answers it then.
func (x *exchange) outOfPatience() bool {
	if x.patience == nil {
		x.patience = time.NewTimer(x.p.cfg.MaxWait)
	}
	select {
	case <-x.patience.C:
		x.impatient = true
	default:
	}
	if x.impatient {
		x.giveUp()
	}
	return x.impatient
}
