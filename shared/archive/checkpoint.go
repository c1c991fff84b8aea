package archive

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/table"
)

// filesInFlight is how many files of a checkpoint are uploaded at once.
const filesInFlight = 2

// checkpoints is what a shipper knows of checkpoints.
type checkpoints struct {
	trouble trouble
	// one is held while a checkpoint is shipped: retention relies on one epoch
	// making one at a time.
	one sync.Mutex

	mu     sync.Mutex
	hashes map[hashed]lsn.Chain
	newest lsn.LSN
	// at is when the state of the newest one was copied; the start stands in for it.
	at time.Time
}

// hashed names a table of the state. A number is given once in the life of a store,
// and a store is not exchanged while it is open: so within one Shipper, which lives
// no longer than one opening, name and size stand for the content. Nothing of this
// is kept on disk, where a rewound or replaced state could meet it.
type hashed struct {
	name string
	size int64
}

func (c *checkpoints) age(now time.Time) (uint64, float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() {
		return 0, 0
	}
	return uint64(c.newest), max(0, now.Sub(c.at)).Seconds()
}

// complete notes that the archive has a checkpoint at an LSN, of a state that was copied
// at a moment.
func (c *checkpoints) complete(at lsn.LSN, copied time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.newest, c.at = at, copied
}

// Shipped is what the shipping of a checkpoint came to.
type Shipped struct {
	Key CheckpointKey
	// Files and Bytes are those of the checkpoint, NewFiles and NewBytes what of it
	// was not in the archive before.
	Files, NewFiles int
	Bytes, NewBytes int64
	// Present says that the archive had this checkpoint already.
	Present bool
}

// ShipCheckpoint uploads the copy of the state in dir, which stands at and is closed
// and changed by nobody, and then its manifest. committed is the commit LSN: a copy
// above it is ErrAboveCommit. It returns when the checkpoint is in the archive, or
// ctx ends, or a retry cannot help; what was uploaded by then is not uploaded again
// by the next one.
func (s *Shipper) ShipCheckpoint(ctx context.Context, dir string, at table.Applied, committed func() lsn.LSN) (Shipped, error) {
	// The copy is as old as this call: its upload may take hours, and makes it no newer.
	copied := s.deps.Now()
	s.checkpoints.one.Lock()
	defer s.checkpoints.one.Unlock()
	out := Shipped{Key: CheckpointKey{LSN: at.Pos.LSN, Epoch: at.Pos.Epoch}}
	if !out.Key.valid() {
		return out, errors.New("ship a checkpoint: the state is empty, there is nothing to copy")
	}
	// Retention takes it that an epoch makes one checkpoint at a time, which only its
	// own writer can see to.
	if at.Pos.Epoch != s.cfg.Epoch {
		return out, fmt.Errorf("ship a checkpoint at LSN %d of epoch %d: %w", at.Pos.LSN, at.Pos.Epoch, ErrNotOwnEpoch)
	}
	if limit := committed(); at.Pos.LSN > limit {
		return out, fmt.Errorf("ship a checkpoint at LSN %d, commit LSN %d: %w", at.Pos.LSN, limit, ErrAboveCommit)
	}
	// The archive takes nothing of an epoch that has no object.
	if !s.connected.Load() {
		return out, fmt.Errorf("ship a checkpoint: %w", ErrNotConnected)
	}
	var found broken
	err := s.retry(ctx, &s.checkpoints.trouble, 0, func(ctx context.Context) (err error) {
		if err := s.purged(ctx); err != nil {
			return err
		}
		out.Present, err = s.hasCheckpoint(ctx, out.Key)
		return found.is(out.Key, err)
	})
	if err != nil || out.Present {
		if out.Present {
			s.checkpoints.complete(at.Pos.LSN, copied)
		}
		return out, err
	}
	files, err := s.hashFiles(ctx, dir)
	if err != nil {
		return out, fmt.Errorf("ship a checkpoint: %w", err)
	}
	u := &upload{s: s, dir: dir, at: at, files: files, copied: copied, out: &out}
	if err := u.run(ctx); err != nil {
		return out, fmt.Errorf("ship the checkpoint at LSN %d: %w", at.Pos.LSN, err)
	}
	s.checkpoints.complete(at.Pos.LSN, copied)
	return out, nil
}

