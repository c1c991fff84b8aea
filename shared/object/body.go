package object

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
)

// Body is what to put. It may be read several times, each time the same bytes.
type Body struct {
	Size int64
	// SHA256 of the content; a store refuses other bytes with ErrContent.
	SHA256 [sha256.Size]byte
	Open   func() (io.ReadCloser, error)
}

// Bytes returns the body of some bytes, which must not change any more.
func Bytes(b []byte) Body {
	return Body{Size: int64(len(b)), SHA256: sha256.Sum256(b),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// CopyTo writes the body to w and fails with ErrContent unless it was what the body
// says; what was written is then no object. It stops when the context ends.
func (b Body) CopyTo(ctx context.Context, w io.Writer) (err error) {
	r, err := b.Open()
	if err != nil {
		return fmt.Errorf("open the content: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(&interruptible{ctx, r}, min(b.Size, math.MaxInt64-1)+1))
	if err != nil {
		return err
	}
	return b.check(n, sum)
}

// check compares what was read of the body, up to one byte too many, with what the
// body says.
func (b Body) check(n int64, sum hash.Hash) error {
	if n != b.Size {
		more := ""
		if n > b.Size {
			more = " or more"
		}
		return fmt.Errorf("%w: it has %d bytes%s, not %d", ErrContent, n, more, b.Size)
	}
	if got := [sha256.Size]byte(sum.Sum(nil)); got != b.SHA256 {
		return fmt.Errorf("%w: its SHA-256 is %x, not %x", ErrContent, got, b.SHA256)
	}
	return nil
}

// interruptible is a reader that ends with a context.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (r *interruptible) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// Range returns how many bytes of an object of some size a Get of n bytes from off
// is to read, and ErrRange if they are not all in it.
func Range(off, n, size int64) (int64, error) {
	if off < 0 || off > size || n > size-off {
		return 0, fmt.Errorf("%w: %d bytes from %d on, of %d", ErrRange, n, off, size)
	}
	if n < 0 {
		return size - off, nil
	}
	return n, nil
}

// Exactly returns a reader of n bytes that fails with io.ErrUnexpectedEOF if r ends
// before. With want it compares the SHA-256 of them before it tells the end, and
// fails with ErrContent.
func Exactly(r io.ReadCloser, n int64, want *[sha256.Size]byte) io.ReadCloser {
	e := &exact{r: r, left: n, want: want}
	if want != nil {
		e.sum = sha256.New()
	}
	return e
}

type exact struct {
	r    io.ReadCloser
	left int64
	want *[sha256.Size]byte
	sum  hash.Hash // nil without want
}

func (e *exact) Close() error { return e.r.Close() }

func (e *exact) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, e.end()
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if e.sum != nil {
		_, _ = e.sum.Write(p[:n]) // a hash never fails
	}
	switch {
	case e.left == 0 && (err == nil || errors.Is(err, io.EOF)):
		return e.last(n)
	case errors.Is(err, io.EOF):
		return n, fmt.Errorf("%d bytes are missing: %w", e.left, io.ErrUnexpectedEOF)
	default:
		return n, err
	}
}

// last gives out the last bytes only if all were right: who reads just as many as
// he asked for sees no error that comes with them or after them.
func (e *exact) last(n int) (int, error) {
	if err := e.end(); !errors.Is(err, io.EOF) {
		return 0, err
	}
	return n, nil
}

func (e *exact) end() error {
	if e.want == nil {
		return io.EOF
	}
	if got := [sha256.Size]byte(e.sum.Sum(nil)); got != *e.want {
		return fmt.Errorf("%w: the SHA-256 of what the store gave is %x, it was put with %x", ErrContent, got, *e.want)
	}
	return io.EOF
}
