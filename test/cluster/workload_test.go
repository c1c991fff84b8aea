package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/test/settle"
)

// A workload writes to whoever is the writer, and reads everywhere. Each key is
// written by one client, one write at a time, and a write whose outcome is unknown
// is sent again with its Idempotency-Key until it is acknowledged: so what must be
// there in the end is known exactly.
type workload struct {
	c       *cluster
	seed    uint64
	writers int
	readers int

	mu     sync.Mutex
	acks   []ack
	last   map[string]ack // by counter
	tried  map[string]int64
	faults []error

	stop context.CancelFunc // ends the sending of new writes
	end  context.CancelFunc // gives up on those that are not acknowledged
	done sync.WaitGroup
}

// ack is one acknowledged write.
type ack struct {
	table, pk string
	n         int64 // of a counter
	text      string
	// frame is the LSN of the write's own frame; lsn and epoch are where the answer
	// stands, at or after it.
	frame, lsn, epoch uint64
	degraded          bool
	attempts          int
}

func (a ack) String() string {
	return fmt.Sprintf("%s/%s (n %d, frame %d; answered at LSN %d of epoch %d after %d attempts, degraded %t)", a.table, a.pk, a.n, a.frame, a.lsn, a.epoch, a.attempts, a.degraded)
}

// begin starts the workload.
func (c *cluster) begin(seed uint64, writers, readers int) *workload {
	w := &workload{c: c, seed: seed, writers: writers, readers: readers, last: map[string]ack{}, tried: map[string]int64{}}
	sending, stop := context.WithCancel(c.t.Context())
	trying, end := context.WithCancel(c.t.Context())
	w.stop, w.end = stop, end
	for i := range writers {
		w.done.Go(func() { w.write(sending, trying, i) })
	}
	for i := range readers {
		w.done.Go(func() { w.read(sending, i) })
	}
	return w
}

// finish ends the workload when every write that was begun is acknowledged. It is
// to be called when the faults are healed.
func (w *workload) finish() {
	w.c.t.Helper()
	w.stop()
	timer := time.AfterFunc(settle.Within, w.end)
	w.done.Wait()
	timer.Stop()
	w.end()
	for _, err := range w.faults {
		w.c.t.Error(err)
	}
	if len(w.acks) == 0 {
		w.c.t.Error("no write was acknowledged")
	}
}

func (w *workload) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.faults) < 20 {
		w.faults = append(w.faults, fmt.Errorf(format, args...))
	}
}

// acked is how many writes were acknowledged so far.
func (w *workload) acked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acks)
}

const countersEach = 4

func counter(client, slot int) string { return fmt.Sprintf("c%d-%d", client, slot) }

// write is one client that writes.
func (w *workload) write(sending, trying context.Context, client int) {
	r := rand.New(rand.NewPCG(w.seed, uint64(client)))
	counts := [countersEach]int64{}
	for i := 0; sending.Err() == nil; i++ {
		a := ack{table: writesID, pk: fmt.Sprintf("w%d-%06d", client, i), text: strings.Repeat(strconv.Itoa(r.IntN(1<<30)), 1+r.IntN(100))}
		body := map[string]any{"id": a.pk, "text": a.text}
		if r.IntN(2) == 0 {
			slot := r.IntN(countersEach)
			counts[slot]++
			a = ack{table: countersID, pk: counter(client, slot), n: counts[slot]}
			body = map[string]any{"id": a.pk, "n": a.n}
			w.mu.Lock()
			w.tried[a.pk] = a.n
			w.mu.Unlock()
		}
		if err := w.insist(trying, &a, body, fmt.Sprintf("s%d-c%d-%d", w.seed, client, i)); err != nil {
			w.fault("client %d: %s: %w", client, a, err)
			return
		}
		w.mu.Lock()
		w.acks = append(w.acks, a)
		if a.table == countersID {
			w.last[a.pk] = a
		}
		w.mu.Unlock()
		settle.Pause(sending, time.Duration(r.IntN(20))*time.Millisecond)
	}
}

// insist sends a write until it is acknowledged.
func (w *workload) insist(ctx context.Context, a *ack, row map[string]any, key string) error {
	body, err := json.Marshal(row)
	if err != nil {
		return err
	}
	last := errors.New("not sent")
	for ctx.Err() == nil {
		a.attempts++
		var resp *call.Response
		resp, last = w.c.current.Load().asTenant().Do(ctx, call.Request{
			Method: http.MethodPut, Path: w.c.rowPath(a.table, a.pk), ContentType: api.ContentTypeJSON, Body: body,
			Header: []string{api.HeaderIdempotencyKey, key},
		})
		switch {
		case last != nil:
		case resp.Status == http.StatusOK:
			return a.take(resp)
		case resp.Status == http.StatusServiceUnavailable:
			last = fmt.Errorf("%d %s", resp.Status, resp.Body)
		default:
			return fmt.Errorf("refused: %d %s", resp.Status, resp.Body)
		}
		settle.Pause(ctx, 20*time.Millisecond)
	}
	return errors.Join(ctx.Err(), last)
}

