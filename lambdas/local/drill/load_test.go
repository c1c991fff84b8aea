package drill

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"originchain/scripts/call"
	"originchain/shared/api"
)

// endpoint answers each request after a time, or not at all.
type endpoint struct {
	after time.Duration
	never bool
}

func (e endpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	if e.never {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	time.Sleep(e.after)
	place := http.Header{}
	place.Set(api.HeaderEpoch, "1")
	place.Set(api.HeaderLSN, "1")
	return &http.Response{StatusCode: http.StatusCreated, Header: place, Body: io.NopCloser(strings.NewReader("{}"))}, nil
}

// loads is what became of the writes of one writer in a second.
func loads(t *testing.T, l Load, e endpoint) (r Report) {
	t.Helper()
	l.Client, l.Writers = &call.Client{URL: "http://endpoint", HTTP: &http.Client{Transport: e}}, 1
	account := newAccount()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second-time.Millisecond)
	defer cancel()
	if err := l.run(ctx, account, nil); err != nil {
		t.Fatal(err)
	}
	r.Acked, r.Unknown, r.Failed = account.counts()
	return r
}

// A writer that pauses after an ack writes as many rows as there are pauses, and one that
// gives up asks again in time. A write that is under way when the load ends is counted.
func TestAWritersPaceAndPatience(t *testing.T) {
	for name, c := range map[string]struct {
		load           Load
		endpoint       endpoint
		acked, unknown int
	}{
		"no pause":     {Load{}, endpoint{after: 10 * time.Millisecond}, 100, 0},
		"a pause":      {Load{Pace: 90 * time.Millisecond}, endpoint{after: 10 * time.Millisecond}, 10, 0},
		"no patience":  {Load{Patience: 230 * time.Millisecond}, endpoint{never: true}, 0, 4},
		"the endpoint": {Load{}, endpoint{never: true}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if r := loads(t, c.load, c.endpoint); r.Acked != c.acked || r.Unknown != c.unknown || len(r.Failed) > 0 {
					t.Errorf("%d acknowledged, %d unknown, %v refused", r.Acked, r.Unknown, r.Failed)
				}
			})
		})
	}
}