// ErrIncomplete says that something removed, or damaged, what a checkpoint is made of,
// while it was made or since. Nothing of the product does; the next checkpoint, of a
// state that has gone on, is whole again.
var ErrIncomplete = errors.New("the checkpoint was taken apart while it was made, or since")

// maxBroken is how often a checkpoint that is there must be found damaged to be that: what
// is read may be damaged on its way.
const maxBroken = 24

// broken counts how often one was.
type broken struct{ tries int }

// is makes an ErrIncomplete of what is wrong with a checkpoint that is there: to try the
// same place for ever would hold up all that come after it.
func (b *broken) is(k CheckpointKey, err error) error {
	if errors.As(err, new(*DamagedError)) {
		b.tries++
	}
	if b.tries >= maxBroken || errors.As(err, new(*MissingError)) {
		return fmt.Errorf("%w: %s: %w", ErrIncomplete, k, err)
	}
	return err
}

var errGone = errors.New("its manifest is gone")

// ErrNotOwnEpoch says that the copy holds no frame of the writer's epoch yet.
var ErrNotOwnEpoch = errors.New("the writer's own epoch is not visible yet; try again when it is")

// ErrNotConnected says that the archive was not reached since the start.
var ErrNotConnected = errors.New("the archive has not been reached yet; try again when it has")

// hasCheckpoint reports a manifest whose files are all there.
func (s *Shipper) hasCheckpoint(ctx context.Context, k CheckpointKey) (bool, error) {
	m, err := s.a.Manifest(ctx, k)
	var missing *MissingError
	if errors.As(err, &missing) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	err = s.a.Complete(ctx, &m)
	return err == nil, err
}

// Complete reports whether every file of a checkpoint is in the archive, with its
// size; a *MissingError or *DamagedError names one that is not.
func (a *Archive) Complete(ctx context.Context, m *Manifest) error {
	there, err := a.files(ctx)
	if err != nil {
		return err
	}
	for i := range m.Files {
		f := &m.Files[i]
		switch size, ok := there[f.Key()]; {
		case !ok:
			return &MissingError{Store: a.store.String(), Key: f.Key().String()}
		case size != f.Size:
			return a.damaged(f.Key(), fmt.Errorf("it has %d bytes, %s has %d in %s", size, f.Name, f.Size, m.Key()))
		}
	}
	return nil
}

// files lists the files of all checkpoints and their sizes.
func (a *Archive) files(ctx context.Context) (map[FileKey]int64, error) {
	list, err := keys[FileKey](ctx, a, objectPrefix, "", nil)
	if err != nil {
		return nil, err
	}
	there := make(map[FileKey]int64, len(list))
	for _, k := range list {
		there[k.Key] = k.Size
	}
	return there, nil
}

// hashFiles lists the files in dir with the hashes of their content.
func (s *Shipper) hashFiles(ctx context.Context, dir string) ([]File, error) {
	fs := s.deps.FS
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var files []File
	for _, name := range names {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		path := fs.PathJoin(dir, name)
		info, err := fs.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("stat %s: %w", path, err)
		}
		if info.IsDir() {
			return nil, fmt.Errorf("%s is a directory; a copy of the state has none", path)
		}
		f := File{Name: name, Size: info.Size()}
		if f.SHA256, err = s.hashFile(path, f); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(x, y File) int { return cmp.Compare(x.Name, y.Name) })
	if len(files) == 0 || len(files) > maxFiles {
		return nil, fmt.Errorf("%s has %d files, it can be 1 to %d", dir, len(files), maxFiles)
	}
	return files, nil
}

