package lease

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/datadir"
	"originchain/shared/fault"
)

// Names inside the directory.
const (
	recordFile    = "lease.json"
	temporaryFile = "lease.json.tmp"
	lockFile      = "lease.lock"
)

const (
	// lockWait is how long an operation waits for others of other processes, each
	// of which takes a few fsyncs.
	lockWait = 10 * time.Second
	// lockRetry is how often it asks for the lock: a lock of this kind calls nobody.
	lockRetry = 2 * time.Millisecond
)

// ErrFailed says that an fsync of this File has failed and that it does nothing
// more: a second fsync could succeed without the data. The process ends, or opens the directory
// again: a new File writes the record it finds anew before it trusts it.
var ErrFailed = errors.New("the lease store has failed; open it again")

// File is a Store in a directory that processes of one machine share. A lock on a
// file of its own excludes them from one another for each operation, reads
// included. The record is written whole: temporary, fsync, rename, fsync of the
// directory.
//
// A record that another process left after its directory's fsync failed can be
// read and is not durable. So a File writes any record it has not itself made
// durable once more before it returns it. The alternative, to sync the directory
// again, would succeed and save nothing.
type File struct {
	fs  vfs.FS
	dir string

	// turn holds one token, so that a caller can stop waiting for it; who has it may
	// touch what follows.
	turn chan struct{}
	// durable is the version that is known to be durable, 0 for none.
	durable uint64
	failure error
}

var _ Store = (*File)(nil)

// OpenFile returns the store in a directory, which it makes if it is not there.
// It keeps nothing open.
func OpenFile(fs vfs.FS, dir string) (*File, error) {
	if err := datadir.MakeDirs(fs, dir); err != nil {
		return nil, err
	}
	f := &File{fs: fs, dir: dir, turn: make(chan struct{}, 1)}
	f.turn <- struct{}{}
	return f, nil
}

// Load implements Store. It fails with ErrFailed as well.
func (f *File) Load(ctx context.Context) (r Record, ok bool, err error) {
	err = f.locked(ctx, func() error {
		r, ok, err = f.load()
		return err
	})
	return r, ok, err
}

// CompareAndSet implements Store. It fails with ErrFailed as well.
func (f *File) CompareAndSet(ctx context.Context, expect uint64, next Record) (stored Record, err error) {
	err = f.locked(ctx, func() error {
		current, exists, err := f.load()
		if err != nil {
			return err
		}
		if stored, err = successor(current, exists, expect, next); err != nil {
			return err
		}
		return f.persist(stored)
	})
	if err != nil {
		return Record{}, err
	}
	return stored, nil
}

// locked runs an operation while no other one runs, here or elsewhere.
func (f *File) locked(ctx context.Context, operation func() error) error {
	select {
	case <-f.turn:
		defer func() { f.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if f.failure != nil {
		return fmt.Errorf("%w: %w", ErrFailed, f.failure)
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
func (f *File) lock(ctx context.Context) (io.Closer, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for {
		lock, err := f.fs.Lock(f.path(lockFile))
		if err == nil {
			return lock, nil
		}
		// As in datadir: a lock file that cannot be made is held by nobody.
		var cannot *iofs.PathError
		if errors.As(err, &cannot) && !errors.Is(err, syscall.EAGAIN) {
			return nil, fmt.Errorf("lock %s: %w", f.path(lockFile), err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s: %w: %w", f.path(lockFile), ctx.Err(), err)
		}
	}
}

func (f *File) path(name string) string { return f.fs.PathJoin(f.dir, name) }

// load reads the record and makes sure that it is durable.
func (f *File) load() (Record, bool, error) {
	r, ok, err := f.read()
	if err != nil || !ok || r.Version == f.durable {
		return r, ok, err
	}
	if err := f.persist(r); err != nil {
		// Nothing of the caller's was written, so nothing of it is unknown.
		var unknown *OutcomeUnknownError
		if errors.As(err, &unknown) {
			err = unknown.Err
		}
		return Record{}, false, fmt.Errorf("make the lease record durable: %w", err)
	}
	return r, true, nil
}

func (f *File) read() (r Record, ok bool, err error) {
	name := f.path(recordFile)
	file, err := f.fs.Open(name)
	if errors.Is(err, iofs.ErrNotExist) {
		return Record{}, false, nil
	} else if err != nil {
		return Record{}, false, fmt.Errorf("read %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	b, err := io.ReadAll(io.LimitReader(file, MaxRecordBytes+1))
	if err != nil {
		return Record{}, false, fmt.Errorf("read %s: %w", name, err)
	}
	r, err = Decode(b)
	if errors.Is(err, ErrNewerFormat) {
		return Record{}, false, fmt.Errorf("read %s: %w", name, err)
	} else if err != nil {
		return Record{}, false, &fault.Corruption{File: name, What: "lease record", Want: "a record of format 1 that is valid",
			Got:    err.Error(),
			Remedy: "stop every node, make sure which one wrote last, and put the file back as it was"}
	}
	return r, true, nil
}

// persist makes r the record. Up to the rename nothing has changed; from then on
// the outcome is known only once the directory is synced.
func (f *File) persist(r Record) error {
	b, err := r.Encode()
	if err != nil {
		return err
	}
	if err := f.writeTemporary(b); err != nil {
		return fmt.Errorf("write %s: %w", f.path(temporaryFile), err)
	}
	if err := f.fs.Rename(f.path(temporaryFile), f.path(recordFile)); err != nil {
		return &OutcomeUnknownError{fmt.Errorf("write %s: %w", f.path(recordFile), err)}
	}
	if err := datadir.SyncDir(f.fs, f.dir); err != nil {
		f.failure = err
		return &OutcomeUnknownError{err}
	}
	f.durable = r.Version
	return nil
}

func (f *File) writeTemporary(b []byte) error {
	file, err := f.fs.Create(f.path(temporaryFile), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err := file.Write(b); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := file.Sync(); err != nil {
		f.failure = err
		return errors.Join(err, file.Close())
	}
	return file.Close()
}
