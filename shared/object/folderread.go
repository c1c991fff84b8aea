package object

import (
	"context"
	"errors"
	"io"
	"iter"
	"path"
	"slices"
	"strings"
	"time"
)

// Get implements Store.
func (f *Folder) Get(ctx context.Context, key string, off, n int64) (r io.ReadCloser, err error) {
	err = f.read(ctx, "get", key, func(d disk) error {
		file, err := d.open(key)
		if err != nil {
			return kind(err)
		}
		info, err := file.Stat()
		if err == nil && !info.Mode().IsRegular() {
			err = ErrNotFound
		}
		if err == nil {
			n, err = Range(off, n, info.Size())
		}
		if err != nil {
			return errors.Join(err, file.Close())
		}
		r = Exactly(&section{interruptible{ctx, io.NewSectionReader(file, off, n)}, file}, n, nil)
		return nil
	})
	return r, err
}

type section struct {
	interruptible
	io.Closer
}

// Stat implements Store.
func (f *Folder) Stat(ctx context.Context, key string) (info Info, err error) {
	err = f.read(ctx, "stat", key, func(d disk) error {
		i, err := d.stat(key)
		if err == nil && !i.Mode().IsRegular() {
			err = ErrNotFound
		}
		if err != nil {
			return kind(err)
		}
		info = Info{Key: key, Size: i.Size()}
		return nil
	})
	return info, err
}

// read runs a call that reads an object, if no symbolic link leads to it: under two
// keys an object would be deleted by one that still has the other.
func (f *Folder) read(ctx context.Context, op, key string, call func(d disk) error) error {
	if err := begin(ctx, key); err != nil {
		return &Error{Op: op, Key: key, Store: f.String(), Err: err}
	}
	return f.do(op, key, false, func(d disk) error {
		if err := plain(d, path.Dir(key)); err != nil {
			return kind(err)
		}
		return call(d)
	})
}

// plain returns an error unless all that leads to a directory, from the top, and
// itself are directories; the error is ErrNotFound where one is something else.
func plain(d disk, dir string) error {
	for part := range parents(dir) {
		info, err := d.stat(part)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return ErrNotFound
		}
	}
	return nil
}

// parents are the directories that lead to dir, from the top, and itself; those of
// "." are none.
func parents(dir string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range len(dir) {
			if dir[i] == '/' && !yield(dir[:i]) {
				return
			}
		}
		if dir != "." {
			yield(dir)
		}
	}
}

// List implements Store. It reads the directories that lead to the prefix, and those
// that hold what it returns, each as a whole: of a long list Each costs less.
func (f *Folder) List(ctx context.Context, prefix, after string, limit int) (found []Info, err error) {
	if err := CheckLimit(limit); err != nil {
		return nil, &Error{Op: "list", Key: prefix, Store: f.String(), Err: err}
	}
	err = f.walk(ctx, prefix, after, func(info Info) bool {
		found = append(found, info)
		return len(found) < limit
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// Each implements Walker: it reads each directory once, however many objects are in it.
func (f *Folder) Each(ctx context.Context, prefix, after string, visit func(Info) error) (err error) {
	failed := f.walk(ctx, prefix, after, func(info Info) bool {
		err = visit(info)
		return err == nil
	})
	return cmpOr(err, failed)
}

// walk gives what is listed to take, until it wants no more.
func (f *Folder) walk(ctx context.Context, prefix, after string, take func(Info) bool) error {
	if err := ctx.Err(); err != nil {
		return &Error{Op: "list", Key: prefix, Store: f.String(), Err: err}
	}
	l := lister{ctx: ctx, prefix: prefix, after: after, take: take}
	err := f.do("list", prefix, false, func(d disk) error {
		l.disk = d
		start := path.Dir(prefix + "x") // the directory that all of it is in
		if start != "." && (CheckKey(start) != nil || !strings.HasPrefix(prefix, start+"/")) {
			return nil // no key begins like that
		}
		if err := plain(d, start); err != nil {
			return kind(err)
		}
		if start == "." {
			return l.walk("")
		}
		return l.walk(start + "/")
	})
	if errors.Is(err, ErrNotFound) {
		return nil // there is no folder, or no such directory in it
	}
	return err
}

type lister struct {
	ctx           context.Context
	disk          disk
	prefix, after string
	// take wants more while it returns true; then over is set.
	take func(Info) bool
	over bool
}

// walk lists what is below a directory, named with a slash at its end ("" is the
// folder), in the order of keys: a directory stands where its name and a slash
// would, after a-b and a.b and before a0.
func (l *lister) walk(dir string) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	entries, err := l.disk.list(path.Clean(dir + "."))
	if missing(err) {
		return nil
	} else if err != nil {
		return kind(err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		name := dir + e.Name()
		if CheckKey(name) != nil || (!e.IsDir() && !e.Type().IsRegular()) {
			continue
		}
		if e.IsDir() {
			name += "/"
		}
		if l.wants(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := l.visit(name); err != nil || l.over {
			return err
		}
	}
	return nil
}

// wants reports whether a key, or one below a directory, can be in the list.
func (l *lister) wants(name string) bool {
	if !strings.HasSuffix(name, "/") {
		return strings.HasPrefix(name, l.prefix) && name > l.after
	}
	return (strings.HasPrefix(name, l.prefix) || strings.HasPrefix(l.prefix, name)) &&
		(name > l.after || strings.HasPrefix(l.after, name))
}

func (l *lister) visit(name string) error {
	if strings.HasSuffix(name, "/") {
		return l.walk(name)
	}
	if err := l.ctx.Err(); err != nil {
		return err // of a large directory nobody waits for the rest
	}
	info, err := l.disk.stat(name)
	switch {
	case missing(err): // deleted since
		return nil
	case err != nil:
		return kind(err)
	case info.Mode().IsRegular():
		l.over = !l.take(Info{Key: name, Size: info.Size()})
	}
	return nil
}

// Now implements Store: it is when the file system says that a file was written which is
// made for that. Of a share that is the clock of its server; of a folder on this
// machine's own disk it is this machine's, and no second one.
func (f *Folder) Now(ctx context.Context) (now time.Time, err error) {
	if err := cmpOr(ctx.Err(), f.usable()); err != nil {
		return now, &Error{Op: "now", Store: f.String(), Err: err}
	}
	err = f.do("now", "", true, func(d disk) error {
		name, t, err := temp(d)
		if err != nil {
			return kind(err)
		}
		// The name goes before the lock that Close gives up, so that none sweeps here.
		defer func() { _, _ = d.unlink(name), t.Close() }()
		if _, err := t.Write([]byte{0}); err != nil {
			return writeKind(err)
		}
		if err := t.Sync(); err != nil {
			return writeKind(err)
		}
		info, err := d.stat(name)
		if err != nil {
			return kind(err)
		}
		now = info.ModTime()
		return nil
	})
	return now, err
}
