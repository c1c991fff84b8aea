// Package call is a small client of the HTTP API for the demo, the tests and
// the benchmarks. It has no retries and hides nothing: what the server answered
// is what the caller sees.
package call

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"originchain/shared/api"
)

// maxAnswerBytes bounds an answer that is read into memory.
const maxAnswerBytes = 256 << 20

// Client calls one server with one token.
type Client struct {
	// URL is the base, without a slash at its end.
	URL   string
	Token string
	// HTTP is the transport; nil takes http.DefaultClient.
	HTTP *http.Client
}

// Request is one call. Header has pairs of name and value.
type Request struct {
	Method      string
	Path        string
	ContentType string
	Body        []byte
	Header      []string
}

// Response is an answer, read to its end.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Error is an answer that is not a success.
type Error struct {
	Method, Path string
	Status       int
	Envelope     api.Error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s %s: %d %s: %s (request %s)", e.Method, e.Path, e.Status, e.Envelope.Error, e.Envelope.Message, e.Envelope.RequestID)
}

// Code is the code of an answer that was an *Error; empty for any other error.
func Code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Envelope.Error
	}
	return ""
}

// Do sends a request. An answer of any status is no error.
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, c.URL+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	if c.Token != "" {
		req.Header.Set(api.HeaderAuthorization, "Bearer "+c.Token)
	}
	if r.ContentType != "" {
		req.Header.Set("Content-Type", r.ContentType)
	}
	for i := 0; i+1 < len(r.Header); i += 2 {
		req.Header.Set(r.Header[i], r.Header[i+1])
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s %s: read the answer: %w", r.Method, r.Path, err)
	}
	return &Response{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// Into sends a request and decodes a 2xx answer into out, which may be nil. Any
// other answer is an *Error.
func (c *Client) Into(ctx context.Context, r Request, out any) error {
	resp, err := c.Do(ctx, r)
	if err != nil {
		return err
	}
	if resp.Status < 200 || resp.Status > 299 {
		return resp.fail(r)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(resp.Body, out); err != nil {
		return fmt.Errorf("%s %s: the answer is not what the API promises: %w", r.Method, r.Path, err)
	}
	return nil
}

func (resp *Response) fail(r Request) error {
	e := &Error{Method: r.Method, Path: r.Path, Status: resp.Status}
	if err := json.Unmarshal(resp.Body, &e.Envelope); err != nil {
		return fmt.Errorf("%s %s: %d without an error envelope: %.200q: %w", r.Method, r.Path, resp.Status, resp.Body, err)
	}
	return e
}

// JSON sends in as a JSON body and decodes the answer into out.
func (c *Client) JSON(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return c.Into(ctx, Request{Method: method, Path: path, ContentType: api.ContentTypeJSON, Body: body}, out)
}

// Get decodes the answer of a GET into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.Into(ctx, Request{Method: http.MethodGet, Path: path}, out)
}

// Register sends a manifest.
func (c *Client) Register(ctx context.Context, tenant string, manifest []byte) error {
	return c.Into(ctx, Request{
		Method: http.MethodPost, Path: "/v1/tenants/" + tenant + "/schemas", ContentType: api.ContentTypeText, Body: manifest,
	}, nil)
}

// Select runs a query that answers with rows.
func (c *Client) Select(ctx context.Context, tenant, sql string, params ...any) (*api.SelectResult, error) {
	var out api.SelectResult
	if err := c.sql(ctx, tenant, sql, params, &out); err != nil {
		return nil, err
	}
	if out.Kind != api.KindSelect {
		return nil, fmt.Errorf("the statement answered with kind %q, not rows: %s", out.Kind, sql)
	}
	return &out, nil
}

// Explain returns the plan of a statement that starts with EXPLAIN.
func (c *Client) Explain(ctx context.Context, tenant, sql string, params ...any) (string, error) {
	var out api.ExplainResult
	if err := c.sql(ctx, tenant, sql, params, &out); err != nil {
		return "", err
	}
	return out.Plan, nil
}

func (c *Client) sql(ctx context.Context, tenant, sql string, params []any, out any) error {
	req := api.SQLRequest{SQL: sql}
	if len(params) > 0 {
		p, err := json.Marshal(params)
		if err != nil {
			return err
		}
		req.Params = p
	}
	return c.JSON(ctx, http.MethodPost, "/v1/tenants/"+tenant+"/sql", req, out)
}

// NDJSON encodes rows one to a line.
func NDJSON[T any](rows []T) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for i := range rows {
		if err := enc.Encode(rows[i]); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// Batch sends rows, one JSON object to a line, to a table.
func (c *Client) Batch(ctx context.Context, tenant, schema string, ndjson []byte, header ...string) (*api.Batch, error) {
	var out api.Batch
	err := c.Into(ctx, Request{
		Method: http.MethodPost, Path: "/v1/tenants/" + tenant + "/rows/" + schema + "/_batch",
		ContentType: api.ContentTypeNDJSON, Body: ndjson, Header: header,
	}, &out)
	return &out, err
}
