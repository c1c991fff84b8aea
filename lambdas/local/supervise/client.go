package supervise

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"originchain/shared/failover"
)

// Client is the supervisor of another process of this machine, through its Server.
type Client struct {
	base      string
	tokenFile string
	http      *http.Client
}

var _ Local = (*Client)(nil)

// NewClient asks the server at base, http://ip:port, with the token of a file. transport
// is nil for the usual one. Each call is bounded by its context alone: a stop takes as
// long as its unit allows.
func NewClient(base, tokenFile string, transport http.RoundTripper) *Client {
	return &Client{base: strings.TrimSuffix(base, "/"), tokenFile: tokenFile, http: &http.Client{Transport: transport}}
}

// RemoteError is an answer that says no more than its words.
type RemoteError struct {
	Status  int
	Code    string
	Message string
}

// Error implements error.
func (e *RemoteError) Error() string {
	return fmt.Sprintf("the supervisor answered %d %s: %s", e.Status, e.Code, e.Message)
}

// Is knows the errors of this package that are known by name.
func (e *RemoteError) Is(target error) bool {
	named, ok := sentinels()[e.Code]
	return ok && errors.Is(named, target)
}

// Process implements failover.Control.
func (c *Client) Process(ctx context.Context, n failover.Node) (failover.Process, error) {
	var p running
	err := c.call(ctx, http.MethodGet, n, "", nil, nil, &p)
	return failover.Process(p), err
}

// Stop implements failover.Control.
func (c *Client) Stop(ctx context.Context, n failover.Node) (failover.Process, error) {
	var p running
	err := c.call(ctx, http.MethodPost, n, "/stop", nil, nil, &p)
	return failover.Process(p), err
}

// Start implements failover.Control.
func (c *Client) Start(ctx context.Context, n failover.Node) error {
	return c.call(ctx, http.MethodPost, n, "/start", nil, nil, nil)
}

// Restart implements failover.Control.
func (c *Client) Restart(ctx context.Context, n failover.Node) error {
	return c.call(ctx, http.MethodPost, n, "/restart", nil, nil, nil)
}

// Kill sends a signal to all processes of a node.
func (c *Client) Kill(ctx context.Context, n failover.Node, sig syscall.Signal) error {
	return c.call(ctx, http.MethodPost, n, "/kill", url.Values{"signal": {strconv.Itoa(int(sig))}}, nil, nil)
}

// Unit implements failover.Control.
func (c *Client) Unit(ctx context.Context, n failover.Node) (string, []byte, error) {
	var u unitText
	err := c.call(ctx, http.MethodGet, n, "/unit", nil, nil, &u)
	return u.Name, u.Text, err
}

// Rewrite implements failover.Control.
func (c *Client) Rewrite(ctx context.Context, n failover.Node, text []byte) error {
	return c.call(ctx, http.MethodPut, n, "/unit", nil, text, nil)
}

// call sends one request, and reads its answer into out, which may be nil.
func (c *Client) call(ctx context.Context, method string, n failover.Node, what string, query url.Values, body []byte, out any) error {
	token, err := readToken(c.tokenFile)
	if err != nil {
		return fmt.Errorf("read the supervisor's token: %w", err)
	}
	if query == nil {
		query = url.Values{}
	}
	query.Set("node", n.ID)
	req, err := http.NewRequestWithContext(ctx, method, c.base+pathPrefix+url.PathEscape(n.Machine)+what+"?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.GetBody = nil // a request is sent once; whether to repeat it is the caller's to say
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the supervisor: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes+1))
	if err = errors.Join(err, res.Body.Close()); err == nil && len(answer) > maxAnswerBytes {
		err = fmt.Errorf("the supervisor answered with more than %d bytes", maxAnswerBytes)
	}
	switch {
	case err != nil:
		return err
	case res.StatusCode != http.StatusOK:
		return remote(n, res.StatusCode, answer)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the supervisor's answer: %w", err)
	}
	return nil
}

// remote is the error of an answer, of the type it had.
func remote(n failover.Node, status int, answer []byte) error {
	var p problem
	if err := json.Unmarshal(answer, &p); err != nil {
		return &RemoteError{Status: status, Message: strings.TrimSpace(string(answer))}
	}
	switch p.Code {
	case "unknown_machine":
		return &UnknownMachineError{Machine: n.Machine, File: p.Subject}
	case "wrong_node":
		return &WrongNodeError{Machine: n.Machine, Want: n.ID, Have: p.Subject}
	case "refused_unit":
		return &RefusedUnitError{File: p.Subject, Err: errors.New(p.Message)}
	}
	return &RemoteError{Status: status, Code: p.Code, Message: p.Message}
}
