package restore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"originchain/shared/object"
)

// patient is a store whose reads are tried again, and go on where a transfer broke
// off: an archive far away is read for hours. What is read is verified by whoever
// reads it, not by the store alone.
type patient struct{ object.Store }

// Get implements object.Store.
func (p patient) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r := &resuming{ctx: ctx, p: p, key: key, off: off, left: n}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, nil
}

// List implements object.Store.
func (p patient) List(ctx context.Context, prefix, after string, limit int) (list []object.Info, err error) {
	err = again(ctx, func() error {
		list, err = p.Store.List(ctx, prefix, after, limit)
		return err
	})
	return list, err
}

// Stat implements object.Store.
func (p patient) Stat(ctx context.Context, key string) (info object.Info, err error) {
	err = again(ctx, func() error {
		info, err = p.Store.Stat(ctx, key)
		return err
	})
	return info, err
}

// resuming reads an object to its end, in as many transfers as it takes.
type resuming struct {
	ctx   context.Context //nolint:containedctx // of the Get, which is that of the reading too
	p     patient
	key   string
	off   int64
	left  int64 // negative: to the end
	r     io.ReadCloser
	tries int // since the last byte came
}

func (r *resuming) open() error {
	return again(r.ctx, func() (err error) {
		r.r, err = r.p.Store.Get(r.ctx, r.key, r.off, r.left)
		return err
	})
}

// Read implements io.Reader.
func (r *resuming) Read(b []byte) (int, error) {
	for {
		n, err := r.r.Read(b)
		if n > 0 {
			r.off, r.tries = r.off+int64(n), 0
			if r.left > 0 {
				r.left -= int64(n)
			}
		}
		if err == nil || errors.Is(err, io.EOF) || errors.Is(err, object.ErrContent) || final(err) || r.ctx.Err() != nil {
			return n, err
		}
		if r.tries++; r.tries >= readTries {
			return n, fmt.Errorf("%w (after %d tries)", err, r.tries)
		}
		if err := r.again(); err != nil || n > 0 {
			return n, err
		}
	}
}

// again begins another transfer where the one before broke off.
func (r *resuming) again() error {
	if err := pause(r.ctx, firstBackoff<<r.tries); err != nil {
		return err
	}
	broken := r.r
	if err := r.open(); err != nil {
		return err
	}
	_ = broken.Close() // it has failed, and said how
	return nil
}

// Close implements io.Closer.
func (r *resuming) Close() error { return r.r.Close() }

// Patient gives a store whose reads go on where they broke off, as those of a restore do.
func Patient(s object.Store) object.Store { return patient{s} }
