package awsdrill

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/test/settle"
)

const (
	// clients write rows, one after the other, each with one attempt.
	clients = 4
	// attemptTimeout is how long a client waits for an answer: it asks for the writer's
	// address anew then.
	attemptTimeout = time.Second
)

// load is what clients do that find the writer by its name.
type load struct {
	r    *region
	stop context.CancelFunc
	work sync.WaitGroup

	mu    sync.Mutex
	acked []ack
	// refused are rows of which it was said that they were not written, unknown those that
	// had no answer.
	refused []string
	unknown int
	wrong   error
}

type ack struct {
	id    string
	epoch uint64
	at    time.Time
}

func (r *region) load() *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{r: r, stop: stop}
	r.t.Cleanup(l.end)
	for c := range clients {
		l.work.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.write(fmt.Sprintf("c%d-%06d", c, n))
				settle.Pause(ctx, settle.Every)
			}
		})
	}
	l.reaches(time.Now(), 0)
	return l
}

func (l *load) end() {
	l.stop()
	l.work.Wait()
}

func (l *load) write(id string) {
	body, err := json.Marshal(map[string]string{"id": id})
	if err != nil {
		l.fault(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), attemptTimeout)
	defer cancel()
	resp, err := l.r.client().Do(ctx, call.Request{Method: http.MethodPost, Path: "/v1/tenants/" + l.r.tenant + "/rows/d.rows", ContentType: api.ContentTypeJSON, Body: body, Header: []string{api.HeaderIdempotencyKey, id}})
	l.mu.Lock()
	defer l.mu.Unlock()
	var said struct {
		Outcome string `json:"outcome"`
	}
	switch {
	case err != nil:
		l.unknown++
	case resp.Status/100 == 2:
		epoch, err := strconv.ParseUint(resp.Header.Get(api.HeaderEpoch), 10, 64)
		if err != nil {
			l.wrong = err
		}
		l.acked = append(l.acked, ack{id, epoch, time.Now()})
	case json.Unmarshal(resp.Body, &said) != nil || resp.Status != http.StatusServiceUnavailable && resp.Status != http.StatusMisdirectedRequest && resp.Status != http.StatusConflict:
		l.wrong = fmt.Errorf("%d %s", resp.Status, resp.Body)
	case said.Outcome == "unknown":
		l.unknown++
	default:
		l.refused = append(l.refused, id)
	}
}

func (l *load) fault(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = err
}

// reaches waits until a write was acknowledged after a moment in an epoch above one, and
// returns when the first was.
func (l *load) reaches(after time.Time, above uint64) (first time.Time) {
	l.r.t.Helper()
	settle.Eventually(l.r.t, fmt.Sprintf("a write is acknowledged in an epoch above %d", above), func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.wrong != nil {
			l.r.t.Fatal(l.wrong)
		}
		for _, a := range l.acked {
			if a.at.After(after) && a.epoch > above {
				first = a.at
				return nil
			}
		}
		return fmt.Errorf("%d acknowledged, %d refused, %d unknown", len(l.acked), len(l.refused), l.unknown)
	})
	return first
}

// held checks that what was acknowledged is there, what was refused is not, and that nobody
// was answered otherwise.
func (l *load) held() {
	l.r.t.Helper()
	l.end()
	if l.wrong != nil {
		l.r.t.Error(l.wrong)
	}
	there := map[string]bool{}
	out, err := l.r.client().Select(l.r.t.Context(), l.r.tenant, "SELECT id FROM d.rows")
	l.r.must(err)
	for _, raw := range out.Rows {
		var row struct{ ID string }
		l.r.must(json.Unmarshal(raw, &row))
		there[row.ID] = true
	}
	for _, a := range l.acked {
		if !there[a.id] {
			l.r.t.Errorf("%s was acknowledged in epoch %d and is not there", a.id, a.epoch)
		}
	}
	for _, id := range l.refused {
		if there[id] {
			l.r.t.Errorf("%s was refused and is there", id)
		}
	}
	l.r.t.Logf("%d acknowledged and there, %d refused, %d unknown", len(l.acked), len(l.refused), l.unknown)
}
