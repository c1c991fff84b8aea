package proxy

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"originchain/shared/api"
	"originchain/shared/fault"
)

// pass sends an answer on. It is true if nothing was, and another attempt is to follow.
func (x *exchange) pass(a *attempt) (again bool) {
	if x.doubt && !x.traits.safe && !decides(a.resp.StatusCode) {
		x.failUnknown() // the answer is about this attempt, not about the one before it
		return false
	}
	if !a.begin() {
		a.err, a.sent = errPast, true
		if a.reader != nil {
			a.replayable = a.reader.giveUp()
		}
		return x.failed(a)
	}
	if a.resp.StatusCode < http.StatusInternalServerError {
		x.p.answered(a.t)
	}
	removeHop(a.resp.Header)
	h := x.w.Header()
	for name, values := range a.resp.Header {
		h[name] = values
	}
	announced := make(map[string]bool, len(a.resp.Trailer))
	for name := range a.resp.Trailer {
		h.Add("Trailer", name)
		announced[name] = true
	}
	x.extendWrite()
	x.w.WriteHeader(a.resp.StatusCode)
	if err := x.copy(a); err != nil {
		// Breaking the connection is the one way left to say that the answer is not whole.
		x.p.count.aborted.Add(1)
		panic(http.ErrAbortHandler)
	}
	for name, values := range a.resp.Trailer {
		if !announced[name] {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
	return false
}

// copy sends the body of an answer, each piece as it comes.
func (x *exchange) copy(a *attempt) error {
	if _, err := x.w.Write(a.head); err != nil || a.whole {
		return err
	}
	if err := x.ctrl.Flush(); err != nil {
		return err
	}
	buf := make([]byte, chunkBytes)
	for {
		n, err := a.resp.Body.Read(buf)
		if n > 0 {
			x.extendWrite()
			if _, err := x.w.Write(buf[:n]); err != nil {
				return err
			}
			if err := x.ctrl.Flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// extendWrite gives the client the write time-out for the next piece.
func (x *exchange) extendWrite() {
	_ = x.ctrl.SetWriteDeadline(time.Now().Add(x.p.cfg.WriteTimeout))
}

// giveUp answers a request that no attempt decided.
func (x *exchange) giveUp() {
	switch {
	case x.doubt && !x.traits.safe:
		x.failUnknown()
	case x.refused != nil:
		x.pass(x.refused)
	case x.lost > 0:
		x.fail(fault.New(fault.NotReady, "the writer of this instance was lost before it answered, and no other answered in time; retry in a moment").WithRetry())
	default:
		x.fail(fault.New(fault.NotReady, "no writer of this instance can be reached; nothing of the request was sent to one, retry in a moment").WithRetry())
	}
}

// failUnknown is the answer to what may have been done or not.
func (x *exchange) failUnknown() {
	x.p.count.unknown.Add(1)
	f := fault.New(fault.NotReady, "the writer was lost before its answer came, so that nobody can tell here whether the request was done")
	switch {
	case x.traits.tx:
		f.Message += "; a transaction ends with its writer: look at what a COMMIT would have changed, and begin anew"
	case x.traits.keyed:
		f.Message += "; retry with the same Idempotency-Key"
		f = f.WithRetry()
	default:
		f.Message += "; look before you send it again, or send an Idempotency-Key with it, which makes it safe to repeat"
	}
	x.send(f.With("outcome", outcomeUnknown))
}

// failTransaction answers a call of a transaction whose node does not write any more.
func (x *exchange) failTransaction() {
	if x.doubt {
		x.failUnknown()
		return
	}
	x.fail(fault.New(fault.Fenced, "another node is the writer now, and the transaction ended with the one it was begun on; nothing of this call was sent, begin the transaction anew"))
}

// crowded answers a request that would wait where too many do.
func (x *exchange) crowded() {
	if x.doubt || x.refused != nil {
		x.giveUp()
		return
	}
	x.fail(fault.New(fault.Overloaded, "no writer of this instance can be reached, and as many requests wait for one as may; nothing of the request was sent, retry in a moment").WithRetry())
}

// failBody answers a request whose body did not come whole. A batch may have committed
// the chunks that did; anything else needs its whole body.
func (x *exchange) failBody(a *attempt) {
	f := fault.New(fault.ValidationFailed, "the body stopped arriving, or is not what its header announced; send it again, without long pauses")
	if x.doubt || (a.sent && x.traits.batch && !x.traits.tx) {
		f = f.With("outcome", outcomeUnknown)
	}
	x.fail(f)
}

// fail answers with a fault of the proxy's own.
func (x *exchange) fail(f *fault.Error) {
	x.p.count.refused.Add(1)
	x.send(f)
}

// envelope is an error on the wire, in the order of API answers.
type envelope struct {
	Error     fault.Code `json:"error"`
	Message   string     `json:"message"`
	RequestID string     `json:"request_id"`
	Retry     bool       `json:"retry"`
	Outcome   string     `json:"outcome,omitempty"`
}

// retryAfterSeconds is what a 503 asks for.
const retryAfterSeconds = 1

func (x *exchange) send(f *fault.Error) {
	outcome, _ := f.Fields["outcome"].(string)
	body, err := json.Marshal(envelope{Error: f.Code.Wire(), Message: f.Message, RequestID: x.id, Retry: f.Retry, Outcome: outcome})
	if err != nil {
		panic(http.ErrAbortHandler) // five plain fields: it cannot be
	}
	h := x.w.Header()
	h.Set("Content-Type", api.ContentTypeJSON)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set(api.HeaderRequestID, x.id)
	status := fault.Status(f.Code)
	if status == http.StatusServiceUnavailable {
		h.Set(api.HeaderRetryAfter, strconv.Itoa(retryAfterSeconds))
	}
	x.extendWrite()
	x.w.WriteHeader(status)
	_, _ = x.w.Write(body) // a client that is gone needs no answer
}
