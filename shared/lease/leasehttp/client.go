package leasehttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"originchain/shared/lease"
)

// ErrURL is in the chain of errors about the URL of a store.
var ErrURL = errors.New("not the URL of a lease over HTTP")

// Config says which record of which control plane.
type Config struct {
	// Base is scheme and host:port; Name the lease's.
	Base, Name string
	// TokenFile has the control plane's token. It is read for each request, so that
	// a token can be replaced.
	TokenFile string
}

// Parse reads http://host:port/v1/leases/<name>?token-file=/path
func Parse(u *url.URL) (Config, error) {
	query, err := url.ParseQuery(u.RawQuery)
	c := Config{Base: u.Scheme + "://" + u.Host, Name: strings.TrimPrefix(u.Path, pathPrefix), TokenFile: query.Get("token-file")}
	switch {
	case err != nil, len(query) != 1, len(query["token-file"]) != 1, u.Host == "", u.User != nil, u.Fragment != "",
		u.Scheme != "http" && u.Scheme != "https", !strings.HasPrefix(u.Path, pathPrefix), !names.MatchString(c.Name):
		return Config{}, fmt.Errorf("%w: it is http://host:port%s<name>?token-file=/absolute/path", ErrURL, pathPrefix)
	case !filepath.IsAbs(c.TokenFile):
		return Config{}, fmt.Errorf("%w: its token-file is no absolute path", ErrURL)
	}
	return c, nil
}

// Store is a lease.Store that asks a Server.
type Store struct {
	config Config
	client *http.Client
}

var _ lease.Store = (*Store)(nil)

// New returns the store; it sends no request. transport is nil for the usual one.
func New(c Config, transport http.RoundTripper) *Store {
	return &Store{config: c, client: &http.Client{Transport: transport, Timeout: answerTimeout,
		// The token goes to the control plane alone, and a write that is sent on could come
		// back as the answer to a read.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// String is the record's address.
func (s *Store) String() string { return s.config.Base + pathPrefix + s.config.Name }

// Load implements lease.Store.
func (s *Store) Load(ctx context.Context) (lease.Record, bool, error) {
	status, body, err := s.do(ctx, http.MethodGet, nil, nil)
	switch {
	case err != nil:
		return lease.Record{}, false, err
	case status == http.StatusNotFound:
		return lease.Record{}, false, nil
	case status != http.StatusOK:
		return lease.Record{}, false, s.refused(status, body)
	}
	r, err := lease.Decode(body)
	if err != nil {
		return lease.Record{}, false, fmt.Errorf("the lease record at %s: %w", s, err)
	}
	return r, true, nil
}

// CompareAndSet implements lease.Store.
func (s *Store) CompareAndSet(ctx context.Context, expect uint64, next lease.Record) (lease.Record, error) {
	if err := ctx.Err(); err != nil {
		return lease.Record{}, err
	}
	next, err := lease.Successor(expect, next)
	if err != nil {
		return lease.Record{}, err
	}
	text, err := next.Encode()
	if err != nil {
		return lease.Record{}, err
	}
	header := http.Header{"If-Match": {`"` + strconv.FormatUint(expect, 10) + `"`}, "Content-Type": {"application/json"}}
	if expect == 0 {
		header.Del("If-Match")
		header.Set("If-None-Match", "*")
	}
	status, body, err := s.do(ctx, http.MethodPut, header, text)
	var unsent *unsentError
	switch {
	case errors.As(err, &unsent):
		return lease.Record{}, err
	case err != nil:
		return lease.Record{}, &lease.OutcomeUnknownError{Err: err}
	case status == http.StatusPreconditionFailed:
		return lease.Record{}, s.conflict(expect, body)
	case status == http.StatusBadRequest, status == http.StatusUnauthorized, status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return lease.Record{}, s.refused(status, body)
	case status != http.StatusOK:
		return lease.Record{}, &lease.OutcomeUnknownError{Err: s.refused(status, body)}
	}
	stored, err := lease.Decode(body)
	if err != nil {
		return lease.Record{}, &lease.OutcomeUnknownError{Err: fmt.Errorf("the answer of %s: %w", s, err)}
	}
	return stored, nil
}

func (s *Store) conflict(expect uint64, body []byte) error {
	if len(body) == 0 {
		return &lease.ConflictError{Expected: expect}
	}
	found, err := lease.Decode(body)
	if err != nil {
		return fmt.Errorf("the lease record at %s is not at version %d, and what it is cannot be read: %w", s, expect, err)
	}
	return &lease.ConflictError{Expected: expect, Found: found, Exists: true}
}

func (s *Store) refused(status int, body []byte) error {
	return fmt.Errorf("%s answered %d: %s", s, status, bytes.TrimSpace(body))
}

// unsentError is of a request that was not sent.
type unsentError struct{ error }

// Unwrap gives the cause.
func (e *unsentError) Unwrap() error { return e.error }

// do sends one request. net/http repeats none that has a body or may have arrived.
func (s *Store) do(ctx context.Context, method string, header http.Header, body []byte) (status int, answer []byte, err error) {
	token, err := os.ReadFile(s.config.TokenFile)
	if err != nil {
		return 0, nil, &unsentError{fmt.Errorf("read the control plane's token: %w", err)}
	}
	req, err := http.NewRequestWithContext(ctx, method, s.String(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, &unsentError{err}
	}
	req.GetBody = nil
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	res, err := s.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	answer, err = io.ReadAll(io.LimitReader(res.Body, lease.MaxRecordBytes+1))
	if len(answer) > lease.MaxRecordBytes {
		err = fmt.Errorf("%s answered with more than %d bytes", s, lease.MaxRecordBytes)
	}
	return res.StatusCode, answer, err
}
