package lease

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/durable"
	"originchain/shared/fault"
)

// Names inside the directory.
const (
	recordFile    = "lease.json"
	temporaryFile = "lease.json.tmp"
	lockFile      = "lease.lock"
)

// ErrFailed says that an fsync of this File has failed and that it does nothing
// more: a second fsync could succeed without the data. The process ends, or opens the directory
// again: a new File writes the record it finds anew before it trusts it.
var ErrFailed = errors.New("the lease store has failed; open it again")

// File is a Store in a directory that processes of one machine share: a document of a
// durable.Folder, and so written whole, by one process at a time, and made durable
// before it is believed.
type File struct{ folder *durable.Folder }

var _ Store = (*File)(nil)

// OpenFile returns the store in a directory, which it makes if it is not there.
// It keeps nothing open.
func OpenFile(fs vfs.FS, dir string) (*File, error) {
	folder, err := durable.OpenFolder(fs, durable.Layout{Dir: dir, Lock: lockFile, Temporary: temporaryFile, Failed: ErrFailed})
	if err != nil {
		return nil, err
	}
	return &File{folder}, nil
}

// Load implements Store. It fails with ErrFailed as well.
func (f *File) Load(ctx context.Context) (r Record, ok bool, err error) {
	err = f.folder.Alone(ctx, func() error {
		r, ok, err = f.load()
		return err
	})
	return r, ok, err
}

// CompareAndSet implements Store. It fails with ErrFailed as well.
func (f *File) CompareAndSet(ctx context.Context, expect uint64, next Record) (stored Record, err error) {
	err = f.folder.Alone(ctx, func() error {
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

// load reads the record and makes sure that it is durable.
func (f *File) load() (Record, bool, error) {
	b, ok, err := f.folder.Read(recordFile, MaxRecordBytes+1)
	if err != nil || !ok {
		return Record{}, false, err
	}
	name := f.folder.Path(recordFile)
	r, err := Decode(b)
	if errors.Is(err, ErrNewerFormat) {
		return Record{}, false, fmt.Errorf("read %s: %w", name, err)
	} else if err != nil {
		return Record{}, false, &fault.Corruption{File: name, What: "lease record", Want: "a record of format 1 that is valid",
			Got:    err.Error(),
			Remedy: "stop every node, make sure which one wrote last, and put the file back as it was"}
	}
	if err := f.folder.Settle(recordFile, b); err != nil {
		return Record{}, false, fmt.Errorf("make the lease record durable: %w", err)
	}
	return r, true, nil
}

// persist makes r the record.
func (f *File) persist(r Record) error {
	b, err := r.Encode()
	if err != nil {
		return err
	}
	err = f.folder.Replace(recordFile, b)
	if failed := (*durable.Error)(nil); errors.As(err, &failed) && failed.Unknown() {
		return &OutcomeUnknownError{failed.Err}
	}
	return err
}
