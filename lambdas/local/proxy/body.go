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
// Invariant: bytes leave the client's connection one reader at a time (pull) and are
// recorded before a reader sees them; an attempt that was given up in the middle of a
// read loses nothing.
type recording struct {
	p    *Proxy
	r    *http.Request
	ctrl *http.ResponseController
	// trailers are the names that the client has announced.
	trailers []string
	// expects says that the first read sends 100 Continue to the client.
	expects bool
	// pull is held while the client's connection is read.
	pull sync.Mutex

	mu     sync.Mutex
	chunks [][]byte
	// size is what is recorded, read what the client has sent.
	size, read, charged int64
	// kept says that the record holds the body from its start.
	kept    bool
	pulling bool
	closed  bool
	// err is what follows the bytes that were read: io.EOF, or the client's failure.
	err error
}

// chunkBytes is how much of a body is read and recorded at a time.
const chunkBytes = 16 << 10

var errGivenUp = errors.New("the attempt that read the body was given up")

func newRecording(p *Proxy, r *http.Request, ctrl *http.ResponseController) *recording {
	return &recording{
		p: p, r: r, ctrl: ctrl, expects: r.Header.Get("Expect") != "",
		kept: r.ContentLength <= p.cfg.MaxBodyBytes, trailers: slices.Collect(maps.Keys(r.Trailer)),
	}
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
	// chunk and off are where it stands in the record.
	chunk, off int
	pos        int64
	gone       bool // guarded by b.mu
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

// Close implements io.Closer: the transport is done with it.
func (r *bodyReader) Close() error {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.gone = true
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
	for {
		if n, err := r.recorded(p); n > 0 || err != nil {
			return n, err
		}
		n, again, err := r.pull(p)
		if !again {
			return n, err
		}
	}
}

// recorded gives what is there without the client.
func (r *bodyReader) recorded(p []byte) (int, error) {
	b := r.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.gone || b.closed {
		return 0, errGivenUp
	}
	if r.pos == b.read {
		if b.err != nil {
			r.end()
		}
		return 0, b.err
	}
	if !b.kept {
		return 0, errGivenUp // it was read past by another attempt, and is gone
	}
	if r.off == len(b.chunks[r.chunk]) { // it was the last one, and is full
		r.chunk, r.off = r.chunk+1, 0
	}
	n := copy(p, b.chunks[r.chunk][r.off:])
	r.off += n
	r.pos += int64(n)
	return n, nil
}

// pull reads on from the client: into the record, or past it into p. again says that the
// record is to be asked.
func (r *bodyReader) pull(p []byte) (n int, again bool, err error) {
	b := r.b
	b.pull.Lock()
	defer b.pull.Unlock()
	b.mu.Lock()
	if r.gone || b.closed {
		b.mu.Unlock()
		return 0, false, errGivenUp
	}
	if r.pos != b.read || b.err != nil {
		b.mu.Unlock()
		return 0, true, nil // another attempt has read on
	}
	room := b.room()
	b.pulling = true
	b.extend()
	b.mu.Unlock()
	into := p
	if room != nil {
		into = room
	}
	n, err = b.r.Body.Read(into)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pulling = false
	b.read += int64(n)
	b.settle(err)
	if room != nil {
		last := len(b.chunks) - 1
		b.chunks[last] = b.chunks[last][:len(b.chunks[last])+n]
		b.size += int64(n)
		return 0, true, nil
	}
	r.pos += int64(n)
	if err != nil {
		r.end()
	}
	return n, false, err
}

// end takes over the trailers, which net/http has read with the end of the body. The
// caller holds b.mu.
func (r *bodyReader) end() {
	for name := range r.trailer {
		r.trailer[name] = r.b.r.Trailer[name]
	}
}

// room is where the next bytes are recorded; nil when they are not. The caller holds mu.
func (b *recording) room() []byte {
	if !b.kept {
		return nil
	}
	if b.size > b.p.cfg.MaxBodyBytes || !b.grow() {
		b.forget()
		return nil
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
	b.mu.Unlock()
	b.pull.Lock()
	defer b.pull.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget()
}
