package object

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"net/url"
	"path"
	"slices"
	"sync"
	"syscall"
)

const (
	// temporaries is the directory of what is being put, in the folder, so that a
	// link out of it crosses no file system. No key has a part of this name.
	temporaries = ".tmp"
	// attempts bounds how often a put makes its directories anew because deletions
	// removed them, empty, before anything was in them.
	attempts = 100
)

// ErrFailed says that an fsync of a directory has failed, and that this Folder
// changes nothing any more: the next fsync could succeed without what this one was
// to make durable.
var ErrFailed = errors.New("the folder has failed to sync a directory; look at its disk, then start the process again")

// Folder is a Store in a directory that processes share, of one machine or of
// several with a file system that has links and locks.
//
// An object is a file, its key the path. It is written under a temporary name,
// synced, and linked to its own: link(2) never replaces a file, so one of several
// that race wins, and what has a name is whole. Then every directory on the way
// is synced, whoever made it, also where the name was taken: the process that took
// it may have been killed before it synced.
//
// A directory that is not there is an empty store; the first Put makes it. Reading
// writes nothing. Whoever may write the directory may also change objects; who reads
// must check what he read.
type Folder struct {
	path string
	open func(path string, makes bool) (disk, error)

	mu sync.Mutex
	// rooted says that the name of the folder itself is durable.
	rooted bool
	// swept says that this Folder has removed what crashes had left behind.
	swept   bool
	failure error
}

var _ Store = (*Folder)(nil)

// disk is what a Folder needs of a file system. Names are relative to the folder,
// "." is the folder itself. Errors are those of io/fs and syscall.
type disk interface {
	// create makes a file that was not there and marks it as in use, until it is
	// closed or the process ends.
	create(name string) (temporary, error)
	// abandoned removes a file that nobody has in use.
	abandoned(name string) error
	// link gives a file a second name, which must be free.
	link(from, to string) error
	// unlink removes a file and nothing else, rmdir an empty directory.
	unlink(name string) error
	rmdir(name string) error
	mkdir(name string) error
	open(name string) (file, error)
	// stat does not follow a symbolic link.
	stat(name string) (iofs.FileInfo, error)
	list(name string) ([]iofs.DirEntry, error)
	// syncDir makes the names in a directory durable. A *syncError says that it was
	// tried and failed.
	syncDir(name string) error
	// syncAbove does the same for the folder's own name and what leads to it. isNew
	// says that opening the folder made it.
	syncAbove() error
	isNew() bool
	close() error
}

type file interface {
	io.ReaderAt
	io.Closer
	Stat() (iofs.FileInfo, error)
}

type temporary interface {
	io.WriteCloser
	Sync() error
}

// errSwept says that a file was taken for abandoned while it was made.
var errSwept = errors.New("the file was removed while it was made")

type syncError struct{ err error }

func (e *syncError) Error() string { return "fsync of a directory: " + e.err.Error() }
func (e *syncError) Unwrap() error { return e.err }

// NewFolder returns the store in a directory, which need not be there.
func NewFolder(dir string) *Folder {
	return &Folder{path: path.Clean(dir), open: openRoot}
}

// String implements Store.
func (f *Folder) String() string { return (&url.URL{Scheme: "file", Path: f.path}).String() }

// do runs a call on the folder, and gives its error the form of the package.
func (f *Folder) do(op, key string, makes bool, call func(d disk) error) error {
	d, err := f.open(f.path, makes)
	if err != nil {
		err = kind(err)
	} else {
		// What was done stands, whatever closing the directory says.
		defer func() { _ = d.close() }()
		err = call(d)
	}
	if err != nil {
		return &Error{Op: op, Key: key, Store: f.String(), Err: err}
	}
	return nil
}

// kind tells the kinds of failure of a call that has changed nothing.
func kind(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w; make room, or give it a larger disk or quota", ErrNoSpace, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w; mount it writable", ErrDenied, err)
	case errors.Is(err, iofs.ErrPermission):
		return fmt.Errorf("%w: %w; give the directory to the user of this process", ErrDenied, err)
	case missing(err):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// missing reports whether a name leads to nothing, also because it would lead
