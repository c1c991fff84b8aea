package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"originchain/shared/object"
)

// Bounds of what is fetched before it is needed: objectsAhead times blocksAhead times
// blockBytes of memory.
const (
	objectsAhead = 4
	blocksAhead  = 64
	blockBytes   = 512 << 10
)

// ahead is the archive's store, which counts what is read and has fetched, or is
// fetching, the objects that are read next: replay never waits for a round trip.
type ahead struct {
	object.Store
	read  atomic.Int64
	pipes map[string]*pipe // never changed once made
	order []*pipe
	slots chan struct{}
}

func newAhead(store object.Store, keys []string) *ahead {
	a := &ahead{Store: patient{store}, pipes: make(map[string]*pipe, len(keys)), slots: make(chan struct{}, objectsAhead)}
	for _, k := range keys {
		if a.pipes[k] == nil {
			p := &pipe{key: k, blocks: make(chan []byte, blocksAhead), closed: make(chan struct{})}
			a.pipes[k] = p
			a.order = append(a.order, p)
		}
	}
	return a
}

// run fetches until all objects were, or ctx ends. An object that cannot be fetched
// fails for its reader.
func (a *ahead) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range a.order {
		select {
		case a.slots <- struct{}{}:
		case <-ctx.Done():
		}
		if err := ctx.Err(); err != nil {
			p.end(err)
			continue
		}
		g.Go(func() error {
			defer func() { <-a.slots }()
			p.end(a.fetch(ctx, p))
			// The slot is free when its reader is through: what waits in it is memory.
			select {
			case <-p.closed:
			case <-ctx.Done():
			}
			return nil
		})
	}
	return g.Wait()
}

// fetch reads an object into its pipe.
func (a *ahead) fetch(ctx context.Context, p *pipe) (err error) {
	r, err := a.Store.Get(ctx, p.key, 0, -1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		b, err := block(r)
		a.read.Add(int64(len(b)))
		if len(b) > 0 {
			select {
			case p.blocks <- b:
			case <-p.closed:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read %s in %s: %w", p.key, a.Store, err)
		}
	}
}

// block reads up to a block; unlike io.ReadFull it tells an end from a reader that
// says itself that it ended early.
func block(r io.Reader) ([]byte, error) {
	b := make([]byte, blockBytes)
	for n := 0; ; {
		m, err := r.Read(b[n:])
		if n += m; err != nil || n == len(b) {
			return b[:n], err
		}
	}
}

// Get implements object.Store.
func (a *ahead) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if p := a.pipes[key]; p != nil && off == 0 && n < 0 && p.taken.CompareAndSwap(false, true) {
		return p, nil
	}
	r, err := a.Store.Get(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	return &counted{r, &a.read}, nil
}

// counted counts what is read.
type counted struct {
	io.ReadCloser
	n *atomic.Int64
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// pipe is one object on its way. One goroutine fills it, one reads it.
type pipe struct {
	key    string
	taken  atomic.Bool
	blocks chan []byte
	left   []byte
	err    error // read once blocks is closed
	once   sync.Once
	closed chan struct{}
}

// end says that nothing more comes; nil is the end of the object.
func (p *pipe) end(err error) {
	p.err = err
	close(p.blocks)
}

// Read implements io.Reader.
func (p *pipe) Read(b []byte) (int, error) {
	for len(p.left) == 0 {
		block, ok := <-p.blocks
		switch {
		case ok:
			p.left = block
		case p.err != nil:
			return 0, p.err
		default:
			return 0, io.EOF
		}
	}
	n := copy(b, p.left)
	p.left = p.left[n:]
	return n, nil
}

// Close implements io.Closer.
func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}
