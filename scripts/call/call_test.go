package call

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"originchain/shared/api"
)

func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return &Client{URL: s.URL, Token: "secret"}
}

// A refusal must come out with code, message and request id, and never pass for an answer.
func TestRefusalIsAnError(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"error":"conflict","message":"somebody was faster","request_id":"r1","retry":true}`)
	})
	err := c.Get(t.Context(), "/v1/x", &struct{}{})
	if Code(err) != "conflict" || !strings.Contains(err.Error(), "somebody was faster") || !strings.Contains(err.Error(), "r1") {
		t.Errorf("%v", err)
	}
	c = serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) })
	if err := c.Get(t.Context(), "/", nil); err == nil || Code(err) != "" || !strings.Contains(err.Error(), "502") {
		t.Errorf("an answer without an envelope: %v", err)
	}
}

func TestRequestsCarryTokenBodyAndHeaders(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		ok := err == nil && string(body) == "{\"a\":1}\n{\"a\":2}\n" && r.Header.Get("Content-Type") == api.ContentTypeNDJSON &&
			r.Header.Get(api.HeaderAuthorization) == "Bearer secret" && r.Header.Get(api.HeaderIdempotencyKey) == "k" && r.URL.Path == "/v1/tenants/T/rows/a.b/_batch"
		if !ok {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, `{"inserted":2,"updated":1,"lsn":9}`)
	})
	lines, err := NDJSON([]map[string]int{{"a": 1}, {"a": 2}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Batch(t.Context(), "T", "a.b", lines, api.HeaderIdempotencyKey, "k")
	if err != nil || *got != (api.Batch{Inserted: 2, Updated: 1, LSN: 9}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSelectWantsRows(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"kind":"update","rows_affected":1}`)
	})
	if _, err := c.Select(t.Context(), "T", "UPDATE x"); err == nil {
		t.Error("an update passed for a select")
	}
}
