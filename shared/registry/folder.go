package registry

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	iofs "io/fs"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/datadir"
	"originchain/shared/fault"
)

// Names inside the directory. A document's file has its escaped key before suffix, so
// that no key is one of the others.
const (
	suffix        = ".doc"
	temporaryFile = "registry.tmp"
	lockFile      = "registry.lock"
)

const (
	// lockWait is how long an operation waits for others of other processes.
	lockWait = 10 * time.Second
	// lockRetry is how often it asks for the lock: a lock of this kind calls nobody.
	lockRetry = 2 * time.Millisecond
	// magic begins a file; format is the layout of what follows.
	magic  = "originchain-document"
	format = 1
	// maxHeadBytes is more than a file's first line has.
	maxHeadBytes = 512
)

// ErrFailed says that an fsync of this Folder has failed and that it does nothing more:
// a second fsync could succeed without the data. The process opens the directory again.
var ErrFailed = errors.New("the registry has failed; open it again")

// Folder is a Store in a directory that processes of one machine share: a file per
// document, a line of its own before the body, which says version, checksum and key. A
// lock on a file of its own excludes processes from one another for each operation. A
// document is written whole: temporary, fsync, rename, fsync of the directory.
//
// A document that another process left after its directory's fsync failed can be read
// and is not durable. So a Folder writes each that it has not itself made durable once
// more before it returns it.
type Folder struct {
	fs  vfs.FS
	dir string

	// turn holds one token, so that a caller can stop waiting for it; who has it may
	// touch what follows.
	turn chan struct{}
	// durable is the version of each document that is known to be.
	durable map[string]uint64
	failure error
}

var _ Store = (*Folder)(nil)

// OpenFolder returns the registry in a directory, which it makes if it is not there. It
// keeps nothing open.
func OpenFolder(fs vfs.FS, dir string) (*Folder, error) {
	if err := datadir.MakeDirs(fs, dir); err != nil {
		return nil, err
	}
	f := &Folder{fs: fs, dir: dir, turn: make(chan struct{}, 1), durable: map[string]uint64{}}
	f.turn <- struct{}{}
	return f, nil
}

// Load implements Store. It fails with ErrFailed as well.
func (f *Folder) Load(ctx context.Context, key string) (d Document, err error) {
	if err := before(ctx, key); err != nil {
		return Document{}, err
	}
	err = f.locked(ctx, func() error {
		d, err = f.load(key)
		return err
	})
	return d, err
}

// Save implements Store. It fails with ErrFailed as well.
func (f *Folder) Save(ctx context.Context, key string, expect uint64, body []byte) (next Document, err error) {
	if err := before(ctx, key); err != nil {
		return Document{}, err
	}
	if err := CheckBody(key, body); err != nil {
		return Document{}, err
	}
	err = f.locked(ctx, func() error {
		current, err := f.load(key)
		if err != nil {
			return err
		}
		if next, err = saved(current, expect, body); err != nil {
			return err
		}
		return f.persist(next)
	})
	if err != nil {
		return Document{}, err
	}
	return next, nil
}

