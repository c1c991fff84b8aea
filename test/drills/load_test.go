package drills

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/test/settle"
)

const (
	// clients write and read, each one request at a time, between rests of up to restFor.
	clients = 6
	restFor = 30 * time.Millisecond
	// registers are rows that all clients write and read.
	registers = 12
)

// load is what clients do at the stable endpoint while something fails. A write whose
// outcome is not known is sent again with its Idempotency-Key until it is acknowledged, so
// that what must be there in the end is known exactly.
type load struct {
	i     *instance
	began time.Time
	// breaks: the clients cannot reach the control plane, or it is killed, so that a
	// request without an answer is no fault.
	breaks atomic.Bool

	mu     sync.Mutex
	acks   []ack
	events []porcupine.Operation
	wrong  []error

	stop context.CancelFunc // ends the sending of new requests
	end  context.CancelFunc // gives up on those that are not acknowledged
	done sync.WaitGroup
}

// ack is one acknowledged write.
type ack struct {
	table, pk, text string
	// frame is the LSN of the write's own frame, epoch the answer's.
	frame, epoch uint64
	degraded     bool
	attempts     int
	sent, at     time.Time // the first attempt, the answer
}

func (a ack) String() string {
	return fmt.Sprintf("%s/%s (frame %d, answered in epoch %d after %d attempts, degraded %t)", a.table, a.pk, a.frame, a.epoch, a.attempts, a.degraded)
}

// access is one request for a register, value what was written, or was read.
type access struct {
	register string
	write    bool
	value    string
}

func (i *instance) begin() *load {
	l := &load{i: i, began: time.Now()}
	sending, stop := context.WithCancel(i.t.Context())
	trying, end := context.WithCancel(i.t.Context())
	l.stop, l.end = stop, end
	r := random(i.t)
	for c := range clients {
		own := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
		l.done.Go(func() { l.client(sending, trying, c, own) })
	}
	l.flow()
	return l
}

// finish ends the load when every write that was begun is acknowledged.
func (l *load) finish() {
	l.i.t.Helper()
	l.stop()
	timer := time.AfterFunc(settle.Within, l.end)
	l.done.Wait()
	timer.Stop()
	l.end()
	for _, err := range l.wrong {
		l.i.t.Error(err)
	}
}

func (l *load) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wrong) < 20 {
		l.wrong = append(l.wrong, fmt.Errorf(format, args...))
	}
}

// broken is what was wrong so far.
func (l *load) broken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.wrong...)
}

// flow waits until some more writes were acknowledged.
func (l *load) flow() {
	l.i.t.Helper()
	const some = 40
	l.flowAfter(time.Now(), some, 0)
}

// flowAfter waits for n acknowledgements of writes that were answered after a moment, in
// an epoch above one.
func (l *load) flowAfter(after time.Time, n int, epoch uint64) {
	l.i.t.Helper()
	settle.Eventually(l.i.t, "writes are acknowledged", func() error {
		if err := l.broken(); err != nil {
			l.i.t.Fatal(err)
		}
		if have := l.ackedAfter(after, epoch); len(have) < n {
			return fmt.Errorf("%d since %s, in an epoch above %d", len(have), time.Since(after), epoch)
		}
		return nil
	})
}

func (l *load) ackedAfter(after time.Time, epoch uint64) (out []ack) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k := len(l.acks) - 1; k >= 0 && l.acks[k].at.After(after); k-- {
		if l.acks[k].epoch > epoch {
			out = append(out, l.acks[k])
		}
	}
	return out
}

