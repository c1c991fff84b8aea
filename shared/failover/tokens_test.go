package failover

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
)

// A node that refuses all is asked so many times, and one that was shown no token is shown
// none.
func TestTokensAreBounded(t *testing.T) {
	var shown []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown = append(shown, r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(srv.Close)
	client := AnyToken(&http.Client{Transport: &http.Transport{}}, func(_ context.Context, refused []string) string { return strconv.Itoa(len(refused)) })
	t.Cleanup(client.CloseIdleConnections)
	for token, want := range map[string]int{"": 1, "Bearer 0": maxTokens, "Basic 0": 1} {
		shown = nil
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", token)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized || len(shown) != want || shown[0] != token {
			t.Errorf("%q: %d, shown %q, want %d", token, resp.StatusCode, shown, want)
		}
	}
}
