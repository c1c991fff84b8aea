package durable

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// lockWait is how long an operation waits for others of other processes, each
	// of which takes a few fsyncs.
	lockWait = 10 * time.Second
	// lockRetry is how often it asks for the lock: a lock of this kind calls nobody.
	lockRetry = 2 * time.Millisecond
)

// Layout is a Folder's directory, and what it is called when it has failed.
type Layout struct {
	Dir string
	// Lock and Temporary are names in it that are no document's.
	Lock, Temporary string
	// Failed is what every operation fails with once an fsync has failed.
	Failed error
}

// Folder is a directory of documents that processes of one machine share. A lock on a
// file of its own excludes them from one another for each operation, reads included. A
// document is written whole, as by Replace.
//
// A document that another process left after its directory's fsync failed can be read
// and is not durable. So whoever reads one calls Settle before it is believed, which
// writes it once more unless this Folder has itself made it durable. The alternative,
// to sync the directory again, would succeed and save nothing.
//
// After a failed fsync a Folder does nothing more. The process ends, or opens the
// directory again.
type Folder struct {
	fs vfs.FS
	Layout

	// turn holds one token, so that a caller can stop waiting for it; who has it may
	// touch what follows.
	turn chan struct{}
	// durable is what this Folder has made durable, by name.
	durable map[string][sha256.Size]byte
	failure error
}

// OpenFolder returns the directory, which it makes if it is not there. It keeps
// nothing open.
func OpenFolder(fs vfs.FS, l Layout) (*Folder, error) {
	if err := MakeDirs(fs, l.Dir); err != nil {
		return nil, err
	}
	f := &Folder{fs: fs, Layout: l, turn: make(chan struct{}, 1), durable: map[string][sha256.Size]byte{}}
	f.turn <- struct{}{}
	return f, nil
}

// Path is where a name of the directory is.
func (f *Folder) Path(name string) string { return f.fs.PathJoin(f.Dir, name) }

// Alone runs an operation while no other one runs, here or elsewhere. The methods
// below are for operations.
func (f *Folder) Alone(ctx context.Context, operation func() error) error {
	select {
	case <-f.turn:
		defer func() { f.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if f.failure != nil {
		return fmt.Errorf("%w: %w", f.Failed, f.failure)
	}
	lock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	// The lock ends with the descriptor, whatever Close returns, and the
	// operation's outcome stands: to report an error here would deny it.
	defer func() { _ = lock.Close() }()
	return operation()
}

// lock waits for the lock of the directory.
func (f *Folder) lock(ctx context.Context) (io.Closer, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path := f.Path(f.Lock)
	for {
		lock, err := f.fs.Lock(path)
		if err == nil {
			return lock, nil
		}
		// As in datadir: a lock file that cannot be made is held by nobody.
		var cannot *iofs.PathError
		if errors.As(err, &cannot) && !errors.Is(err, syscall.EAGAIN) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s: %w: %w", path, ctx.Err(), err)
		}
	}
}

// Names lists the directory.
func (f *Folder) Names() ([]string, error) {
	names, err := f.fs.List(f.Dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", f.Dir, err)
	}
	return names, nil
}

// Read reads a document, and no more than limit bytes of it; ok is false if there is
// none.
func (f *Folder) Read(name string, limit int64) (b []byte, ok bool, err error) {
	path := f.Path(name)
	file, err := f.fs.Open(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if b, err = io.ReadAll(io.LimitReader(file, limit)); err != nil {
		return nil, false, fmt.Errorf("read %s: %w", path, err)
	}
	return b, true, nil
}

// Settle makes sure that what was read is durable. Its error is no *Error: nothing of
// the caller's was written, so nothing of it is unknown.
func (f *Folder) Settle(name string, b []byte) error {
	if f.durable[name] == sha256.Sum256(b) {
		return nil
	}
	err := f.Replace(name, b)
	if failed := (*Error)(nil); errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// Remove takes a document away; one that is not there is no error. Its error is an *Error.
func (f *Folder) Remove(name string) error {
	delete(f.durable, name)
	err := discard(On(f.fs), f.Path(name))
	if err != nil {
		return &Error{Renaming, fmt.Errorf("remove %s: %w", f.Path(name), err)}
	}
	if err := On(f.fs).SyncDir(f.Path(name)); err != nil {
		f.failure = err
		return &Error{SyncingDir, err}
	}
	return nil
}

// Replace makes b the document. Its error is an *Error.
func (f *Folder) Replace(name string, b []byte) error {
	err := Replace(On(f.fs), f.Path(name), f.Path(f.Temporary), b)
	if failed := (*Error)(nil); errors.As(err, &failed) && failed.Fsync() {
		f.failure = failed.Err
	}
	if err == nil {
		f.durable[name] = sha256.Sum256(b)
	}
	return err
}
