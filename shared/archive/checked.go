package archive

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// checked reads a file of a checkpoint and holds it against what the manifest says.
// The last bytes are given out only when all were right.
type checked struct {
	a    *Archive
	f    *File
	r    io.ReadCloser
	sum  hash.Hash
	left int64
}

func newChecked(a *Archive, f *File, r io.ReadCloser) *checked {
	return &checked{a: a, f: f, r: r, sum: sha256.New(), left: f.Size}
}

// Read implements io.Reader.
func (c *checked) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, c.end()
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	_, _ = c.sum.Write(p[:n]) // a hash never fails
	switch {
	case c.left == 0 && (err == nil || errors.Is(err, io.EOF)):
		if err := c.end(); !errors.Is(err, io.EOF) {
			return 0, err
		}
		return n, nil
	case errors.Is(err, io.EOF):
		return n, c.a.damaged(c.f.Key(), fmt.Errorf("%d bytes are missing", c.left))
	case err != nil:
		return n, c.a.unread(c.f.Key(), err)
	}
	return n, nil
}

func (c *checked) end() error {
	var one [1]byte
	switch n, err := c.r.Read(one[:]); {
	case n > 0:
		return c.a.damaged(c.f.Key(), fmt.Errorf("it has more than %d bytes", c.f.Size))
	case err != nil && !errors.Is(err, io.EOF):
		return c.a.unread(c.f.Key(), err)
	}
	if got := [sha256.Size]byte(c.sum.Sum(nil)); got != c.f.SHA256 {
		return c.a.damaged(c.f.Key(), fmt.Errorf("its SHA-256 is %x", got))
	}
	return io.EOF
}

// Close implements io.Closer.
func (c *checked) Close() error { return c.r.Close() }
