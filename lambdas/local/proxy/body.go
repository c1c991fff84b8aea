package proxy

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// recording is a request's body: each attempt reads it through a reader of its own,
// and what was read is kept, so that the next attempt has it again.
//
// One goroutine reads the client's connection, and only when a reader wants more: a
// reader must be able to leave while the client is silent, as the transport waits for
// whoever reads its body. What was read is recorded before a reader sees it, so that an
// attempt that was given up loses nothing.
type recording struct {
	p    *Proxy
	r    *http.Request
	ctrl *http.ResponseController
	// trailers are the names that the client has announced.
	trailers []string
	// expects says that the first read sends 100 Continue to the client.
	expects bool

	mu      sync.Mutex
	changed *sync.Cond
	// chunks are what is recorded, from the place base on; all but the last are full.
	chunks [][]byte
	// read is what the client has sent; charged, what the record takes of all bodies' room.
	base, read, charged int64
	// kept says that the record holds the body from its start. If not, it is what the
	// reader has not taken yet.
	kept bool
	// wanted asks for more; pulling: the client's connection is being read.
	wanted, pulling, closed bool
	// done is closed when nothing reads the connection any more; nil before it began.
	done chan struct{}
	// err is what follows the bytes that were read: io.EOF, or the client's failure.
	err error
}

// chunkBytes is how much of a body is read and recorded at a time.
const chunkBytes = 16 << 10

var errGivenUp = errors.New("the attempt that read the body was given up")

func newRecording(p *Proxy, r *http.Request, ctrl *http.ResponseController) *recording {
	b := &recording{
		p: p, r: r, ctrl: ctrl, expects: r.Header.Get("Expect") != "",
		kept: r.ContentLength <= p.cfg.MaxBodyBytes, trailers: slices.Collect(maps.Keys(r.Trailer)),
	}
	b.changed = sync.NewCond(&b.mu)
	return b
}

// replayable says whether another attempt can have the body from its start.
func (b *recording) replayable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept || b.read == 0
}

// failed is why the client's body did not come whole; nil if that is not so.
func (b *recording) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil || errors.Is(b.err, io.EOF) {
		return nil
	}
	return b.err
}

// bodyReader is the body for one attempt.
type bodyReader struct {
	b *recording
	// moving is told of every read; trailer is filled in at the end of the body.
	moving  func()
	trailer http.Header
	pos     int64
	gone    bool // guarded by b.mu
}

func (b *recording) reader(moving func()) *bodyReader {
	r := &bodyReader{b: b, moving: moving}
	for _, name := range b.trailers {
		if r.trailer == nil {
			r.trailer = http.Header{}
		}
		r.trailer[name] = nil
	}
	return r
}

// Close implements io.Closer: nobody reads on. A reader that waits returns.
func (r *bodyReader) Close() error {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if !r.gone {
		r.gone, b.wanted = true, false
		b.changed.Broadcast()
	}
	return nil
}

// giveUp ends the reader and says whether another can start over.
func (r *bodyReader) giveUp() (replayable bool) {
	_ = r.Close()
	return r.b.replayable()
}

// Read implements io.Reader.
func (r *bodyReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	defer r.moving()
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case r.gone || b.closed || r.pos < b.base:
			return 0, errGivenUp
		case r.pos < b.read:
			return r.take(p), nil
		case b.err != nil:
			for name := range r.trailer { // net/http has read them with the end of the body
				r.trailer[name] = b.r.Trailer[name]
			}
			return 0, b.err
		}
		b.want()
		b.changed.Wait()
	}
}

// take copies what is recorded. The caller holds b.mu.
func (r *bodyReader) take(p []byte) int {
	b := r.b
	at := r.pos - b.base
	n := copy(p, b.chunks[at/chunkBytes][at%chunkBytes:])
	r.pos += int64(n)
	if !b.kept && r.pos == b.read {
		b.base, b.chunks[0] = b.read, b.chunks[0][:0]
	}
	return n
}

// want asks for more of the body. The caller holds mu.
func (b *recording) want() {
	b.wanted = true
	if b.done == nil {
		b.done = make(chan struct{})
		go b.pump()
	}
	b.changed.Broadcast()
}

// pump reads the client's connection when that is wanted, until the body's end or close.
func (b *recording) pump() {
	defer close(b.done)
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.err == nil {
		for !b.wanted && !b.closed {
			b.changed.Wait()
		}
		if b.closed {
			return
		}
		into := b.room()
		b.wanted, b.pulling = false, true
		b.extend()
		b.mu.Unlock()
		n, err := b.r.Body.Read(into)
		b.mu.Lock()
		last := len(b.chunks) - 1
		b.chunks[last] = b.chunks[last][:len(b.chunks[last])+n]
		b.read += int64(n)
		b.pulling = false
		b.settle(err)
		b.changed.Broadcast()
	}
}

// room is where the next bytes go. Whoever wants them has all that is recorded. The
// caller holds mu.
func (b *recording) room() []byte {
	if b.kept && (b.read > b.p.cfg.MaxBodyBytes || !b.grow()) {
		b.forget()
	}
	if len(b.chunks) == 0 {
		b.chunks, b.base = [][]byte{make([]byte, 0, chunkBytes)}, b.read
	}
	last := b.chunks[len(b.chunks)-1]
	return last[len(last):cap(last)]
}

// grow sees to it that the last chunk has room, if all bodies together leave any.
func (b *recording) grow() bool {
	if n := len(b.chunks); n > 0 && len(b.chunks[n-1]) < cap(b.chunks[n-1]) {
		return true
	}
	if b.p.bytes.Add(chunkBytes) > b.p.cfg.MaxBufferedBytes {
		b.p.bytes.Add(-chunkBytes)
		return false
	}
	b.charged += chunkBytes
	b.chunks = append(b.chunks, make([]byte, 0, chunkBytes))
	return true
}

// forget gives the record back. The caller holds mu.
func (b *recording) forget() {
	b.p.bytes.Add(-b.charged)
	b.chunks, b.charged, b.kept = nil, 0, false
}

// extend gives the client the body timeout for its next bytes. The caller holds mu.
func (b *recording) extend() {
	at := time.Now().Add(b.p.cfg.BodyTimeout)
	_ = b.ctrl.SetReadDeadline(at) // what has no deadlines is bounded by who made it
	if b.expects && b.read == 0 {
		_ = b.ctrl.SetWriteDeadline(at)
	}
}

// settle takes note of how a read of the client ended. The caller holds mu.
func (b *recording) settle(err error) {
	b.err = err
	if errors.Is(err, io.EOF) && !b.closed {
		// net/http reads on to notice a client that leaves, and takes a deadline for that.
		_ = b.ctrl.SetReadDeadline(time.Time{})
	}
}

// abandonedBodyTimeout is what a client gets for the bytes under way when its request
// is answered before all of them were read.
const abandonedBodyTimeout = time.Second

// close ends every read and gives the record back. Nothing touches the client's
// connection after it has returned.
func (b *recording) close() {
	b.mu.Lock()
	b.closed = true
	switch {
	case b.pulling:
		_ = b.ctrl.SetReadDeadline(time.Unix(1, 0)) // long past: the read ends now
	case b.err == nil:
		_ = b.ctrl.SetReadDeadline(time.Now().Add(abandonedBodyTimeout))
	}
	b.changed.Broadcast()
	done := b.done
	b.mu.Unlock()
	if done != nil {
		<-done
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget()
}
