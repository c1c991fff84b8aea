package drill

import (
	"context"
	"encoding/json"
	"errors"
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
	rows  map[string]int
	epoch int
	// down answers that nothing was written, with a code, or hangs up with "".
	down *string
	// forget loses an acknowledged row, garble keeps another number than was acknowledged,
	// and keep one that it says it has not written.
	forget, garble, keep bool
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
		rows := make([]map[string]any, 0, len(i.rows))
		for id, n := range i.rows {
			rows = append(rows, map[string]any{"id": id, "n": n})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "select", "columns": []string{"id", "n"}, "rows": rows})
	case i.down != nil && *i.down == "":
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"error":"server_error","message":"x","outcome":"unknown"}`))
	case i.down != nil:
		if i.keep {
			i.write(r)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintf(w, `{"error":%q,"message":"x"}`, *i.down)
	default:
		if !i.write(r) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = w.Write([]byte(`{}`))
	}
}

// write keeps a row, with mu held.
func (i *instance) write(r *http.Request) bool {
	var row struct {
		ID string `json:"id"`
		N  int    `json:"n"`
	}
	_ = json.NewDecoder(r.Body).Decode(&row)
	if r.Header.Get(api.HeaderIdempotencyKey) != row.ID {
		return false
	}
	switch {
	case i.forget:
		i.forget = false
	case i.garble:
		i.garble = false
		i.rows[row.ID] = row.N + 1
	default:
		i.rows[row.ID] = row.N
	}
	return true
}

func newInstance() *instance { return &instance{epoch: 1, rows: map[string]int{}} }

func drilled(t *testing.T, i *instance, then func(*instance)) (Report, error) {
	t.Helper()
	return besides(t, i, then, nil)
}

// besides has a client more, that goes to another server. then is what becomes of the
// instance with its new epoch; nil: nothing.
func besides(t *testing.T, i *instance, then func(*instance), beside *call.Client) (Report, error) {
	t.Helper()
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	undone, watched := false, make(chan struct{})
	r, err := Run(t.Context(), Plan{
		Load:  Load{Client: &call.Client{URL: server.URL}, Tenant: "T", Name: "x", Writers: 3, Beside: beside},
		Fault: "nothing", Epoch: 1, Before: 30 * time.Millisecond, After: 30 * time.Millisecond, Say: t.Logf,
		Do: func(ctx context.Context) (time.Time, uint64, error) {
			at := time.Now()
			refused, unknown := "fenced", ""
			i.change(func(i *instance) { i.down = &refused })
			if err := idle(ctx, 60*time.Millisecond); err != nil {
				return at, 0, err
			}
			i.change(func(i *instance) { i.down = &unknown })
			go func() {
				_ = idle(ctx, 60*time.Millisecond)
				i.change(func(i *instance) {
					i.down, i.epoch = nil, 2
					if then != nil {
						then(i)
					}
				})
			}()
			return at, 0, nil
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
	i := newInstance()
	r, err := drilled(t, i, nil)
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
	for name, c := range map[string]struct {
		before, then func(*instance)
		lost         string
		phantoms     bool
	}{
		"lost":               {nil, func(i *instance) { i.forget = true }, "epoch 2", false},
		"another":            {nil, func(i *instance) { i.garble = true }, "stands there", false},
		"there all the same": {func(i *instance) { i.keep = true }, nil, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			i := newInstance()
			if c.before != nil {
				c.before(i)
			}
			r, err := drilled(t, i, c.then)
			if err != nil {
				t.Fatal(err)
			}
			if r.Verdict != Failed || (len(r.Lost) == 1) != (c.lost != "") || (len(r.Phantoms) > 0) != c.phantoms {
				t.Errorf("%+v", r)
			}
			if c.lost != "" && !strings.Contains(r.Lost[0], c.lost) {
				t.Errorf("%s", r.Lost[0])
			}
		})
	}
}

// A fault that may have been made is ended, and a drill that does not come to its end says
// what it has found.
func TestADrillThatGoesWrong(t *testing.T) {
	broken := errors.New("nobody answers")
	plan := func(t *testing.T, i *instance) (Plan, *int) {
		server := httptest.NewServer(i)
		t.Cleanup(server.Close)
		undone := new(int)
		return Plan{
			Load:  Load{Client: &call.Client{URL: server.URL}, Tenant: "T", Name: "x", Writers: 2},
			Fault: "stop", Epoch: 1, Before: 10 * time.Millisecond, After: 10 * time.Millisecond, Say: t.Logf,
			Do: func(context.Context) (time.Time, uint64, error) {
				at := time.Now()
				i.change(func(i *instance) { i.epoch = 2 })
				return at, 0, nil
			},
			Undo: func(ctx context.Context) error {
				*undone++
				return ctx.Err()
			},
			Rejoined: func(context.Context) error { return nil },
		}, undone
	}
	t.Run("the fault's answer is lost", func(t *testing.T) {
		i := newInstance()
		p, undone := plan(t, i)
		p.Do = func(context.Context) (time.Time, uint64, error) { return time.Time{}, 0, broken }
		r, err := Run(t.Context(), p)
		if !errors.Is(err, broken) || *undone != 1 || r.Verdict != Failed || r.Acked == 0 || r.Acked != len(i.rows) {
			t.Errorf("%v, undone %d times, %+v", err, *undone, r)
		}
	})
	t.Run("it is interrupted", func(t *testing.T) {
		i := newInstance()
		p, undone := plan(t, i)
		ctx, cancel := context.WithCancel(t.Context())
		p.Do = func(context.Context) (time.Time, uint64, error) { cancel(); return time.Now(), 0, nil }
		r, err := Run(ctx, p)
		if !errors.Is(err, context.Canceled) || *undone != 1 || r.Verdict != Failed || r.Acked == 0 {
			t.Errorf("%v, undone %d times, %+v", err, *undone, r)
		}
	})
	t.Run("the fault goes on", func(t *testing.T) {
		p, _ := plan(t, newInstance())
		p.Undo = func(context.Context) error { return broken }
		if _, err := Run(t.Context(), p); !errors.Is(err, broken) || !strings.Contains(err.Error(), "may go on") {
			t.Errorf("%v", err)
		}
	})
	t.Run("the old writer does not come back", func(t *testing.T) {
		i := newInstance()
		p, undone := plan(t, i)
		p.Rejoined = func(context.Context) error { return broken }
		do := p.Do
		p.Do = func(ctx context.Context) (time.Time, uint64, error) {
			i.change(func(i *instance) { i.forget = true })
			return do(ctx)
		}
		r, err := Run(t.Context(), p)
		if !errors.Is(err, broken) || *undone != 1 || r.Verdict != Failed || len(r.Lost) != 1 {
			t.Errorf("%v, undone %d times, %+v", err, *undone, r)
		}
	})
	t.Run("nothing is acknowledged before", func(t *testing.T) {
		i := newInstance()
		no := "overloaded"
		i.down = &no
		p, undone := plan(t, i)
		p.Do = func(context.Context) (time.Time, uint64, error) {
			t.Error("the fault is made")
			return time.Now(), 0, nil
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, broken)
		defer cancel()
		r, err := Run(ctx, p)
		if !errors.Is(err, broken) || *undone != 0 || r.Verdict != Failed {
			t.Errorf("%v, undone %d times, %+v", err, *undone, r)
		}
	})
	t.Run("the writer that fails is of a later epoch than the acks", func(t *testing.T) {
		i := newInstance()
		p, _ := plan(t, i)
		p.Do = func(context.Context) (time.Time, uint64, error) {
			at := time.Now()
			i.change(func(i *instance) { i.epoch = 2 }) // an ack of the very writer that fails
			time.AfterFunc(50*time.Millisecond, func() { i.change(func(i *instance) { i.epoch = 3 }) })
			return at, 2, nil
		}
		if r, err := Run(t.Context(), p); err != nil || r.EpochBefore != 2 || r.EpochAfter != 3 || r.Verdict != Passed {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("the epoch is a later one", func(t *testing.T) {
		i := newInstance()
		i.epoch = 4
		p, _ := plan(t, i)
		p.Do = func(context.Context) (time.Time, uint64, error) {
			at := time.Now()
			time.AfterFunc(50*time.Millisecond, func() { i.change(func(i *instance) { i.epoch = 5 }) })
			return at, 0, nil
		}
		if r, err := Run(t.Context(), p); err != nil || r.EpochBefore != 4 || r.EpochAfter != 5 || r.Verdict != Passed {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// A client that the old writer answers is counted apart, and what it was acknowledged has
// to be there like all else.
func TestAClientBeside(t *testing.T) {
	i := newInstance()
	for _, c := range []struct {
		server http.Handler
		want   string
	}{{i, Passed}, {newInstance(), Failed}} {
		own := httptest.NewServer(c.server)
		r, err := besides(t, i, nil, &call.Client{URL: own.URL})
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
		i.change(func(i *instance) { i.epoch, i.rows = 1, map[string]int{} })
	}
}

// Of an ack, the epoch and the moment count.
func TestFirst(t *testing.T) {
	a, now := newAccount(), time.Now()
	for _, ack := range []Ack{{"old", 0, now.Add(-1), 2, 1}, {"of the old epoch", 1, now.Add(1), 1, 2}, {"the one", 2, now.Add(3 * time.Second), 2, 3}, {"later", 3, now.Add(4 * time.Second), 2, 4}} {
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
