package failover

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"originchain/shared/lease"
	"originchain/shared/lsn"
)

const (
	// lookPatience is how long a look waits for answers; one that comes later is there
	// for the next look.
	lookPatience = 200 * time.Millisecond
	// The bounds of what a look asks. That of /health is above SlowAnswer: an answer
	// that is merely slow is to be seen as one.
	pulseTimeout    = 2 * time.Second
	standingTimeout = time.Second
	recordTimeout   = 2 * time.Second
	processTimeout  = 2 * time.Second
)

var errUnread = errors.New("it was not read yet")

// ObserverDeps are what an Observer looks at.
type ObserverDeps struct {
	Lease   lease.Store
	Control Control
	HTTP    *http.Client
	// AdminToken is the nodes'.
	AdminToken string
	// Migration gives the state of the migration under way, "" for none; nil: there are
	// no migrations.
	Migration func(context.Context) string
}

// Observer watches one instance, on its own monotonic clock: since when the record is
// as it is, since when the writer is silent. It remembers from one look to the next, so
// one that has watched knows at once what a new one has to wait for.
//
// Each question is asked by a goroutine of its own, once at a time, so that a node that
// hangs holds up no look. Close ends them.
type Observer struct {
	deps   ObserverDeps
	client *client
	ctx    context.Context // of the questions, which outlast the look that asks them
	cancel context.CancelFunc
	asking sync.WaitGroup
	began  time.Time

	mu sync.Mutex
	// of each: what was asked last, and what came of it
	record  question[recordRead]
	pulse   question[pulse]
	process question[Process]
	migrate question[string]
	// targets are by whom they ask: several may look at once, each for its own.
	targets map[string]*question[Target]

	known   lease.Record // as last read
	readAt  time.Time    // when that reading was asked for; zero before the first
	since   time.Time    // when this version was first there
	silent  time.Time    // when the first of the unanswered requests was sent
	durable lsn.LSN      // the last LSN that the holder was heard to have durable
}

type recordRead struct {
	record lease.Record
	err    error
}

// pulse is what the writer answered, or why it did not; durable is 0 where it did not say.
type pulse struct {
	answered bool
	failed   string
	took     time.Duration
	status   int
	durable  lsn.LSN
}

// Sight is what to look at.
type Sight struct {
	// Nodes are all that are registered.
	Nodes  []Node
	Target Node
	// Planned: a person asks for a switchover.
	Planned bool
}

// NewObserver returns an Observer that has seen nothing.
func NewObserver(d ObserverDeps) *Observer {
	ctx, cancel := context.WithCancel(context.Background())
	return &Observer{deps: d, client: &client{http: d.HTTP, token: d.AdminToken}, ctx: ctx, cancel: cancel, began: time.Now(), targets: make(map[string]*question[Target])}
}

// Close ends what is being asked, and waits for it.
func (w *Observer) Close() {
	w.cancel()
	w.asking.Wait()
}

// Look asks everything once more and tells what is known after lookPatience at most.
func (w *Observer) Look(ctx context.Context, s Sight) Observation {
	patience, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	read := w.askRecord()
	answered := ask(w, w.targetOf(s.Target), "", standingTimeout, func(ctx context.Context) Target { return w.askTarget(ctx, s.Target) }, nil)
	migration := ask(w, &w.migrate, "", processTimeout, func(ctx context.Context) string {
		if w.deps.Migration == nil {
			return ""
		}
		return w.deps.Migration(ctx)
	}, nil)
	wait(patience, read)
	beat, ended := w.askWriter(w.writer(s.Nodes))
	for _, c := range []<-chan struct{}{answered, migration, beat, ended} {
		wait(patience, c)
	}
	return w.observation(s)
}