func (s *Shipper) hashFile(path string, f File) (lsn.Chain, error) {
	c := &s.checkpoints
	name := hashed{f.Name, f.Size}
	immutable := strings.HasSuffix(f.Name, ".sst") || strings.HasSuffix(f.Name, ".blob")
	if immutable {
		c.mu.Lock()
		sum, ok := c.hashes[name]
		c.mu.Unlock()
		if ok {
			return sum, nil
		}
	}
	sum, err := sumFile(s.deps.FS, path, f.Size)
	if err != nil || !immutable {
		return sum, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hashes == nil {
		c.hashes = make(map[hashed]lsn.Chain)
	}
	c.hashes[name] = sum
	return sum, nil
}

func sumFile(fs vfs.FS, path string, size int64) (sum lsn.Chain, err error) {
	f, err := fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return sum, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return sum, fmt.Errorf("read %s: %w", path, err)
	}
	if n != size {
		return sum, fmt.Errorf("read %s: it has %d bytes, it had %d a moment ago", path, n, size)
	}
	h.Sum(sum[:0])
	return sum, nil
}

// forgetHashes keeps of the hashes those of files that the newest checkpoint has.
func (c *checkpoints) forgetHashes(files []File) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := make(map[hashed]bool, len(files))
	for i := range files {
		now[hashed{files[i].Name, files[i].Size}] = true
	}
	for name := range c.hashes {
		if !now[name] {
			delete(c.hashes, name)
		}
	}
}

// upload is one checkpoint on its way.
type upload struct {
	s     *Shipper
	dir   string
	at    table.Applied
	files []File
	// copied is when the state was copied.
	copied time.Time
	out    *Shipped
	found  broken
}

