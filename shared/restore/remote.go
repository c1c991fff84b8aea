package restore

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"originchain/shared/archive"
	"originchain/shared/object"
)

// Bounds of what is held of a checkpoint that is read where it is: chunkBytes times
// chunksHeld of its tables, and its other files whole.
const (
	chunkBytes         = 4 << 20
	chunksHeld         = 32
	maxOtherFilesBytes = 64 << 20
)

// remoteDir is the directory of the state in a remoteFS.
const remoteDir = "checkpoint"

// remoteFS is a checkpoint as a directory that is only read: its tables stay in the
// archive and are read in chunks, its few small files are in memory.
//
// Pebble holds each block of a table against its checksum; that the objects are what
// the manifest says is for checkFiles.
type remoteFS struct {
	vfs.FS // of the small files
	tables map[string]*archive.File
	chunks *chunks
}

// isTable reports the files that hold the pairs; all others are small.
func isTable(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

func newRemoteFS(ctx context.Context, store object.Store, a *archive.Archive, m *archive.Manifest) (*remoteFS, error) {
	fs := &remoteFS{FS: vfs.NewMem(), tables: map[string]*archive.File{}, chunks: &chunks{ctx: ctx, store: store, held: map[chunkOf]*list.Element{}}}
	if err := fs.MkdirAll(remoteDir, 0o700); err != nil {
		return nil, err
	}
	others := int64(0)
	for i := range m.Files {
		f := &m.Files[i]
		if isTable(f.Name) {
			fs.tables[f.Name] = f
			continue
		}
		if others += f.Size; others > maxOtherFilesBytes {
			return nil, &archive.DamagedError{Store: store.String(), Key: m.Key().String(), Err: fmt.Errorf("it has more than %d bytes of files that hold no pairs", maxOtherFilesBytes)}
		}
		if err := again(ctx, func() error { return fetchFile(ctx, fs.FS, a, f, remoteDir) }); err != nil {
			return nil, err
		}
	}
	return fs, nil
}

// List implements vfs.FS.
func (fs *remoteFS) List(dir string) ([]string, error) {
	names, err := fs.FS.List(dir)
	if err != nil || dir != remoteDir {
		return names, err
	}
	for name := range fs.tables {
		names = append(names, name)
	}
	return names, nil
}

// Open implements vfs.FS.
func (fs *remoteFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if f := fs.tables[path.Base(name)]; f != nil {
		return &remoteFile{f: f, chunks: fs.chunks}, nil
	}
	return fs.FS.Open(name, opts...)
}

// Stat implements vfs.FS.
func (fs *remoteFS) Stat(name string) (vfs.FileInfo, error) {
	if f := fs.tables[path.Base(name)]; f != nil {
		return (&remoteFile{f: f}).Stat()
	}
	return fs.FS.Stat(name)
}

// Unwrap implements vfs.FS.
func (fs *remoteFS) Unwrap() vfs.FS { return nil }

// remoteFile is a table. It is read at offsets, by several goroutines.
type remoteFile struct {
	f      *archive.File
	chunks *chunks
}

// ReadAt implements io.ReaderAt.
func (r *remoteFile) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) {
		at := off + int64(n)
		if at < 0 || at >= r.f.Size {
			return n, io.EOF
		}
		c, err := r.chunks.get(r.f, at/chunkBytes)
		if err != nil {
			return n, err
		}
		n += copy(b[n:], c[at%chunkBytes:])
	}
	return n, nil
}

// Stat implements vfs.File.
func (r *remoteFile) Stat() (vfs.FileInfo, error) { return remoteInfo{r.f}, nil }

// Close implements io.Closer.
func (*remoteFile) Close() error { return nil }

// Prefetch implements vfs.File; a chunk is that already.
func (*remoteFile) Prefetch(int64, int64) error { return nil }

// Fd implements vfs.File.
func (*remoteFile) Fd() uintptr { return vfs.InvalidFd }

var errReadOnly = fmt.Errorf("a checkpoint in the archive is only read: %w", iofs.ErrPermission)