// through a file.
func missing(err error) bool {
	return errors.Is(err, iofs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// usable returns the failure of an earlier call that lets none change anything.
func (f *Folder) usable() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failure != nil {
		return fmt.Errorf("%w: %w", ErrFailed, f.failure)
	}
	return nil
}

// Put implements Store.
func (f *Folder) Put(ctx context.Context, key string, body Body) error {
	if err := cmpOr(begin(ctx, key), f.usable()); err != nil {
		return &Error{Op: "put", Key: key, Store: f.String(), Err: err}
	}
	return f.do("put", key, true, func(d disk) error {
		if err := f.sweep(d); err != nil {
			return err
		}
		// Most who put what is there put a large object again: do not write it first.
		if plain(d, path.Dir(key)) == nil {
			if info, err := d.stat(key); err == nil && !info.IsDir() {
				return f.taken(d, key)
			}
		}
		name, t, err := temp(d)
		if err != nil {
			return kind(err)
		}
		// The name goes before the lock that Close gives up, so that none sweeps here.
		defer func() { _, _ = d.unlink(name), t.Close() }()
		if err := body.CopyTo(ctx, t); err != nil {
			return writeKind(err)
		}
		if err := t.Sync(); err != nil {
			return writeKind(err)
		}
		if err := publish(d, name, key); err != nil {
			if errors.Is(err, ErrExists) {
				return f.taken(d, key)
			}
			return err
		}
		return f.durable(d, path.Dir(key))
	})
}

// cmpOr returns the first error.
func cmpOr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// writeKind is kind for what may be an error of the body's own, of whatever file
// that is made: only a full disk is ours for sure.
func writeKind(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return kind(err)
	}
	return err
}

// taken answers a Put whose key is taken, once that is durable.
func (f *Folder) taken(d disk, key string) error {
	if err := f.durable(d, path.Dir(key)); err != nil {
		return err
	}
	return ErrExists
}

// temp makes a file to write an object to. One that a sweep took for abandoned before
// it was locked is the sweep's to remove; another name is tried.
func temp(d disk) (string, temporary, error) {
	for range attempts {
		var id [16]byte
		_, _ = rand.Read(id[:]) // never fails
		name := path.Join(temporaries, hex.EncodeToString(id[:]))
		t, err := d.create(name)
		switch {
		case err == nil:
			return name, t, nil
		case errors.Is(err, errSwept), errors.Is(err, iofs.ErrExist):
		case errors.Is(err, iofs.ErrNotExist):
			if err := d.mkdir(temporaries); err != nil && !errors.Is(err, iofs.ErrExist) {
				return "", nil, err
			}
		default:
			return "", nil, err
		}
	}
	return "", nil, fmt.Errorf("a file in %s was removed %d times while it was made", temporaries, attempts)
}

// publish gives a file that is whole and synced the name of its key. After an error
// the key is as it was.
func publish(d disk, name, key string) error {
	for range attempts {
		err := mkdirs(d, path.Dir(key))
		if err == nil {
			err = d.link(name, key)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, iofs.ErrNotExist):
			// A deletion found the directory empty and removed it.
		case errors.Is(err, iofs.ErrExist):
			info, err := d.stat(key)
			if err == nil && !info.IsDir() {
				return ErrExists
			}
			// An empty directory is what a crash or a deletion left; in one that has
			// objects the removal fails.
			if err == nil && d.rmdir(key) != nil {
				return fmt.Errorf("%w: there are objects below %s", ErrKey, key)
			}
			if err != nil && !errors.Is(err, iofs.ErrNotExist) {
				return kind(err)
			}
		case errors.Is(err, syscall.ENOTDIR):
			return fmt.Errorf("%w: %w", ErrKey, err)
		default:
			return kind(err)
		}
	}
	return fmt.Errorf("the directories of the key were removed %d times while it was put", attempts)
}

