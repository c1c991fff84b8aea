package httpx

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"originchain/shared/fault"
)

// firstBodyBytes is the most that is set aside on the word of Content-Length
// alone; beyond it memory grows with what has really arrived.
const firstBodyBytes = 64 << 10

// deadliner is a connection whose reads and writes can be given up.
type deadliner interface {
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// extendWrite gives a write writeTimeout to be taken by the client: at the
// start of an answer and again for every large piece, so that a client that
// does not read holds nothing for ever, and a long answer has no total bound.
//
// On HTTP/1 a deadline only matters to a write that is under way. On HTTP/2 it
// is a timer that ends the stream, also between two writes, so there a piece of
// a streamed answer has its deadline lifted by restWrite.
func (x *exchange) extendWrite(n int) {
	x.sinceDeadline += n
	if x.sinceDeadline < deadlineEveryBytes && x.deadlined {
		return
	}
	x.deadlined, x.sinceDeadline = true, 0
	x.setWriteDeadline(time.Now().Add(x.call.server.cfg.WriteTimeout))
}

// restWrite lifts the deadline between two pieces of a streamed answer on HTTP/2.
func (x *exchange) restWrite() {
	if x.deadlined && !x.whole && x.call.Request.ProtoMajor > 1 {
		x.deadlined = false
		x.setWriteDeadline(time.Time{})
	}
}

// endWrite bounds what net/http still has to write when the handler is done.
func (x *exchange) endWrite() {
	if x.begun() && !x.deadlined {
		x.setWriteDeadline(time.Now().Add(x.call.server.cfg.WriteTimeout))
	}
}

func (x *exchange) setWriteDeadline(at time.Time) {
	if d, ok := x.ResponseWriter.(deadliner); ok {
		_ = d.SetWriteDeadline(at) // a closed connection fails the write itself
	}
}

// deadlineEveryBytes is how much is written under one write deadline.
const deadlineEveryBytes = 32 << 10

// tooLarge refuses a body over the limit of its route.
func tooLarge(limit int64) *fault.Error {
	return fault.New(fault.BodyTooLarge, "the body is larger than %d bytes; send less at once, or use rows/:schema/_batch, which streams", limit).
		With("limit_bytes", limit)
}

// checkLength refuses a body by its Content-Length, before a byte of it is read.
func (c *Call) checkLength() error {
	if limit := c.route.maxBody(); !c.route.Streaming && c.Request.ContentLength > limit {
		return tooLarge(limit)
	}
	return nil
}

// readBody reads the whole body into buf, which may be nil or lent.
func (c *Call) readBody(buf []byte) ([]byte, error) {
	limit := c.route.maxBody()
	want := c.Request.ContentLength
	if want == 0 {
		return buf[:0], nil
	}
	first := int64(firstBodyBytes)
	if want > 0 && want < first {
		first = want + 1 // one more, so that EOF is seen without growing
	}
	if int64(cap(buf)) < first {
		buf = make([]byte, 0, first)
	}
	if err := c.charge(int64(cap(buf))); err != nil {
		return nil, err
	}
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			grown := min(2*int64(cap(buf)), limit+1)
			if err := c.charge(grown - int64(cap(buf))); err != nil {
				return nil, err
			}
			buf = append(make([]byte, 0, grown), buf...)
		}
		c.extendRead()
		n, err := c.Request.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > limit {
			return nil, tooLarge(limit)
		}
		if errors.Is(err, io.EOF) {
			c.endRead()
			return buf, nil
		}
		if err != nil {
			return nil, bodyError(err)
		}
	}
}

// charge takes n bytes of what all buffered bodies may hold together, or says
// that the node is overloaded: many large bodies at once must not exhaust memory.
func (c *Call) charge(n int64) error {
	if c.server.bodyBytes.Add(n) > c.server.cfg.BodyMemoryBytes {
		c.server.bodyBytes.Add(-n)
		return fault.New(fault.Overloaded, "too many request bodies are in memory at once; retry in a moment").WithRetry()
	}
	c.charged += n
	return nil
}

// extendRead gives the client the body timeout to send the next bytes.
func (c *Call) extendRead() {
	if d, ok := c.x.ResponseWriter.(deadliner); ok {
		deadline := time.Now().Add(c.server.cfg.BodyTimeout)
		_ = d.SetReadDeadline(deadline)
		if c.Request.Header["Expect"] != nil {
			// The read sends "100 Continue", under whatever deadline the last
			// answer on this connection left behind.
			_ = d.SetWriteDeadline(deadline)
		}
	}
}

// endRead lifts the read deadline at the end of the body: net/http goes on
// reading in the background to notice a client that leaves, and takes a
// deadline for such a leave.
func (c *Call) endRead() {
	c.bodyRead = true
	c.liftRead()
}

func (c *Call) liftRead() {
	if d, ok := c.x.ResponseWriter.(deadliner); ok {
		_ = d.SetReadDeadline(time.Time{})
	}
}

// abandonBody bounds the wait for a body that the handler did not read to its
// end: net/http reads on past the answer, so that the connection can be used
// again, and would wait without end for a client that sends nothing.
func (c *Call) abandonBody() {
	if c.Request.ContentLength != 0 && !c.bodyRead {
		if d, ok := c.x.ResponseWriter.(deadliner); ok {
			_ = d.SetReadDeadline(time.Now().Add(min(c.server.cfg.BodyTimeout, abandonedBodyTimeout)))
		}
	}
}

// abandonedBodyTimeout is enough for the bytes that were under way when the
// request was refused.
const abandonedBodyTimeout = time.Second

// bodyError is a body that did not arrive.
func bodyError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fault.New(fault.ValidationFailed, "the body stopped arriving; send it without long pauses").WithRetry().Wrap(err)
	}
	return fault.New(fault.ValidationFailed, "the body ended before its announced length or is not valid chunked encoding; send it again").WithRetry().Wrap(err)
}

// streamBody reads a body piece by piece, each read under its own deadline.
type streamBody struct{ call *Call }

// Read implements io.Reader.
func (b *streamBody) Read(p []byte) (int, error) {
	if b.call.Request.ContentLength == 0 {
		return 0, io.EOF
	}
	n, err := b.read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.call.endRead()
	case err != nil && b.call.server.interrupted.Err() != nil:
		err = context.Cause(b.call.server.interrupted)
	case err != nil:
		err = bodyError(err)
	case b.call.Request.ProtoMajor > 1:
		b.call.liftRead() // there it would end the stream while the handler works
	}
	return n, err
}

// read waits for the next bytes until the deadline, or until the server's streams
// are interrupted.
func (b *streamBody) read(p []byte) (int, error) {
	c := b.call
	c.extendRead()
	cut := make(chan struct{})
	stop := context.AfterFunc(c.server.interrupted, func() {
		defer close(cut)
		if d, ok := c.x.ResponseWriter.(deadliner); ok {
			_ = d.SetReadDeadline(time.Unix(1, 0)) // long past
		}
	})
	n, err := c.Request.Body.Read(p)
	if !stop() {
		<-cut // the connection must not be touched when the call has ended
	}
	return n, err
}
