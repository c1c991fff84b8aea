package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync"
	"time"

	"originchain/shared/api"
	"originchain/shared/lsn"
)

// answerAheadBytes is how much of an answer is read before any of it is sent on.
const answerAheadBytes = 64 << 10

// Why an attempt was ended here.
var (
	errPast     = errors.New("another node is the writer now")
	errNoAnswer = errors.New("the writer did not answer in time")
)

// attempt is one sending of a request to one writer, and what came of it.
type attempt struct {
	x      *exchange
	t      *target
	ctx    context.Context
	cancel context.CancelCauseFunc
	reader *bodyReader // nil without a body
	// elsewhere: it is to be repeated elsewhere as soon as there is an elsewhere.
	elsewhere bool
	unwatch   func() bool
	wire      sending

	mu sync.Mutex
	// begun: part of the answer was sent on, so that there is no other attempt.
	begun bool
	grace *time.Timer
	over  bool
	// late ends an attempt whose answer does not come; nil once that is decided.
	late *time.Timer

	resp *http.Response
	// head is the answer's body as far as it was read; whole: that is all of it.
	head  []byte
	whole bool
	// err is why there is no answer; sent, whether any of the request was.
	err  error
	sent bool
	// replayable says that the body can be sent again.
	replayable bool
}

// try sends the request to t. The attempt is to be finished by the caller.
func (x *exchange) try(t *target) *attempt {
	a := &attempt{x: x, t: t, replayable: true, elsewhere: x.traits.repeatable() && x.lost < x.p.cfg.MaxLost}
	a.ctx, a.cancel = context.WithCancelCause(x.r.Context())
	a.unwatch = context.AfterFunc(t.past, a.past)
	a.late = time.AfterFunc(x.p.cfg.AnswerTimeout, func() { a.cancel(errNoAnswer) })
	out := a.request()
	a.resp, a.err = t.transport.RoundTrip(out) //nolint:bodyclose // finish closes it
	a.answered()
	if a.err == nil {
		a.readAhead()
	}
	if a.err != nil {
		a.sent = a.wire.end() || a.resp != nil
	}
	if a.reader != nil && (a.err != nil || a.resp.StatusCode == http.StatusServiceUnavailable) {
		a.replayable = a.reader.giveUp()
	}
	if a.err == nil {
		a.listen()
	}
	return a
}

// request is what the attempt sends.
func (a *attempt) request() *http.Request {
	r := a.x.r
	out := &http.Request{
		Method: r.Method, URL: requestURL(a.t.base, r.URL), Host: r.Host, Header: requestHeader(r),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: r.ContentLength, Body: http.NoBody,
	}
	if a.x.body != nil {
		a.reader = a.x.body.reader(a.moving)
		out.Body, out.Trailer = a.reader, a.reader.trailer
		a.wire.closed = func() { _ = a.reader.Close() }
	}
	return out.WithContext(httptrace.WithClientTrace(a.ctx, a.wire.trace()))
}

// moving puts the time-out off: the body is still being sent.
func (a *attempt) moving() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.late != nil {
		a.late.Reset(a.x.p.cfg.AnswerTimeout)
	}
}

// answered lifts the time-out.
func (a *attempt) answered() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.late.Stop()
	a.late = nil
}

// past ends the attempt because its writer is not the writer any more: at once if it is
// repeated elsewhere, else after the grace in which a living one answers.
func (a *attempt) past() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return
	}
	if !a.begun && a.elsewhere && (a.x.body == nil || a.x.body.replayable()) {
		a.cancel(errPast)
		return
	}
	a.grace = time.AfterFunc(a.x.p.cfg.Grace, func() { a.cancel(errPast) })
}

// readAhead reads an answer that is short, or says 503, before anything of it is sent on.
func (a *attempt) readAhead() {
	n := a.resp.ContentLength
	if n > answerAheadBytes || (n < 0 && a.resp.StatusCode != http.StatusServiceUnavailable) {
		return
	}
	head, err := io.ReadAll(io.LimitReader(a.resp.Body, answerAheadBytes+1))
	a.head, a.whole = head, err == nil && len(head) <= answerAheadBytes
	a.err = err
}

// listen takes from an answer what it says of who writes.
func (a *attempt) listen() {
	if n, err := strconv.ParseUint(a.resp.Header.Get(api.HeaderEpoch), 10, 64); err == nil {
		a.x.p.hear(a.t, lsn.Epoch(n))
	}
}

// begin says that the answer is sent on from now; false that the rest of it will not come.
func (a *attempt) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begun = a.whole || a.ctx.Err() == nil
	return a.begun
}

// finish ends the attempt and everything that was set up for it.
func (a *attempt) finish() {
	a.unwatch()
	a.mu.Lock()
	a.over = true
	if a.grace != nil {
		a.grace.Stop()
	}
	a.mu.Unlock()
	a.cancel(nil)
	a.wire.leave()
	if a.reader != nil {
		_ = a.reader.Close()
	}
	if a.resp != nil {
		_ = a.resp.Body.Close()
	}
}
