package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"originchain/shared/lsn"
)

// Config bounds what the proxy holds. The zero value of a field takes its default.
type Config struct {
	// MaxWait is how long a request is held over all its attempts, from its first trouble.
	MaxWait time.Duration
	// MaxHeld is how many requests may be held at once; one more is answered at once.
	MaxHeld int
	// MaxBodyBytes is how much of one body is recorded.
	MaxBodyBytes int64
	// MaxBufferedBytes is what the recorded bodies may take together.
	MaxBufferedBytes int64
	// MaxLost is how many attempts of one request may lose their answer: a request that
	// kills whoever reads it must not be taken from writer to writer.
	MaxLost int
	// AnswerTimeout is the longest wait for the header of an answer.
	AnswerTimeout time.Duration
	// BodyTimeout is the longest wait for the next bytes of a request's body.
	BodyTimeout time.Duration
	// WriteTimeout is the longest wait for the client to take the next bytes of an answer.
	WriteTimeout time.Duration
	// Grace is how long a writer of the past may go on with what cannot be repeated.
	Grace time.Duration
	// TLS is for writers whose URL is https.
	TLS *tls.Config
	// Dial connects to writers; nil takes the machine's network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (c Config) withDefaults() Config {
	setDefault(&c.MaxWait, 15*time.Second)
	setDefault(&c.MaxHeld, 1024)
	setDefault(&c.MaxBodyBytes, 8<<20)
	setDefault(&c.MaxBufferedBytes, 64<<20)
	setDefault(&c.MaxLost, 3)
	setDefault(&c.AnswerTimeout, 5*time.Minute)
	setDefault(&c.BodyTimeout, 30*time.Second)
	setDefault(&c.WriteTimeout, 30*time.Second)
	setDefault(&c.Grace, time.Second)
	if c.Dial == nil {
		c.Dial = (&net.Dialer{KeepAlive: upstreamKeepAlive}).DialContext
	}
	return c
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Metrics counts what became of requests since New.
type Metrics struct {
	Requests uint64 // taken in
	Held     uint64 // waits: for another writer, or before the next attempt
	Repeated uint64 // attempts after the first of a request
	Unknown  uint64 // answered with "outcome":"unknown" by the proxy itself
	Refused  uint64 // answered 503 by the proxy itself, nothing being unknown
	Aborted  uint64 // answers that broke after part of them was sent on
	Switches uint64 // changes of the writer

	HeldNow       int64 // requests that wait now
	BufferedBytes int64 // bodies recorded now
	Epoch         lsn.Epoch
	HeardEpoch    lsn.Epoch // the highest that an answer named
}

// counters are the parts of Metrics that grow.
type counters struct {
	requests, held, repeated, unknown, refused, aborted, switches atomic.Uint64
}

// Proxy is the http.Handler.
type Proxy struct {
	cfg   Config
	count counters
	// mu orders changes of current, and guards the fields of a target that change.
	mu      sync.Mutex
	current atomic.Pointer[target]
	heard   atomic.Uint64
	heldNow atomic.Int64
	bytes   atomic.Int64
	hints   chan struct{}
	// outage is nil while the writer answers.
	outage    atomic.Pointer[outage]
	switching prometheus.Histogram
}

// target is a writer as long as it is the one that requests go to.
type target struct {
	// base is nil while no writer is known.
	base      *url.URL
	transport *http.Transport
	// past ends when another target takes its place.
	past context.Context
	end  context.CancelFunc
	// epoch and hinted change under Proxy.mu: hinted says that a writer of the past
	// named this one, of an epoch that nobody has told yet.
	epoch  lsn.Epoch
	hinted bool
	// known is closed when somebody has told the epoch of a hinted target; nil: it was
	// told from the first.
	known chan struct{}
	// before are the writers that were asked before a hinted one, in this epoch.
	before []url.URL
}

// New makes a Proxy that knows no writer. Requests wait for one.
func New(cfg Config) *Proxy {
	p := &Proxy{cfg: cfg.withDefaults(), hints: make(chan struct{}, 1), switching: newSwitchSeconds()}
	p.current.Store(p.target(nil, 0))
	return p
}

func (p *Proxy) target(base *url.URL, epoch lsn.Epoch) *target {
	t := &target{base: base, epoch: epoch}
	t.past, t.end = context.WithCancel(context.Background())
	if base != nil {
		t.transport = newTransport(p.cfg)
	}
	return t
}

// SetWriter says who writes. An epoch that is not above the one known is ignored, as
// events come late and twice; an error is a URL that cannot be one.
func (p *Proxy) SetWriter(epoch lsn.Epoch, rawURL string) error {
	base, err := parseBase(rawURL)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.current.Load()
	switch {
	case now.base != nil && epoch <= now.epoch:
	case now.hinted && *now.base == *base:
		now.epoch, now.hinted, now.before = epoch, false, nil // requests are under way to it
		close(now.known)
	default:
		p.move(p.target(base, epoch))
	}
	return nil
}

// follow takes the word of a writer of the past for who writes now: t was asked and
// named it. Its epoch is not known, so that any above t's replaces it. One that has sent
// requests away in this epoch is not taken: two nodes that each name the other, as between
// a handover and the promotion, would be asked in turns as fast as they answer.
func (p *Proxy) follow(t *target, rawURL string) {
	base, err := parseBase(rawURL)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current.Load() != t || *base == *t.base || slices.Contains(t.before, *base) {
		return
	}
	next := p.target(base, t.epoch)
	next.hinted, next.known, next.before = true, make(chan struct{}), append(slices.Clone(t.before), *t.base)
	p.move(next)
}

// move makes t the current target. The caller holds mu. The connections to the one
// before are closed as they become idle; requests in flight see its past end.
func (p *Proxy) move(t *target) {
	before := p.current.Swap(t)
	p.count.switches.Add(1)
	before.end()
	if before.transport != nil {
		before.transport.CloseIdleConnections()
	}
}

// Close lets go of the idle connections and ends the wait of held requests; those in
// flight are ended as by a switch. Whoever serves the proxy has drained it before.
func (p *Proxy) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.move(p.target(nil, p.current.Load().epoch))
}