// mkdirs makes the directories down to dir. A symbolic link is none.
func mkdirs(d disk, dir string) error {
	for part := range parents(dir) {
		info, err := d.stat(part)
		if errors.Is(err, iofs.ErrNotExist) {
			if err = d.mkdir(part); err == nil || errors.Is(err, iofs.ErrExist) {
				info, err = d.stat(part)
			}
		}
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return &iofs.PathError{Op: "mkdir", Path: part, Err: syscall.ENOTDIR}
		}
	}
	return nil
}

// durable syncs dir and what leads to it. An error is of no kind that would say
// that nothing was changed.
func (f *Folder) durable(d disk, dir string) error {
	if err := f.usable(); err != nil {
		return err
	}
	for {
		// One that is missing was removed since, with all that was in it.
		if err := d.syncDir(dir); err != nil && !missing(err) {
			return f.failed(err)
		}
		if dir == "." {
			return f.root(d)
		}
		dir = path.Dir(dir)
	}
}

// failed makes a failed fsync of a directory the end of all changes.
func (f *Folder) failed(err error) error {
	var failed *syncError
	if !errors.As(err, &failed) {
		return fmt.Errorf("sync the directories of the key: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failure = err
	return fmt.Errorf("%w: %w", ErrFailed, err)
}

// root makes the name of the folder durable, once, whoever made it, and when this
// Folder makes it anew.
func (f *Folder) root(d disk) error {
	f.mu.Lock()
	done := f.rooted && !d.isNew()
	f.mu.Unlock()
	if done {
		return nil
	}
	if err := d.syncAbove(); err != nil {
		return f.failed(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rooted = true
	return nil
}

// sweep removes, once, the temporary files of processes that were killed.
func (f *Folder) sweep(d disk) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.swept {
		return nil
	}
	entries, err := d.list(temporaries)
	if err != nil && !missing(err) {
		return kind(err)
	}
	for _, e := range entries {
		if err := d.abandoned(path.Join(temporaries, e.Name())); err != nil && !missing(err) {
			return kind(err)
		}
	}
	f.swept = true
	return nil
}

// Delete implements Store.
func (f *Folder) Delete(ctx context.Context, keys ...string) error {
	return f.remove(ctx, "delete", keys)
}

// Erase implements Store. What the disk keeps of a removed file, it does not reach.
func (f *Folder) Erase(ctx context.Context, keys ...string) error {
	return f.remove(ctx, "erase", keys)
}

// EraseVersions implements Store: a folder keeps none. What puts that were killed have
// left is removed before a folder is first used.
func (f *Folder) EraseVersions(ctx context.Context, prefix string) (int, error) {
	if err := cmpOr(ctx.Err(), f.usable()); err != nil {
		return 0, &Error{Op: "erase versions of", Key: prefix, Store: f.String(), Err: err}
	}
	return 0, nil
}

func (f *Folder) remove(ctx context.Context, op string, keys []string) error {
	if err := cmpOr(begin(ctx, keys...), f.usable()); err != nil {
		return &Error{Op: op, Key: Several(keys), Store: f.String(), Err: err}
	}
	err := f.do(op, Several(keys), false, func(d disk) error {
		var dirs []string
		for _, key := range keys {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := plain(d, path.Dir(key))
			if errors.Is(err, ErrNotFound) {
				continue
			}
			// One that is missing may have been removed by who has not synced it yet.
			dirs = append(dirs, path.Dir(key))
			if err == nil {
				err = d.unlink(key)
			}
			if err != nil && !missing(err) && !errors.Is(err, syscall.EISDIR) {
				return kind(err)
			}
		}
		slices.Sort(dirs)
		// What is below a directory comes after it, and is removed first.
		for _, dir := range slices.Backward(slices.Compact(dirs)) {
			if err := f.tidy(d, dir); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return nil // there is no folder
	}
	return err
}

// tidy makes removals from a directory durable, and removes it if it is empty, then
// those above it. The kernel decides what is empty: a put that comes in between
// either has its file there already, or makes the directory anew.
func (f *Folder) tidy(d disk, dir string) error {
	if err := f.durable(d, dir); err != nil {
		return err
	}
	for ; dir != "."; dir = path.Dir(dir) {
		if d.rmdir(dir) != nil {
			break
		}
	}
	return f.durable(d, dir)
}
