package object

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// ErrURL says that a URL names no store.
var ErrURL = errors.New("the URL names no object store")

// Opener makes the store of a URL of its scheme. It must not repeat the URL's
// credentials in an error.
type Opener func(ctx context.Context, u *url.URL) (Store, error)

// Open returns the store that a URL names: file:///directory, or one of the other
// schemes that the caller knows the makers of. It makes, writes and asks for nothing
// itself.
func Open(ctx context.Context, rawURL string, others map[string]Opener) (Store, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The error would repeat the URL, and what a password in it is worth.
		return nil, fmt.Errorf("%w: it cannot be parsed; %s", ErrURL, forms(others))
	}
	if u.User != nil {
		return nil, fmt.Errorf("%w: %s has a user in it; credentials do not belong into a URL, give them to the process as its store wants them", ErrURL, withoutUser(*u))
	}
	if u.Scheme == "file" {
		return openFile(u)
	}
	if open := others[u.Scheme]; open != nil {
		return open(ctx, u)
	}
	return nil, fmt.Errorf("%w: %s has the scheme %q; %s", ErrURL, u, u.Scheme, forms(others))
}

func withoutUser(u url.URL) string {
	u.User = nil
	u.RawQuery = ""
	return u.String()
}

func forms(others map[string]Opener) string {
	schemes := []string{"file:///directory"}
	for scheme := range others {
		schemes = append(schemes, scheme+"://…")
	}
	slices.Sort(schemes)
	return "give " + strings.Join(schemes, " or ")
}

func openFile(u *url.URL) (Store, error) {
	switch {
	case u.Opaque != "" || u.Path == "" || u.Path[0] != '/' || (u.Host != "" && u.Host != "localhost"):
		return nil, fmt.Errorf("%w: %s is not absolute; give file:///directory, with three slashes", ErrURL, u)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("%w: %s has more than a directory; a ? or # in the name of one is written %%3F or %%23", ErrURL, u)
	case strings.ContainsRune(u.Path, 0):
		return nil, fmt.Errorf("%w: it has a zero byte in its path", ErrURL)
	}
	return NewFolder(u.Path), nil
}