// Record looks at the record alone, and waits until it was read. unchanged is for how
// long it has been as it is.
func (w *Observer) Record(ctx context.Context) (r lease.Record, unchanged time.Duration, err error) {
	asked := time.Now()
	for {
		wait(ctx, w.askRecord())
		if err := ctx.Err(); err != nil {
			return r, 0, err
		}
		w.mu.Lock()
		fresh := !w.record.sent.Before(asked) && !w.record.running()
		r, unchanged, err = w.known, w.unchanged(), w.record.last.err
		w.mu.Unlock()
		if fresh {
			return r, unchanged, err
		}
	}
}

func wait(ctx context.Context, done <-chan struct{}) {
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// question is something that is asked once at a time; of says of whom.
type question[T any] struct {
	of   string
	sent time.Time
	// done is closed when the answer is there; nil before the first question.
	done chan struct{}
	last T
	// answered: last is an answer of whom it is asked now.
	answered bool
}

func (q *question[T]) running() bool {
	if q.done == nil {
		return false
	}
	select {
	case <-q.done:
		return false
	default:
		return true
	}
}

// ask asks unless it is being asked. took takes note of the answer, with the lock held.
func ask[T any](w *Observer, q *question[T], of string, bound time.Duration, f func(context.Context) T, took func(T)) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if q.of != of {
		*q = question[T]{of: of} // whoever is still asked answers nobody
	}
	if q.running() {
		return q.done
	}
	done := make(chan struct{})
	q.done, q.sent = done, time.Now()
	w.asking.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, bound)
		defer cancel()
		answer := f(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		if q.done == done {
			q.last, q.answered = answer, true
			if took != nil {
				took(answer)
			}
		}
		close(done)
	})
	return done
}

func (w *Observer) askRecord() <-chan struct{} {
	return ask(w, &w.record, "", recordTimeout, func(ctx context.Context) recordRead {
		r, _, err := w.deps.Lease.Load(ctx)
		return recordRead{r, err}
	}, func(got recordRead) {
		if got.err != nil {
			return
		}
		if w.readAt.IsZero() || got.record.Version != w.known.Version {
			w.since = time.Now() // not when it was asked for: it may have changed meanwhile
		}
		if got.record.Epoch != w.known.Epoch {
			w.durable, w.silent = 0, time.Time{}
		}
		w.known, w.readAt = got.record, w.record.sent
	})
}

// unchanged is for how long the record is known to have been as it is: up to when the
// last reading was asked for, since nobody knows what came after.
func (w *Observer) unchanged() time.Duration { return max(0, w.readAt.Sub(w.since)) }

// targetOf is the question about a node.
func (w *Observer) targetOf(n Node) *question[Target] {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.targets[whom(n.ID, n.URL)]
	if q == nil {
		q = new(question[Target])
		w.targets[whom(n.ID, n.URL)] = q
	}
	return q
}

// whom says of which node, at which address, a question is.
func whom(node, url string) string { return node + " " + url }

// writer is the node that the record names.
func (w *Observer) writer(nodes []Node) Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.holder(nodes)
}

// holder is writer, with the lock held. One that is not registered is asked where the
// record says.
func (w *Observer) holder(nodes []Node) Node {
	if n, err := find(nodes, w.known.Holder); err == nil {
		return n
	}
	return Node{ID: w.known.Holder, URL: w.known.URL, OpsURL: w.known.URL}
}

// askWriter asks a writer how it is, and instance control about its process.
func (w *Observer) askWriter(n Node) (beat, ended <-chan struct{}) {
	closed := make(chan struct{})
	close(closed)
	if n.ID == "" {
		return closed, closed
	}
	of := whom(n.ID, n.OpsURL)
	beat = ask(w, &w.pulse, of, pulseTimeout, func(ctx context.Context) pulse { return w.askPulse(ctx, n) }, func(p pulse) {
		w.durable = max(w.durable, p.durable)
		switch {
		case p.answered:
			w.silent = time.Time{}
		case w.silent.IsZero():
			w.silent = w.pulse.sent
		}
	})
	if w.deps.Control == nil || n.Machine == "" {
		return beat, closed
	}
	return beat, ask(w, &w.process, of, processTimeout+pace(w.deps.Control), func(ctx context.Context) Process {
		p, err := w.deps.Control.Process(ctx, n)
		if err != nil {
			return Process{} // nothing is known
		}
		return p
	}, nil)
}

