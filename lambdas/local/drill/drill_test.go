package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"originchain/scripts/call"
	"originchain/shared/api"
)

// instance answers as an endpoint does.
type instance struct {
	mu    sync.Mutex
	rows  []string
	epoch int
	// down answers that nothing was written, with a code, or hangs up with "".
	down *string
	// forget loses an acknowledged row.
	forget bool
}

func (i *instance) change(f func(*instance)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f(i)
}

func (i *instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	w.Header().Set(api.HeaderEpoch, fmt.Sprint(i.epoch))
	w.Header().Set(api.HeaderLSN, fmt.Sprint(len(i.rows)))
	switch {
	case strings.HasSuffix(r.URL.Path, "/schemas"):
		w.WriteHeader(http.StatusCreated)
	case strings.HasSuffix(r.URL.Path, "/sql"):
		rows := make([]map[string]string, 0, len(i.rows))
		for _, id := range i.rows {
			rows = append(rows, map[string]string{"id": id})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "select", "columns": []string{"id"}, "rows": rows})
	case i.down != nil && *i.down == "":
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"error":"server_error","message":"x","outcome":"unknown"}`))
	case i.down != nil:
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintf(w, `{"error":%q,"message":"x"}`, *i.down)
	default:
		var row struct {
			ID string `json:"id"`
		}
		_ = json.NewDecoder(r.Body).Decode(&row)
		if r.Header.Get(api.HeaderIdempotencyKey) != row.ID {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if i.forget {
			i.forget = false
		} else {
			i.rows = append(i.rows, row.ID)
		}
		_, _ = w.Write([]byte(`{}`))
	}
}

func drilled(t *testing.T, i *instance, forget bool) (Report, error) {
	t.Helper()
	return besides(t, i, forget, nil)
}

// besides has a client more, that goes to another server.
func besides(t *testing.T, i *instance, forget bool, beside *call.Client) (Report, error) {
	t.Helper()
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	undone, watched := false, make(chan struct{})
	r, err := Run(t.Context(), Plan{
		Load:  Load{Client: &call.Client{URL: server.URL}, Tenant: "T", Name: "x", Writers: 3, Beside: beside},
		Fault: "nothing", Epoch: 1, Before: 30 * time.Millisecond, After: 30 * time.Millisecond, Say: t.Logf,
		Do: func(ctx context.Context) (time.Time, error) {
			at := time.Now()
			refused, unknown := "fenced", ""
			i.change(func(i *instance) { i.down = &refused })
			if err := idle(ctx, 60*time.Millisecond); err != nil {
				return at, err
			}
			i.change(func(i *instance) { i.down = &unknown })
			go func() {
				_ = idle(ctx, 60*time.Millisecond)
				i.change(func(i *instance) { i.down, i.epoch, i.forget = nil, 2, forget })
			}()
			return at, nil
		},
		Undo: func(context.Context) error {
			select { // whoever is back before the load ends is seen
			case <-watched:
			case <-time.After(10 * time.Second):
				t.Error("nobody looks for the old writer while the load runs")
			}
			undone = true
			return nil
		},
		Rejoined: func(context.Context) error { close(watched); return nil },
		Report:   func(context.Context) (json.RawMessage, error) { return json.RawMessage(`{"verdict":"promote"}`), nil },
	})
	if !undone {
		t.Error("the fault was not ended")
	}
	return r, err
}

func TestADrillKeepsAccount(t *testing.T) {
	i := &instance{epoch: 1}
	r, err := drilled(t, i, false)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != Passed || r.EpochAfter != 2 || r.FirstAck <= 0 || r.Pause < r.FirstAck/2 || len(r.Lost) > 0 {
		t.Errorf("%+v", r)
	}
	if r.Rejoined <= 0 {
		t.Errorf("the old writer was back %v s after the first ack", r.Rejoined)
	}
	if r.Failed["fenced"] == 0 || r.Unknown == 0 || r.Acked != len(i.rows) || string(r.Failover) == "" {
		t.Errorf("%+v, %d rows", r, len(i.rows))
	}
}

func TestADrillFindsWhatWasLost(t *testing.T) {
	r, err := drilled(t, &instance{epoch: 1}, true)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != Failed || len(r.Lost) != 1 || !strings.Contains(r.Lost[0], "epoch 2") {
		t.Errorf("%+v", r)
	}
}

// A client that the old writer answers is counted apart, and what it was acknowledged has
// to be there like all else.
func TestAClientBeside(t *testing.T) {
	i := &instance{epoch: 1}
	for _, c := range []struct {
		server http.Handler
		want   string
	}{{i, Passed}, {&instance{epoch: 1}, Failed}} {
		own := httptest.NewServer(c.server)
		r, err := besides(t, i, false, &call.Client{URL: own.URL})
		own.Close()
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != c.want || r.Beside == nil || r.Beside.Acked == 0 || r.Acked == 0 || (len(r.Lost) > 0) != (c.want == Failed) {
			t.Errorf("%s, %+v, %d lost", r.Verdict, r.Beside, len(r.Lost))
		}
		for _, lost := range r.Lost {
			if !strings.HasPrefix(lost, "x-beside-") {
				t.Errorf("lost %s", lost)
			}
		}
		i.change(func(i *instance) { i.epoch, i.rows = 1, nil })
	}
}

// Of an ack, the epoch and the moment count.
func TestFirst(t *testing.T) {
	a, now := newAccount(), time.Now()
	for _, ack := range []Ack{{"old", now.Add(-1), 2, 1}, {"of the old epoch", now.Add(1), 1, 2}, {"the one", now.Add(3 * time.Second), 2, 3}, {"later", now.Add(4 * time.Second), 2, 4}} {
		a.acked(ack)
	}
	got, err := a.first(t.Context(), now, 1)
	if err != nil || got.ID != "the one" {
		t.Errorf("%+v, %v", got, err)
	}
	for to, want := range map[time.Duration]time.Duration{5 * time.Second: 3 * time.Second, 9 * time.Second: 5 * time.Second} {
		if p := a.pause(now, now.Add(to)); p.Round(time.Second) != want {
			t.Errorf("the longest pause within %s is %s", to, p)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.first(ctx, now, 2); err == nil {
		t.Error("an ack of an epoch that never was")
	}
}
