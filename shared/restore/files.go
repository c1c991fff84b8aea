package restore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"originchain/shared/archive"
	"originchain/shared/durable"
	"originchain/shared/lsn"
)

// filesInFlight is how many files of a checkpoint are fetched at once.
const filesInFlight = 8

const partSuffix = ".part"

// layOut fetches the files of a checkpoint into dir, each verified, durable under its
// name when it is whole. What an earlier run has left is verified and kept.
func layOut(ctx context.Context, fs vfs.FS, a *archive.Archive, m *archive.Manifest, dir string, advance func(int64)) error {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	if err := removeOthers(fs, m, dir); err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(filesInFlight)
	for i := range m.Files {
		f := &m.Files[i]
		g.Go(func() error {
			kept, err := keptFile(fs, f, fs.PathJoin(dir, f.Name))
			if err == nil && !kept {
				err = again(ctx, func() error { return fetchFile(ctx, fs, a, f, dir) })
			}
			advance(f.Size)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return local(durable.SyncDir(fs, dir))
}

// Files fetches the files of a checkpoint into dir, as a restore does.
func Files(ctx context.Context, fs vfs.FS, a *archive.Archive, m *archive.Manifest, dir string) error {
	return layOut(ctx, fs, a, m, dir, func(int64) {})
}

// local marks an error of this machine's disk.
func local(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errLocal, err)
}

// removeOthers removes what is in dir and not in the checkpoint: the rest of one that
// is not there any more, and files that were not whole.
func removeOthers(fs vfs.FS, m *archive.Manifest, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(m.Files))
	for i := range m.Files {
		known[m.Files[i].Name] = true
	}
	for _, n := range names {
		if known[n] {
			continue
		}
		if err := fs.RemoveAll(fs.PathJoin(dir, n)); err != nil {
			return err
		}
	}
	return nil
}

// keptFile reports a file that is there and is what it must be.
func keptFile(fs vfs.FS, f *archive.File, path string) (_ bool, err error) {
	info, err := fs.Stat(path)
	if errors.Is(err, iofs.ErrNotExist) || err == nil && info.Size() != f.Size {
		return false, nil
	} else if err != nil {
		return false, local(err)
	}
	r, err := fs.Open(path)
	if err != nil {
		return false, local(err)
	}
	defer func() { err = errors.Join(err, local(r.Close())) }()
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		return false, local(err)
	}
	return lsn.Chain(sum.Sum(nil)) == f.SHA256, nil
}

func fetchFile(ctx context.Context, fs vfs.FS, a *archive.Archive, f *archive.File, dir string) (err error) {
	r, err := a.OpenFile(ctx, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	path := fs.PathJoin(dir, f.Name)
	w, err := fs.Create(path+partSuffix, vfs.WriteCategoryUnspecified)
	if err != nil {
		return local(err)
	}
	if err := copyTo(w, r); err != nil {
		return errors.Join(err, w.Close())
	}
	if err := w.Sync(); err != nil {
		return errors.Join(local(err), w.Close())
	}
	if err := w.Close(); err != nil {
		return local(err)
	}
	return local(fs.Rename(path+partSuffix, path))
}

// copyTo copies, and tells what the disk did from what the archive did.
func copyTo(w vfs.File, r io.Reader) error {
	b := make([]byte, blockBytes)
	for {
		n, err := r.Read(b)
		if n > 0 {
			if _, err := w.Write(b[:n]); err != nil {
				return local(err)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