// List implements Store. It fails with ErrFailed as well.
func (f *Folder) List(ctx context.Context, prefix string) (out []Document, err error) {
	err = f.locked(ctx, func() error {
		keys, err := f.keys(prefix)
		if err != nil {
			return err
		}
		for _, key := range keys {
			d, err := f.load(key)
			if err != nil {
				return err
			}
			out = append(out, d)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// keys lists the keys that begin with prefix.
func (f *Folder) keys(prefix string) (keys []string, err error) {
	names, err := f.fs.List(f.dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", f.dir, err)
	}
	for _, name := range names {
		escaped, ok := strings.CutSuffix(name, suffix)
		if !ok {
			continue
		}
		key, err := url.QueryUnescape(escaped)
		if err != nil || escape(key) != escaped {
			return nil, fmt.Errorf("%s is the name of no document; take it away from there", f.path(name))
		}
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	if len(keys) > MaxListed {
		return nil, tooMany(prefix)
	}
	slices.Sort(keys)
	return keys, nil
}

// locked runs an operation while no other one runs, here or elsewhere.
func (f *Folder) locked(ctx context.Context, operation func() error) error {
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
	// The lock ends with the descriptor, whatever Close returns, and the operation's
	// outcome stands: to report an error here would deny it.
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
	for {
		lock, err := f.fs.Lock(f.path(lockFile))
		if err == nil {
			return lock, nil
		}
		// A lock file that cannot be made is held by nobody.
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

func (f *Folder) path(name string) string { return f.fs.PathJoin(f.dir, name) }

func (f *Folder) file(key string) string { return f.path(escape(key) + suffix) }

// load reads a document and makes sure that it is durable.
func (f *Folder) load(key string) (Document, error) {
	d, err := f.read(key)
	if err != nil || d.Version == 0 || f.durable[key] == d.Version {
		return d, err
	}
	if err := f.persist(d); err != nil {
		// Nothing of the caller's was written, so nothing of it is unknown.
		var unknown *OutcomeUnknownError
		if errors.As(err, &unknown) {
			err = unknown.Err
		}
		return Document{}, fmt.Errorf("make the document %s durable: %w", key, err)
	}
	return d, nil
}

func (f *Folder) read(key string) (d Document, err error) {
	name := f.file(key)
	file, err := f.fs.Open(name)
	if errors.Is(err, iofs.ErrNotExist) {
		return Document{Key: key}, nil
	} else if err != nil {
		return Document{}, fmt.Errorf("read %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	b, err := io.ReadAll(io.LimitReader(file, maxHeadBytes+MaxBodyBytes+1))
	if err != nil {
		return Document{}, fmt.Errorf("read %s: %w", name, err)
	}
	return decode(name, key, b)
}

// checksum covers which document it is, and not only what it says.
func checksum(key string, version uint64, body []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(fmt.Appendf(nil, "%s %d\n", key, version), table), table, body)
}

func encode(d Document) []byte {
	return append(fmt.Appendf(nil, "%s %d version %d crc32c %08x key %s\n", magic, format, d.Version, checksum(d.Key, d.Version, d.Body), escape(d.Key)), d.Body...)
}

// decode reads what encode wrote; name is for messages.
func decode(name, key string, b []byte) (Document, error) {
	head, body, _ := strings.Cut(string(b), "\n")
	var m, escaped string
	var layout int
	var sum uint32
	d := Document{Key: key, Body: []byte(body)}
	bad := func(got string) error {
		return &fault.Corruption{File: name, What: "document", Want: fmt.Sprintf("format %d of %s, whole", format, key), Got: got,
			Remedy: "put the file back as it was, or remove it: nodes are registered again by `oc-control up`"}
	}
	if n, err := fmt.Sscanf(head, "%s %d", &m, &layout); n != 2 || m != magic {
		return Document{}, bad(fmt.Sprintf("a first line of another kind (%v)", err))
	}
	if layout > format {
		return Document{}, fmt.Errorf("read %s: it was written by a newer program: format %d, this one knows up to %d", name, layout, format)
	}
	if _, err := fmt.Sscanf(head, "%s %d version %d crc32c %x key %s", &m, &layout, &d.Version, &sum, &escaped); err != nil {
		return Document{}, bad(err.Error())
	}
	if got := checksum(key, d.Version, d.Body); escaped != escape(key) || d.Version == 0 || sum != got {
		return Document{}, bad(fmt.Sprintf("version %d of %s, CRC32C %08x", d.Version, escaped, got))
	}
	return d, nil
}

// persist makes d the document. Up to the rename nothing has changed; from then on the
// outcome is known only once the directory is synced.
func (f *Folder) persist(d Document) error {
	if err := f.writeTemporary(encode(d)); err != nil {
		return fmt.Errorf("write %s: %w", f.path(temporaryFile), err)
	}
	if err := f.fs.Rename(f.path(temporaryFile), f.file(d.Key)); err != nil {
		return &OutcomeUnknownError{d.Key, fmt.Errorf("write %s: %w", f.file(d.Key), err)}
	}
	if err := datadir.SyncDir(f.fs, f.dir); err != nil {
		f.failure = err
		return &OutcomeUnknownError{d.Key, err}
	}
	f.durable[d.Key] = d.Version
	return nil
}

func (f *Folder) writeTemporary(b []byte) error {
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