func (w *Observer) askPulse(ctx context.Context, n Node) (p pulse) {
	_, status, took, err := w.client.health(ctx, n)
	var a *answerError
	if err != nil && !errors.As(err, &a) {
		return pulse{failed: err.Error()}
	}
	p = pulse{answered: true, took: took, status: status}
	short, cancel := context.WithTimeout(ctx, standingTimeout)
	defer cancel()
	if s, err := w.client.standing(short, n); err == nil && s.Role == roleWriter {
		p.durable = lsn.LSN(s.DurableLSN)
	}
	return p
}

// The roles, as a node's standing has them.
const (
	roleWriter   = "writer"
	roleFollower = "follower"
)

func (w *Observer) askTarget(ctx context.Context, n Node) Target {
	s, err := w.client.standing(ctx, n)
	if err != nil {
		return Target{Node: n.ID, Error: err.Error()}
	}
	// A disk that hangs under both is no reason to take the role from one to the other.
	if status := w.client.failing(ctx, n); status != 0 {
		return Target{Node: n.ID, Failing: status}
	}
	t := Target{
		Node: n.ID, Answers: true, Writer: s.Role == roleWriter,
		Last:    lsn.Pos{Epoch: lsn.Epoch(s.DurableEpoch), LSN: lsn.LSN(s.DurableLSN)},
		Applied: lsn.LSN(s.AppliedLSN), Streams: s.Connected, Promotable: s.Promotable || s.Role == roleWriter,
		heard: lsn.LSN(s.LeaderDurableLSN),
	}
	if t.Writer {
		t.Last.Epoch = lsn.Epoch(s.Epoch)
	}
	return t
}

// observation is what is known now.
func (w *Observer) observation(s Sight) Observation {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	o := Observation{Record: w.known, RecordAge: now.Sub(w.began), RecordUnchanged: w.unchanged(), Planned: s.Planned}
	if o.RecordError = w.record.last.err; !w.readAt.IsZero() {
		o.RecordAge = now.Sub(w.readAt)
	} else if o.RecordError == nil {
		o.RecordError = errUnread
	}
	o.Target = Target{Node: s.Target.ID, Error: errUnread.Error()}
	if q := w.targets[whom(s.Target.ID, s.Target.URL)]; q != nil && q.answered {
		o.Target = q.last
	}
	// A writer that the record does not name is one that does not know yet.
	r := &o.Record
	o.Target.Writer = o.Target.Writer && r.Holder == o.Target.Node && r.Confirmed() && !r.Released
	o.Migration = w.migrate.last
	o.Writer = w.seenWriter(w.holder(s.Nodes), now)
	if r.Holder != o.Target.Node {
		o.Writer.Durable = max(o.Writer.Durable, o.Target.heard)
	}
	return o
}

// seenWriter is what is known of the node that the record names, with the lock held: the
// record may have changed since somebody was asked, and then that was another one.
func (w *Observer) seenWriter(n Node, now time.Time) Writer {
	out, of := Writer{Durable: w.durable}, whom(n.ID, n.OpsURL)
	if w.process.of == of {
		out.Stopped = w.process.last.was(w.known)
	}
	if w.pulse.of != of {
		out.Silent = 1 // nobody has asked it yet
		return out
	}
	out.Error, out.Took, out.Status = w.pulse.last.failed, w.pulse.last.took, w.pulse.last.status
	switch {
	case !w.silent.IsZero():
		out.Silent = max(1, now.Sub(w.silent))
	case !w.pulse.answered: // asked, and nothing came of it yet
		out.Silent = max(1, now.Sub(w.pulse.sent))
	}
	return out
}