// The rest of vfs.File, which Pebble does not ask of a table that is there.

func (*remoteFile) Read([]byte) (int, error)           { return 0, errReadOnly }
func (*remoteFile) Write([]byte) (int, error)          { return 0, errReadOnly }
func (*remoteFile) WriteAt([]byte, int64) (int, error) { return 0, errReadOnly }
func (*remoteFile) Preallocate(int64, int64) error     { return errReadOnly }
func (*remoteFile) Sync() error                        { return errReadOnly }
func (*remoteFile) SyncTo(int64) (bool, error)         { return false, errReadOnly }
func (*remoteFile) SyncData() error                    { return errReadOnly }

type remoteInfo struct{ f *archive.File }

func (i remoteInfo) Name() string         { return i.f.Name }
func (i remoteInfo) Size() int64          { return i.f.Size }
func (remoteInfo) Mode() os.FileMode      { return 0o400 }
func (remoteInfo) ModTime() time.Time     { return time.Time{} }
func (remoteInfo) IsDir() bool            { return false }
func (remoteInfo) Sys() any               { return nil }
func (remoteInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }

type chunkOf struct {
	key string
	n   int64
}

// chunk is a piece of an object; b and err are there when ready is closed.
type chunk struct {
	of    chunkOf
	ready chan struct{}
	b     []byte
	err   error
}

// chunks are the pieces that were read last. Several goroutines use it.
type chunks struct {
	ctx   context.Context //nolint:containedctx // a file has no other way to end
	store object.Store

	mu   sync.Mutex
	held map[chunkOf]*list.Element
	used list.List // of *chunk, the one used last in front
	err  error
}

// failed is what kept a chunk from being read, the first time: whoever reads a state
// through this must look at it before what was found in the state is believed.
func (c *chunks) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// get reads a chunk, or waits for who does.
func (c *chunks) get(f *archive.File, n int64) ([]byte, error) {
	of := chunkOf{f.Key().String(), n}
	c.mu.Lock()
	if e := c.held[of]; e != nil {
		c.used.MoveToFront(e)
		c.mu.Unlock()
		x := e.Value.(*chunk)
		<-x.ready
		return x.b, x.err
	}
	x := &chunk{of: of, ready: make(chan struct{})}
	c.held[of] = c.used.PushFront(x)
	for c.used.Len() > chunksHeld {
		last := c.used.Back()
		delete(c.held, last.Value.(*chunk).of)
		c.used.Remove(last)
	}
	c.mu.Unlock()
	x.err = again(c.ctx, func() (err error) {
		x.b, err = c.read(of.key, n*chunkBytes, min(chunkBytes, f.Size-n*chunkBytes))
		return err
	})
	close(x.ready)
	if x.err != nil {
		c.drop(x)
	}
	return x.b, x.err
}

// drop forgets a chunk that could not be read, and keeps why.
func (c *chunks) drop(x *chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = x.err
	}
	if e := c.held[x.of]; e != nil && e.Value == any(x) {
		delete(c.held, x.of)
		c.used.Remove(e)
	}
}

func (c *chunks) read(key string, off, n int64) (_ []byte, err error) {
	r, err := c.store.Get(c.ctx, key, off, n)
	if err != nil {
		return nil, fmt.Errorf("read %s in %s: %w", key, c.store, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("read %s in %s at %d: %w", key, c.store, off, err)
	}
	return b, nil
}

// checkFiles reads all objects of a checkpoint and holds them against the manifest.
func checkFiles(ctx context.Context, a *archive.Archive, m *archive.Manifest, advance func(int64)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(filesInFlight)
	for i := range m.Files {
		f := &m.Files[i]
		g.Go(func() error {
			err := again(ctx, func() (err error) {
				r, err := a.OpenFile(ctx, f)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, r.Close()) }()
				_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, blockBytes))
				return err
			})
			advance(f.Size)
			return err
		})
	}
	return g.Wait()
}
