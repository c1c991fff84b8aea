package httpx

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/tenant"
)

func TestBodyLimitAtTheBoundary(t *testing.T) {
	size := int64(0)
	r := newRig(t, Config{}, newRoute("POST", "/v1/any", Tenant, func(c *Call) error {
		b, err := c.Body()
		size = int64(len(b))
		if err != nil {
			return err
		}
		return ok(c)
	}))
	body := bytes.Repeat([]byte("x"), MaxBodyBytes+1)
	for _, c := range []struct {
		n       int
		chunked bool
		status  int
	}{
		{0, false, 200}, {1, false, 200}, {firstBodyBytes - 1, false, 200}, {firstBodyBytes, false, 200}, {firstBodyBytes + 1, true, 200},
		{MaxBodyBytes, false, 200}, {MaxBodyBytes, true, 200}, {MaxBodyBytes + 1, false, 413}, {MaxBodyBytes + 1, true, 413},
	} {
		var reader io.Reader = bytes.NewReader(body[:c.n])
		if c.chunked {
			reader = io.MultiReader(reader) // hides the length
		}
		size = -1
		w := r.do("POST", "/v1/any", tenantToken, reader)
		if w.Code != c.status || (c.status == 200 && size != int64(c.n)) {
			t.Errorf("%d bytes, chunked %v: status %d, read %d", c.n, c.chunked, w.Code, size)
		}
		if c.status == 413 {
			envelope(t, w, 413, "body_too_large")
			if !c.chunked && size != -1 {
				t.Error("a body that announces too much reached the handler")
			}
		}
	}
	if got := r.bodyBytes.Load(); got != 0 {
		t.Errorf("%d bytes of the body budget are still held", got)
	}
}

func TestBodyLimitOfTheRoute(t *testing.T) {
	small := newRoute("POST", "/small", Public, echo)
	small.MaxBody = 10
	stream := newRoute("POST", "/stream", Public, func(c *Call) error {
		n, err := io.Copy(io.Discard, c.Stream())
		if err != nil {
			return err
		}
		return c.JSON(200, n)
	})
	stream.Streaming = true
	r := newRig(t, Config{}, small, stream)
	if w := r.do("POST", "/small", "", strings.NewReader("0123456789")); w.Code != 200 {
		t.Errorf("at the limit: %d", w.Code)
	}
	e := envelope(t, r.do("POST", "/small", "", strings.NewReader("0123456789x")), 413, "body_too_large")
	if e["limit_bytes"] != 10.0 {
		t.Errorf("%v", e)
	}
	big := bytes.NewReader(make([]byte, MaxBodyBytes+1))
	if w := r.do("POST", "/stream", "", big); w.Code != 200 || strings.TrimSpace(w.Body.String()) != "8388609" {
		t.Errorf("a streaming route is bounded: %d %s", w.Code, w.Body)
	}
}

func TestBodiesTogetherAreBounded(t *testing.T) {
	r := newRig(t, Config{BodyMemoryBytes: 1 << 20}, newRoute("POST", "/a", Public, echo))
	if w := r.do("POST", "/a", "", bytes.NewReader(make([]byte, 512<<10))); w.Code != 200 {
		t.Errorf("within the budget: %d %s", w.Code, w.Body)
	}
	w := r.do("POST", "/a", "", bytes.NewReader(make([]byte, 2<<20)))
	if e := envelope(t, w, 503, "overloaded"); e["retry"] != true || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%v %v", e, w.Header())
	}
	if got := r.bodyBytes.Load(); got != 0 {
		t.Errorf("%d bytes are still held", got)
	}
}

type cut struct{ err error }

func (c cut) Read([]byte) (int, error) { return 0, c.err }

func TestABodyThatDoesNotArrive(t *testing.T) {
	r := newRig(t, Config{}, newRoute("POST", "/a", Public, echo))
	envelope(t, r.do("POST", "/a", "", cut{io.ErrUnexpectedEOF}), 400, "validation_failed")
}

