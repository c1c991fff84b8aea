package failover

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"originchain/shared/api"
	"originchain/shared/fault"
)

// maxAnswerBytes bounds an answer of a node.
const maxAnswerBytes = 1 << 20

// client calls nodes. It repeats nothing, and each call is bounded by its context.
type client struct {
	http  *http.Client
	token string
}

// answerError is an answer that is not the one that was asked for: the node is there.
type answerError struct {
	Status  int
	Code    string
	Message string
	// Retry and Outcome are the envelope's.
	Retry   bool
	Outcome string
}

// Error implements error.
func (e *answerError) Error() string {
	return fmt.Sprintf("it answers %d %s: %s", e.Status, e.Code, e.Message)
}

// refused says that a node has answered, and not with what was asked for.
func refused(err error) bool {
	var a *answerError
	return errors.As(err, &a) && a.Status < 500
}

// again503 says that a node has answered that it cannot say now, and will.
func again503(err error) bool {
	var a *answerError
	return errors.As(err, &a) && a.Status == http.StatusServiceUnavailable && a.Retry
}

// stays says that a writer has answered that it keeps the record: it has not tried to give
// it away, or knows that it was not given. That it gives it away for somebody else (a
// conflict to be tried again), or does not know, says nothing of the kind.
func stays(err error) bool {
	var a *answerError
	if !errors.As(err, &a) || a.Outcome != "" {
		return false
	}
	return a.Status < 500 && (a.Status != http.StatusConflict || !a.Retry) || a.Status == http.StatusServiceUnavailable && a.Code == string(fault.NotReady.Wire())
}

// do sends a request and decodes a JSON answer, whatever its status, into out.
func (c *client) do(ctx context.Context, method, url string, in, out any) (status int, err error) {
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return 0, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	if c.token != "" && strings.HasPrefix(req.URL.Path, "/v1/") { // what needs none is shown none
		req.Header.Set(api.HeaderAuthorization, "Bearer "+c.token)
	}
	if in != nil {
		req.Header.Set("Content-Type", api.ContentTypeJSON)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return 0, fmt.Errorf("read the answer: %w", err)
	}
	if json.Unmarshal(text, out) != nil {
		return resp.StatusCode, &answerError{Status: resp.StatusCode, Message: fmt.Sprintf("%.200q is no JSON", text)}
	}
	return resp.StatusCode, nil
}

// call is do for a route that answers with out or with the error envelope.
func (c *client) call(ctx context.Context, method, url string, in, out any) error {
	var raw json.RawMessage
	status, err := c.do(ctx, method, url, in, &raw)
	switch {
	case err != nil:
		return err
	case status >= 200 && status < 300:
		return json.Unmarshal(raw, out)
	}
	var e struct {
		api.Error
		Outcome string `json:"outcome"`
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return &answerError{Status: status, Message: fmt.Sprintf("%.200q", raw)}
	}
	return &answerError{Status: status, Code: e.Error.Error, Message: e.Message, Retry: e.Retry, Outcome: e.Outcome}
}

// health says what a node answers to /health, and how long that took.
func (c *client) health(ctx context.Context, n Node) (h api.Health, status int, took time.Duration, err error) {
	began := time.Now()
	status, err = c.do(ctx, http.MethodGet, n.OpsURL+"/health", nil, &h)
	return h, status, time.Since(began), err
}

// failing is what a node answers to /health that says itself that its log takes no writes, be
// it that it has failed or that its disk hangs; 0 for any other, and for one that says nothing.
func (c *client) failing(ctx context.Context, n Node) int {
	if _, status, _, _ := c.health(ctx, n); status >= http.StatusInternalServerError {
		return status
	}
	return 0
}

// failingAfter is failing of a node that has answered another question before, be it by an error:
// one that did not, or is another node, is not asked.
func (c *client) failingAfter(ctx context.Context, n Node, err error) int {
	var no *answerError
	if err != nil && !errors.As(err, &no) {
		return 0
	}
	short, cancel := context.WithTimeout(ctx, standingTimeout)
	defer cancel()
	return c.failing(short, n)
}

// ready says whether a node is; why not is in the error.
func (c *client) ready(ctx context.Context, n Node) error {
	var out api.Ready
	status, err := c.do(ctx, http.MethodGet, n.OpsURL+"/ready", nil, &out)
	if err != nil || status == http.StatusOK {
		return err
	}
	var failing error
	for name, check := range out.Checks {
		if !check.OK && !check.Degraded {
			failing = errors.Join(failing, fmt.Errorf("%s: %s", name, check.Detail))
		}
	}
	return fmt.Errorf("/ready is %d: %w", status, failing)
}

func (c *client) standing(ctx context.Context, n Node) (out api.Replication, err error) {
	err = c.call(ctx, http.MethodGet, n.URL+"/v1/admin/replication", nil, &out)
	if err == nil && out.Node != n.ID {
		err = fmt.Errorf("at %s answers %s and not %s: the registry is wrong, or the node has another's address", n.URL, out.Node, n.ID)
	}
	return out, err
}

func (c *client) promote(ctx context.Context, n Node, epoch uint64) (out api.Promoted, err error) {
	err = c.call(ctx, http.MethodPost, n.URL+"/v1/admin/promote", api.PromoteRequest{Epoch: epoch}, &out)
	return out, err
}

func (c *client) handover(ctx context.Context, from, to Node) (out api.Handover, err error) {
	err = c.call(ctx, http.MethodPost, from.URL+"/v1/admin/handover",
		api.HandoverRequest{Node: to.ID, URL: to.URL, ReplicationAddress: to.ReplicationAddress}, &out)
	return out, err
}