// Hints receives when an answer, or the want of one, gives reason to look who writes.
func (p *Proxy) Hints() <-chan struct{} { return p.hints }

// hint says that t, who is the writer as far as is known, may not be it. Of a writer of
// the past that is no news.
func (p *Proxy) hint(t *target) {
	if t.past.Err() != nil {
		return
	}
	select {
	case p.hints <- struct{}{}:
	default: // one waits to be seen
	}
}

// hear takes note of an epoch that an answer of t named. A higher one than t's says that
// t follows somebody else by now: followers answer reads too.
func (p *Proxy) hear(t *target, epoch lsn.Epoch) {
	for {
		heard := p.heard.Load()
		if uint64(epoch) <= heard {
			break
		}
		if p.heard.CompareAndSwap(heard, uint64(epoch)) {
			break
		}
	}
	if epoch > p.epochOf(t) {
		p.hint(t)
	}
}

func (p *Proxy) epochOf(t *target) lsn.Epoch {
	p.mu.Lock()
	defer p.mu.Unlock()
	return t.epoch
}

// Writer is where requests go; the URL is "" while that is not known.
func (p *Proxy) Writer() (lsn.Epoch, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.current.Load()
	if t.base == nil {
		return t.epoch, ""
	}
	return t.epoch, t.base.String()
}

// Metrics counts up to now.
func (p *Proxy) Metrics() Metrics {
	epoch, _ := p.Writer()
	return Metrics{
		Requests: p.count.requests.Load(), Held: p.count.held.Load(), Repeated: p.count.repeated.Load(),
		Unknown: p.count.unknown.Load(), Refused: p.count.refused.Load(), Aborted: p.count.aborted.Load(),
		Switches: p.count.switches.Load(), HeldNow: p.heldNow.Load(), BufferedBytes: p.bytes.Load(),
		Epoch: epoch, HeardEpoch: lsn.Epoch(p.heard.Load()),
	}
}

// parseBase accepts http://host:port and https://host:port.
func parseBase(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("writer %q: %w", raw, err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("writer %q: want http://host:port or https://host:port", raw)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}
