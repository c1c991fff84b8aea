package table

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"

	"originchain/shared/pacing"
)

// guard stands between the callers of Pebble and its failures. Pebble tries a
// failed flush again for ever and lets writers wait meanwhile; a failed write of
// its manifest it calls fatal, and expects the process to end there and then.
// Neither may hang or crash the server, which has to say why it stops: so the
// first failure is final, is told, whoever waits is let go, and no further file
// is begun. The log is whole; the next start replays it.
//
// Refused: a panic, as Pebble would have it, which kills the process before
// anybody can ask it why; and its retries, which on a full disk hold every
// commit and a processor for as long as the disk is full.
type guard struct {
	tell    func(error)
	once    sync.Once
	err     error         // set before failed is closed
	failed  chan struct{} // closed at the first failure
	dirs    sync.Mutex    // held while a directory is synced
	opening atomic.Bool
	// cause is the last failed write of a file that Pebble calls fatal, in words
	// alone: with it the failure can be told by its kind, such as a full disk.
	cause atomic.Pointer[error]
}

func newGuard(tell func(error)) *guard {
	g := &guard{tell: tell, failed: make(chan struct{})}
	g.opening.Store(true)
	return g
}

// fail records and tells the first failure. Pebble calls it under its locks.
func (g *guard) fail(err error) {
	g.once.Do(func() {
		g.err = fmt.Errorf("the state store failed: %w", err)
		close(g.failed)
		if g.tell != nil {
			g.tell(g.err)
		}
	})
}

// listener is what Pebble tells. Damage that a read finds is a failure like any
// other: without a listener Pebble ends the goroutine that read.
func (g *guard) listener(dir string) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: g.fail,
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			g.fail(fmt.Errorf("%s is damaged: %w; stop the server and move %s away, so that the next start rebuilds it from the log; if the log no longer reaches back to LSN 1, copy the newest directory in checkpoints to its place first", i.Path, i.Details, dir))
		},
	}
}

// explain adds to a read's finding of damage where it is and what to do.
func (g *guard) explain(err error) error {
	if err != nil && pebble.IsCorruptionError(err) && g.hasFailed() {
		return g.err
	}
	return err
}

// wait runs f and returns its error, or the failure if there is one before f is
// done: f may then never return, and its goroutine ends with the process.
func (g *guard) wait(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-g.failed:
		return g.err
	}
}

func (g *guard) hasFailed() bool {
	select {
	case <-g.failed:
		return true
	default:
		return false
	}
}

// pebbleLog hands Pebble's own messages to ours: its routine ones at debug.
type pebbleLog struct {
	log logrus.FieldLogger
	g   *guard
}

func (l pebbleLog) Infof(format string, args ...any) {
	l.log.WithField("detail", fmt.Sprintf(format, args...)).Debug("state store")
}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.log.WithField("detail", fmt.Sprintf(format, args...)).Error("state store")
}

// Fatalf is what Pebble calls when it cannot go on. It must not return, so it
// ends the goroutine: one of Pebble's own, or one of wait's.
func (l pebbleLog) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	l.log.WithField("detail", msg).Error("state store failed")
	if cause := l.g.cause.Load(); cause != nil {
		l.g.stop(fmt.Errorf("%s: %w", msg, *cause))
	}
	l.g.stop(errors.New(msg))
}

// stop keeps a goroutine of Pebble's from going on after err. It is ended, so
// that it gives its locks back; but during the opening it is held until the
// process ends: on the way out Pebble would free what the compactions that it
// has started already still use, and crash.
func (g *guard) stop(err error) {
	g.fail(err)
	if g.opening.Load() {
		select {}
	}
	runtime.Goexit()
}

// guardedFS is the file system as Pebble gets it. After a failure it holds, until
// the process ends, the goroutine that begins a file, which is a flush or
// compaction that is tried again; it cannot be ended, as Pebble's cleaning up
// half-way through panics. It stops one whose fsync of a directory has failed,
// where Pebble would panic, and during the opening one whose write has failed.
type guardedFS struct {
	vfs.FS
	g        *guard
	pace     *pacing.Pacer
	readOnly bool
}

// Lock implements vfs.FS. A state that is only read gets no lock file, and need
// not be writable: whoever has the directory around it keeps writers out.
func (fs guardedFS) Lock(name string) (io.Closer, error) {
	if fs.readOnly {
		return io.NopCloser(nil), nil
	}
	return fs.FS.Lock(name)
}

// opened stops the caller if a write failed while the state is being opened.
func (fs guardedFS) opened(err error) error {
	if err != nil && fs.g.opening.Load() {
		fs.g.stop(err)
	}
	return err
}

func (fs guardedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if fs.g.hasFailed() {
		select {}
	}
	f, err := fs.FS.Create(name, c)
	if err != nil {
		return nil, fs.opened(err)
	}
	return guardedFile{fs.pace.File(f, c), fs}, nil
}

func (fs guardedFS) Rename(oldname, newname string) error {
	return fs.opened(fs.FS.Rename(oldname, newname))
}

func (fs guardedFS) OpenDir(name string) (vfs.File, error) {
	f, err := fs.FS.OpenDir(name)
	if err != nil {
		return nil, fs.opened(err)
	}
	return guardedDir{f, fs.g}, nil
}

// Unwrap implements vfs.FS.
func (fs guardedFS) Unwrap() vfs.FS { return fs.FS }

// guardedFile is a file that Pebble writes: a table, the manifest.
type guardedFile struct {
	vfs.File
	fs guardedFS
}

func (f guardedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.failed(err)
}

// Sync implements vfs.File.
func (f guardedFile) Sync() error { return f.failed(f.File.Sync()) }

// SyncData implements vfs.File.
func (f guardedFile) SyncData() error { return f.failed(f.File.SyncData()) }

// failed takes note of a failure; during the opening it stops the caller.
func (f guardedFile) failed(err error) error {
	if err != nil {
		f.fs.g.cause.Store(&err)
	}
	return f.fs.opened(err)
}

type guardedDir struct {
	vfs.File
	g *guard
}

// Sync implements vfs.File.
func (d guardedDir) Sync() error {
	if err := d.g.syncDir(d.File); err != nil {
		d.g.stop(err)
	}
	return nil
}

// syncDir makes a directory's entries durable, unless the state has failed. A
// sync that follows a failed one may succeed without the entries that one lost:
// a compaction that was under way would name such a table in the manifest, and
// delete what it was made from. One at a time, so that none is on its way past
// the failure of another.
func (g *guard) syncDir(dir vfs.File) error {
	g.dirs.Lock()
	defer g.dirs.Unlock()
	if g.hasFailed() {
		return g.err
	}
	if err := dir.Sync(); err != nil {
		g.fail(fmt.Errorf("fsync of a directory of the state: %w", err))
		return g.err
	}
	return nil
}
