// Package registryopen opens a registry from its URL: file:// for processes of one
// machine, dynamodb:// on AWS.
package registryopen

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/aws/ddbregistry"
	"originchain/shared/registry"
)

// ErrURL is in the chain of errors about a URL that names no registry.
var ErrURL = errors.New("it is file:///absolute/path or dynamodb://table/<name>?region=<region>")

// Open opens the registry of a URL. Where it is remote, nothing is sent.
func Open(ctx context.Context, fs vfs.FS, raw string) (registry.Store, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, ErrURL // which repeats nothing: a password may be in it
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || !filepath.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != "" {
			return nil, ErrURL
		}
		f, err := registry.OpenFolder(fs, filepath.Clean(u.Path))
		if err != nil {
			return nil, fmt.Errorf("open the registry: %w", err)
		}
		return f, nil
	case "dynamodb":
		c, err := ddbregistry.Parse(u)
		if err != nil {
			return nil, err
		}
		s, err := ddbregistry.New(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("open the registry: %w", err)
		}
		return s, nil
	}
	return nil, fmt.Errorf("the scheme %q is not known; %w", u.Scheme, ErrURL)
}