// client is one client.
func (l *load) client(sending, trying context.Context, c int, r *rand.Rand) {
	for n := 0; sending.Err() == nil; n++ {
		a := ack{table: rowsID, pk: fmt.Sprintf("w%d-%06d", c, n), text: strconv.FormatUint(r.Uint64(), 36)}
		what := r.IntN(10)
		if what >= 4 {
			a.table, a.pk = registersID, fmt.Sprintf("r%d", r.IntN(registers))
		}
		var err error
		if what >= 7 {
			err = l.read(trying, c, a.pk)
		} else {
			a.text = a.pk + "/" + a.text
			err = l.write(trying, c, n, a)
		}
		if err != nil {
			l.fault("client %d: %w", c, err)
			return
		}
		settle.Pause(sending, time.Duration(r.Int64N(int64(restFor))))
	}
}

// write writes until that is acknowledged.
func (l *load) write(ctx context.Context, c, n int, a ack) error {
	a.sent = time.Now()
	last := errors.New("not sent")
	for ctx.Err() == nil {
		a.attempts++
		var resp *call.Response
		resp, last = l.i.put(ctx, l.i.endpoint(), a.table, a.pk, a.text, fmt.Sprintf("c%d-%d", c, n))
		switch {
		case last != nil:
			if !l.breaks.Load() {
				return fmt.Errorf("%s: %w", a, last)
			}
		case resp.Status == http.StatusOK:
			return l.acked(c, a, resp)
		case resp.Status == http.StatusServiceUnavailable:
			last = fmt.Errorf("%d %s", resp.Status, resp.Body)
		default:
			return fmt.Errorf("%s: %d %s", a, resp.Status, resp.Body)
		}
		settle.Pause(ctx, settle.Every)
	}
	return errors.Join(fmt.Errorf("%s was never acknowledged", a), last)
}

func (l *load) acked(c int, a ack, resp *call.Response) (err error) {
	a.at = time.Now()
	var row api.WrittenRow
	if err := json.Unmarshal(resp.Body, &row); err != nil {
		return err
	}
	if a.epoch, err = strconv.ParseUint(resp.Header.Get(api.HeaderEpoch), 10, 64); err != nil {
		return fmt.Errorf("header %s: %w", api.HeaderEpoch, err)
	}
	a.frame, a.degraded = row.LSN, resp.Header.Get(api.HeaderReplication) == api.ReplicationDegraded
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acks = append(l.acks, a)
	if a.table == registersID {
		l.event(c, a.sent, a.at, access{a.pk, true, a.text})
	}
	return nil
}

// event notes one access. The caller holds mu.
func (l *load) event(c int, from, to time.Time, x access) {
	l.events = append(l.events, porcupine.Operation{ClientId: c, Input: x, Output: x.value, Call: int64(from.Sub(l.began)), Return: int64(to.Sub(l.began))})
}

// read reads a register once. A read without an answer says nothing.
func (l *load) read(ctx context.Context, c int, pk string) error {
	sent := time.Now()
	resp, err := l.i.endpoint().Do(ctx, call.Request{Method: http.MethodGet, Path: l.i.row(registersID, pk)})
	if err != nil {
		if l.breaks.Load() || ctx.Err() != nil {
			return nil
		}
		return err
	}
	var row struct{ Text string }
	switch resp.Status {
	case http.StatusServiceUnavailable:
		return nil
	case http.StatusNotFound:
	case http.StatusOK:
		if err := json.Unmarshal(resp.Body, &row); err != nil {
			return err
		}
	default:
		return fmt.Errorf("read %s: %d %s", pk, resp.Status, resp.Body)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.event(c, sent, time.Now(), access{pk, false, row.Text})
	return nil
}

// registerModel is a set of registers, each of which holds what was written last.
func registerModel() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) (out [][]porcupine.Operation) {
			by := map[string][]porcupine.Operation{}
			for _, o := range history {
				register := o.Input.(access).register
				by[register] = append(by[register], o)
			}
			for _, part := range by {
				out = append(out, part)
			}
			return out
		},
		Init: func() any { return "" },
		Step: func(state, input, output any) (bool, any) {
			x := input.(access)
			if x.write {
				return true, x.value
			}
			return output == state, state
		},
	}
}
