// Package leaseopen opens the record of who writes from its URL, of whatever scheme:
// file:// for processes of one machine, http:// for a control plane that serves it,
// dynamodb:// on AWS.
package leaseopen

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/aws/ddblease"
	"originchain/shared/lease"
	"originchain/shared/lease/leasehttp"
)

// ErrURL is in the chain of errors about a URL that names no record.
var ErrURL = errors.New("it is file:///absolute/path, http://host:port/v1/leases/<name>?token-file=/absolute/path, or dynamodb://table/<name>?region=<region>")

// Check says what is wrong with a URL. It opens nothing.
func Check(raw string) error {
	_, err := parse(raw)
	return err
}

// Open opens the record of a URL; "" is none, nil. Where it is remote, nothing is sent.
func Open(ctx context.Context, fs vfs.FS, raw string) (lease.Store, error) {
	if raw == "" {
		return nil, nil
	}
	open, err := parse(raw)
	if err != nil {
		return nil, err
	}
	s, err := open(ctx, fs)
	if err != nil {
		return nil, fmt.Errorf("open the record of who writes: %w", err)
	}
	return s, nil
}

func parse(raw string) (func(context.Context, vfs.FS) (lease.Store, error), error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, ErrURL // which repeats nothing: a password may be in it
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || !filepath.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != "" {
			return nil, ErrURL
		}
		return func(_ context.Context, fs vfs.FS) (lease.Store, error) {
			return lease.OpenFile(fs, filepath.Clean(u.Path))
		}, nil
	case "http", "https":
		c, err := leasehttp.Parse(u)
		if err != nil {
			return nil, err
		}
		return func(context.Context, vfs.FS) (lease.Store, error) { return leasehttp.New(c, nil), nil }, nil
	case "dynamodb":
		c, err := ddblease.Parse(u)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, _ vfs.FS) (lease.Store, error) { return ddblease.New(ctx, c) }, nil
	}
	return nil, fmt.Errorf("the scheme %q is not known; %w", u.Scheme, ErrURL)
}