// take reads what an acknowledgement says.
func (a *ack) take(resp *call.Response) (err error) {
	var row api.WrittenRow
	if err := json.Unmarshal(resp.Body, &row); err != nil {
		return err
	}
	a.frame = row.LSN
	if a.lsn, a.epoch, err = position(resp); err != nil {
		return err
	}
	a.degraded = resp.Header.Get(api.HeaderReplication) == api.ReplicationDegraded
	if a.lsn < a.frame {
		return fmt.Errorf("the answer stands at LSN %d, before its own frame", a.lsn)
	}
	return nil
}

func position(resp *call.Response) (lsn, epoch uint64, err error) {
	if lsn, err = strconv.ParseUint(resp.Header.Get(api.HeaderLSN), 10, 64); err != nil {
		return 0, 0, fmt.Errorf("header %s: %w", api.HeaderLSN, err)
	}
	if epoch, err = strconv.ParseUint(resp.Header.Get(api.HeaderEpoch), 10, 64); err != nil {
		return 0, 0, fmt.Errorf("header %s: %w", api.HeaderEpoch, err)
	}
	return lsn, epoch, nil
}

// session is one reader's: what it has seen, and where.
type session struct {
	w          *workload
	r          *rand.Rand
	lsn, epoch uint64
	seen       map[string]int64
}

// read is one client that reads, anywhere: never what is older than it has seen or
// than what was acknowledged when it asked.
func (w *workload) read(ctx context.Context, reader int) {
	s := &session{w: w, r: rand.New(rand.NewPCG(w.seed, 1<<32+uint64(reader))), seen: map[string]int64{}}
	for ctx.Err() == nil {
		n := w.c.nodes[s.r.IntN(len(w.c.nodes))]
		if err := s.look(ctx, n, counter(s.r.IntN(w.writers), s.r.IntN(countersEach))); err != nil {
			w.fault("reader %d on %s: %w", reader, n.name, err)
			return
		}
		settle.Pause(ctx, time.Duration(s.r.IntN(20))*time.Millisecond)
	}
}

// look reads one counter.
func (s *session) look(ctx context.Context, n *node, pk string) error {
	s.w.mu.Lock()
	known, any := s.w.last[pk]
	s.w.mu.Unlock()
	least := s.seen[pk]
	// Either the reader's own place is asked for, or that of the acknowledgement if
	// that is later.
	if any && known.epoch >= s.epoch && known.lsn >= s.lsn {
		s.lsn, s.epoch, least = known.lsn, known.epoch, max(least, known.n)
	}
	req := call.Request{Method: http.MethodGet, Path: s.w.c.rowPath(countersID, pk)}
	if s.lsn > 0 {
		req.Header = []string{api.HeaderMinLSN, fmt.Sprint(s.lsn), api.HeaderMinEpoch, fmt.Sprint(s.epoch)}
	}
	resp, err := n.asTenant().Do(ctx, req)
	if err != nil {
		return nil // the node is away, which is no answer and no error
	}
	value := int64(0)
	switch resp.Status {
	case http.StatusServiceUnavailable:
		return nil
	case http.StatusNotFound:
	case http.StatusOK:
		var row struct{ N int64 }
		if err := json.Unmarshal(resp.Body, &row); err != nil {
			return err
		}
		value = row.N
	default:
		return fmt.Errorf("%s with LSN %d of epoch %d: %d %s", pk, s.lsn, s.epoch, resp.Status, resp.Body)
	}
	lsn, epoch, err := position(resp)
	if err != nil {
		return err
	}
	s.w.mu.Lock()
	tried := s.w.tried[pk]
	s.w.mu.Unlock()
	if value < least || value > tried || lsn < s.lsn || epoch < s.epoch {
		return fmt.Errorf("%s is %d at LSN %d of epoch %d, which goes back (or was never sent): at least %d was asked for at LSN %d of epoch %d, at most %d was sent",
			pk, value, lsn, epoch, least, s.lsn, s.epoch, tried)
	}
	s.seen[pk], s.lsn, s.epoch = max(least, value), lsn, epoch
	return nil
}
