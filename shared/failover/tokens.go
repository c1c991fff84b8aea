package failover

import (
	"context"
	"io"
	"net/http"
	"strings"

	"originchain/shared/api"
)

// maxTokens bounds how many tokens are shown for one request.
const maxTokens = 4

// AnyToken has a client of nodes present the other tokens that are known where a node knows
// none of the one it was shown: for a while after a change nodes and those who ask them do
// not all have the same. Each is shown once, to the node that has refused the first. A
// request that was answered 401 has changed nothing, so that it may be sent again.
//
// other is one to try where those are refused that it is given, "" for none. None of them is
// in an error.
func AnyToken(c *http.Client, other func(ctx context.Context, refused []string) string) *http.Client {
	out := *c
	out.Transport = &anyToken{c.Transport, other}
	return &out
}

type anyToken struct {
	nodes http.RoundTripper
	other func(ctx context.Context, refused []string) string
}

const bearer = "Bearer "

// RoundTrip implements http.RoundTripper.
func (t *anyToken) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.nodes.RoundTrip(r)
	token, shown := strings.CutPrefix(r.Header.Get(api.HeaderAuthorization), bearer)
	if !shown || r.Body != nil && r.Body != http.NoBody && r.GetBody == nil {
		return resp, err
	}
	for refused := []string{token}; err == nil && resp.StatusCode == http.StatusUnauthorized && len(refused) < maxTokens; refused = append(refused, token) {
		if token = t.other(r.Context(), refused); token == "" {
			break
		}
		again := r.Clone(r.Context())
		again.Header.Set(api.HeaderAuthorization, bearer+token)
		if r.GetBody != nil {
			if again.Body, err = r.GetBody(); err != nil {
				return resp, nil //nolint:nilerr // the answer that there is
			}
		}
		end(resp)
		resp, err = t.nodes.RoundTrip(again)
	}
	return resp, err
}

// CloseIdleConnections is for http.Client.
func (t *anyToken) CloseIdleConnections() {
	(&http.Client{Transport: t.nodes}).CloseIdleConnections()
}

// end reads what is left of a short answer, so that its connection serves on.
func end(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswerBytes)
	_ = resp.Body.Close()
}
