package purge

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/archive"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/table"
)

// batchBytes is about how much of a state is copied at once.
const batchBytes = 4 << 20

// checkpoint drops a checkpoint, or makes it anew: pair by pair, so that nothing is left
// of what the old files still had of deleted rows.
func (e *execution) checkpoint(ctx context.Context, x *PlannedCheckpoint) (err error) {
	if x.Drop {
		e.replaced = append(e.replaced, archive.Replaced{Old: x.Key})
		return nil
	}
	lacking, ok := e.plan.lacking[x.key]
	if !ok {
		return &UnfitError{fmt.Sprintf("what %s holds was not found out", x.Key)}
	}
	e.o.Note("rewrite %s", x.Key)
	m, err := e.a.Manifest(ctx, x.key)
	if err != nil {
		return err
	}
	copied, err := e.copyState(ctx, &m.Checkpoint, lacking)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.o.FS.RemoveAll(copied)) }()
	if m.Files, err = listFiles(e.o.FS, copied); err != nil {
		return err
	}
	if err := e.a.FreeName(ctx, m.Files); err != nil {
		return err
	}
	m.Bytes = 0
	for i := range m.Files {
		f := &m.Files[i]
		m.Bytes += f.Size
		path := e.o.FS.PathJoin(copied, f.Name)
		body := object.Body{Size: f.Size, SHA256: f.SHA256, Open: func() (io.ReadCloser, error) { return e.o.FS.Open(path, vfs.SequentialReadsOption) }}
		if err := e.o.Store.Put(ctx, f.Key().String(), body); err != nil && !errors.Is(err, object.ErrExists) {
			return err
		}
		e.files[f.Key().String()] = true
	}
	k := e.next(x.key)
	m.Rewrite, m.Purges = archive.RewriteOf(k), e.behind()
	if err := e.a.PutManifest(ctx, e.plan.Instance, &m); err != nil {
		return err
	}
	e.made[k.String()] = true
	e.replaced = append(e.replaced, archive.Replaced{Old: x.Key, New: k.String()})
	return nil
}

// copyState copies a checkpoint's state without some pairs into a directory, which is a
// copy as a node makes it. The counters and the digest in it stay what the log has made
// them: a restore settles both, whatever it begins with.
func (e *execution) copyState(ctx context.Context, c *archive.Checkpoint, without map[string]pair) (dir string, err error) {
	fs := e.o.FS
	old, oldDir, err := e.o.fetch(ctx, e.a, c)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, old.Close(), fs.RemoveAll(oldDir)) }()
	fresh, dir := oldDir+".fresh", oldDir+".copy"
	for _, d := range []string{fresh, dir} {
		if err := fs.RemoveAll(d); err != nil && !isMissing(err) {
			return "", err
		}
	}
	s, err := e.o.openState(fresh, false)
	if err != nil {
		return "", err
	}
	err = copyPairs(ctx, old, s, without)
	if err == nil {
		err = s.SetPurges(e.plan.Instance, e.behind())
	}
	if err == nil {
		err = s.Checkpoint(dir)
	}
	if err := errors.Join(err, s.Close(), fs.RemoveAll(fresh)); err != nil {
		return "", err
	}
	return dir, e.holdState(dir, c, without)
}

// behind is how many purges what is made now is built behind: this one is among them.
func (e *execution) behind() uint64 { return uint64(len(e.plan.survey.Redactions)) + 1 }

func isMissing(err error) bool { return errors.Is(err, iofs.ErrNotExist) }

// copyPairs copies all logged pairs but some, and where the state stands.
func copyPairs(ctx context.Context, from, to *table.Store, without map[string]pair) (err error) {
	at, err := from.Applied()
	if err != nil {
		return err
	}
	lower, upper := table.LoggedRange()
	b := to.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	left := len(without)
	err = each(from, lower, upper, func(key, value []byte) error {
		if p, ok := without[string(key)]; ok {
			if frame.PairHash(key, value) != p.hash {
				return errors.New("a row in the checkpoint is not the one that the log has: restore it to see what is wrong")
			}
			left--
			return nil
		}
		if err := b.Add(&frame.Op{Type: frame.Put, Key: key, Value: value}); err != nil || b.Size() < batchBytes {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return b.Commit(at)
	})
	if err != nil {
		return err
	}
	if left != 0 {
		return fmt.Errorf("the checkpoint lacks %d pairs that the log says it has", left)
	}
	return b.Commit(at)
}

// holdState scans a copied state: its digest must be the recorded one without what
// purges, this one among them, have taken out.
func (e *execution) holdState(dir string, c *archive.Checkpoint, without map[string]pair) (err error) {
	s, err := e.o.openState(dir, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	got, _, err := table.ScanDigest(s)
	if err != nil {
		return err
	}
	want := c.Digest.Sub(intervalOf(without).Delta)
	for _, l := range e.s.Lacks(lsn.Pos{Epoch: c.Epoch, LSN: c.LSN}) {
		want = want.Sub(l.Delta)
	}
	if got != want {
		return &archive.DamagedError{Store: e.o.Store.String(), Key: c.Key().String(), Err: fmt.Errorf("without the rows its state has digest %s, it was to have %s", got, want)}
	}
	return nil
}

// listFiles lists a directory with the hashes of its files.
func listFiles(fs vfs.FS, dir string) ([]archive.File, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	var out []archive.File
	for _, n := range names {
		f, err := hashed(fs, fs.PathJoin(dir, n), n)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(x, y archive.File) int { return cmp.Compare(x.Name, y.Name) })
	return out, nil
}

func hashed(fs vfs.FS, path, name string) (out archive.File, err error) {
	r, err := fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	sum := sha256.New()
	out.Name = name
	if out.Size, err = io.Copy(sum, r); err != nil {
		return out, err
	}
	sum.Sum(out.SHA256[:0])
	return out, nil
}