func TestRateLimit(t *testing.T) {
	r := newRig(t, Config{}, newRoute("GET", "/v1/any", Tenant, ok), newRoute("GET", "/health", Public, ok))
	for range 50 {
		if w := r.do("GET", "/v1/any", tenantToken, nil); w.Code != 200 {
			t.Fatalf("without a tier: %d", w.Code)
		}
	}
	r.auth.tier = &tenant.Tier{Slug: "tiny", Limits: tenant.Limits{RequestsPerSecond: 1, Burst: 2}}
	last := 200
	var w *httptest.ResponseRecorder
	for range 4 { // within a second three pass at most, however slow the machine is
		w = r.do("GET", "/v1/any", tenantToken, nil)
		last = w.Code
	}
	if last != 429 {
		t.Fatalf("over the rate: %d", last)
	}
	e := envelope(t, w, 429, "rate_limited")
	if e["retry_after_seconds"] != 1.0 || e["retry"] != true || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%v %v", e, w.Header())
	}
	if r.metric(t, "oc_rate_limit_rejections_total") < 1 {
		t.Error("the rejection is not counted")
	}
	if w := r.do("GET", "/health", "", nil); w.Code != 200 {
		t.Errorf("/health is limited: %d", w.Code)
	}
}

func TestLimiterTakesUpANewTier(t *testing.T) {
	l := newLimiter()
	at := time.Unix(0, 0)
	id := tenant.Identity{Tenant: owner, Tier: &tenant.Tier{Limits: tenant.Limits{RequestsPerSecond: 1, Burst: 1}}}
	if err := l.allow(id, at); err != nil {
		t.Fatal(err)
	}
	if f := fault.From(l.allow(id, at)); f == nil || f.RetryAfter != time.Second {
		t.Errorf("%v", f)
	}
	if err := l.allow(id, at.Add(time.Second)); err != nil {
		t.Errorf("a refused request was charged: %v", err)
	}
	other := id
	other.Tenant = ulid.Make()
	if err := l.allow(other, at.Add(time.Second)); err != nil {
		t.Errorf("another tenant shares the bucket: %v", err)
	}
	id.Tier = &tenant.Tier{Limits: tenant.Limits{RequestsPerSecond: 10, Burst: 5}}
	for i := range 5 {
		if err := l.allow(id, at.Add(time.Second)); err != nil {
			t.Errorf("request %d of the new tier: %v", i, err)
		}
	}
	if len(l.tenants) != 2 {
		t.Errorf("%d buckets", len(l.tenants))
	}
}

func TestInFlightLimitLeavesHealthAlone(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	r := newRig(t, Config{MaxInFlight: 1}, newRoute("GET", "/health", Public, ok), newRoute("GET", "/v1/any", Tenant, ok),
		newRoute("GET", "/v1/slow", Tenant, func(c *Call) error {
			close(entered)
			<-leave
			return ok(c)
		}))
	var wg sync.WaitGroup
	wg.Go(func() { r.do("GET", "/v1/slow", tenantToken, nil) })
	<-entered
	envelope(t, r.do("GET", "/v1/any", tenantToken, nil), 503, "overloaded")
	if w := r.do("GET", "/health", "", nil); w.Code != 200 {
		t.Errorf("/health: %d", w.Code)
	}
	if got := r.metric(t, "oc_requests_in_flight"); got != 1 {
		t.Errorf("in flight: %v", got)
	}
	close(leave)
	wg.Wait()
	if w := r.do("GET", "/v1/any", tenantToken, nil); w.Code != 200 {
		t.Errorf("after the slow one: %d", w.Code)
	}
	if got := r.metric(t, "oc_requests_in_flight"); got != 0 {
		t.Errorf("in flight: %v", got)
	}
}

func BenchmarkSmallRequest(b *testing.B) {
	answer := []byte(`{"ok":true}`)
	body := `{"id":1,"name":"x"}`
	run := func(b *testing.B, h http.Handler, headers ...string) {
		req := httptest.NewRequest("POST", "/v1/tenants/"+owner.String()+"/rows/shop.orders", nil)
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		req.ContentLength = int64(len(body))
		w := &discard{header: http.Header{}}
		b.ReportAllocs()
		for b.Loop() {
			clear(w.header)
			req.Body = io.NopCloser(strings.NewReader(body))
			h.ServeHTTP(w, req)
		}
	}
	b.Run("bare", func(b *testing.B) {
		mux := http.NewServeMux()
		mux.HandleFunc("POST /v1/tenants/{t}/rows/{schema}", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(answer)
		})
		run(b, mux)
	})
	b.Run("full", func(b *testing.B) {
		rig := newRig(b, Config{}, newRoute("POST", "/v1/tenants/{t}/rows/{schema}", Tenant, func(c *Call) error {
			if _, err := c.Body(); err != nil {
				return err
			}
			c.SetPosition(lsn.Pos{Epoch: 1, LSN: 2})
			return c.Send(200, api.ContentTypeJSON, answer)
		}))
		rig.auth.tier = &tenant.Tier{Limits: tenant.Limits{RequestsPerSecond: 1e9, Burst: 1e9}}
		run(b, rig, "Authorization", "Bearer "+tenantToken)
	})
}

type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