// run uploads in an order that a sweep cannot break; DESIGN.md has the argument.
func (u *upload) run(ctx context.Context) error {
	s := u.s
	nonce, err := u.nonce()
	if err != nil {
		return err
	}
	step := func(size int64, do func(context.Context) error) error {
		return s.retry(ctx, &s.checkpoints.trouble, size, do)
	}
	// 1. Announce the contents: a sweep that looks from here on spares them.
	if err := step(0, func(ctx context.Context) error { return u.announce(ctx, nonce) }); err != nil {
		return err
	}
	// 2. Look which names a sweep had condemned before, and take none of them.
	var there map[FileKey]int64
	if err := step(0, func(ctx context.Context) (err error) {
		there, err = u.choose(ctx)
		return err
	}); err != nil {
		return err
	}
	// 3. Upload what is not there.
	g, inner := errgroup.WithContext(ctx)
	g.SetLimit(filesInFlight)
	begun := make(map[FileKey]bool)
	for i := range u.files {
		f := &u.files[i]
		u.out.Files++
		u.out.Bytes += f.Size
		if size, ok := there[f.Key()]; ok && size == f.Size || begun[f.Key()] {
			continue
		}
		begun[f.Key()] = true
		u.out.NewFiles++
		u.out.NewBytes += f.Size
		g.Go(func() error {
			return s.retry(inner, &s.checkpoints.trouble, f.Size, func(ctx context.Context) error { return u.file(ctx, f) })
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	// 4. The manifest comes last: what has one is complete.
	if err := step(0, u.publish); err != nil {
		return err
	}
	s.checkpoints.forgetHashes(u.files)
	return nil
}

func (u *upload) nonce() (uint32, error) {
	text, err := u.s.claim.nonce()
	if err != nil {
		return 0, err
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(raw), nil
}

func (u *upload) announce(ctx context.Context, nonce uint32) error {
	p := Pending{Head: u.s.newHead(), LSN: u.at.Pos.LSN, Epoch: u.at.Pos.Epoch, Node: u.s.cfg.Node, Time: u.s.now(), Purges: u.s.cfg.Purges}
	for i := range u.files {
		p.SHA256 = append(p.SHA256, u.files[i].SHA256)
	}
	// A name that is taken is ours, by a try whose answer was lost: the nonce is.
	k := PendingKey{CheckpointKey: CheckpointKey{LSN: p.LSN, Epoch: p.Epoch}, Nonce: nonce}
	_, err := u.s.a.putDocument(ctx, k, &p)
	return err
}

// choose gives each content a name that no sweep has condemned, and nothing else has
// taken, and returns what is there. It is called after announce, and not before.
func (u *upload) choose(ctx context.Context) (map[FileKey]int64, error) {
	condemned, err := u.s.a.condemned(ctx)
	if err != nil {
		return nil, err
	}
	there, err := u.s.a.files(ctx)
	if err != nil {
		return nil, err
	}
	for i := range u.files {
		f := &u.files[i]
		for f.Generation = 0; ; f.Generation++ {
			size, taken := there[f.Key()]
			if !condemned[f.Key()] && (!taken || size == f.Size) {
				break
			}
		}
	}
	return there, nil
}

// condemned are the names of files that a sweep or a purge may have removed, or may yet.
func (a *Archive) condemned(ctx context.Context) (map[FileKey]bool, error) {
	list, err := keys[BoundaryKey](ctx, a, boundaryPrefix, "", nil)
	if err != nil {
		return nil, err
	}
	out := make(map[FileKey]bool)
	for _, k := range list {
		b, err := a.boundary(ctx, k.Key)
		if err != nil {
			return nil, err
		}
		for _, name := range b.Condemned {
			if k, err := ParseKey(name); err == nil {
				out[k.(FileKey)] = true
			}
		}
	}
	purges, err := a.redactions(ctx)
	if err != nil {
		return nil, err
	}
	for i := range purges {
		for _, name := range purges[i].Erased {
			if k, err := ParseKey(name); err == nil {
				if k, ok := k.(FileKey); ok {
					out[k] = true
				}
			}
		}
	}
	return out, nil
}

// file uploads one. Its name is its content's: who was there before put the same.
func (u *upload) file(ctx context.Context, f *File) error {
	path := u.s.deps.FS.PathJoin(u.dir, f.Name)
	body := object.Body{Size: f.Size, SHA256: f.SHA256, Open: func() (io.ReadCloser, error) { return u.s.deps.FS.Open(path, vfs.SequentialReadsOption) }}
	return u.s.put(ctx, f.Key(), body, kindCheckpoint, func(context.Context) error { return nil })
}

func (u *upload) publish(ctx context.Context) error {
	s := u.s
	if err := s.standing(ctx); err != nil {
		return err
	}
	m := Manifest{Checkpoint: Checkpoint{
		Head: s.newHead(), LSN: u.at.Pos.LSN, Epoch: u.at.Pos.Epoch, Chain: u.at.Chain, Digest: u.at.Digest, Stamp: u.at.Stamp,
		Node: s.cfg.Node, Time: moment(u.copied), Bytes: u.out.Bytes, Purges: s.cfg.Purges,
	}, Files: u.files}
	if _, err := s.a.putDocument(ctx, m.Key(), &m); err != nil {
		return err
	}
	// A name that is taken is ours by a lost answer, or one of the same state: whose
	// files it names is looked at, since ours are not the ones that count then.
	ok, err := s.hasCheckpoint(ctx, m.Key())
	if err == nil && !ok {
		return fmt.Errorf("%w: %s: %w", ErrIncomplete, m.Key(), errGone)
	} else if err != nil {
		return u.found.is(m.Key(), err)
	}
	// A purge may have come to its end meanwhile: then the checkpoint does not count.
	if err := s.purged(ctx); err != nil {
		return err
	}
	return u.above(ctx)
}

// above is ErrSuperseded if retention had gone past the checkpoint before it was
// there: a sweep counts it no more, and its files may go.
func (u *upload) above(ctx context.Context) error {
	b, err := u.s.a.newestBoundary(ctx)
	if err != nil || b == nil {
		return err
	}
	if b.Highest < u.at.Pos.Epoch || slices.ContainsFunc(b.Kept, func(k KeptFrom) bool { return k.Epoch == u.at.Pos.Epoch && k.From <= u.at.Pos.LSN+1 }) {
		return nil
	}
	return fmt.Errorf("%w: %s, boundary %d", ErrSuperseded, CheckpointKey{LSN: u.at.Pos.LSN, Epoch: u.at.Pos.Epoch}, b.Number)
}
