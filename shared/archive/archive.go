package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/oklog/ulid/v2"

	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/wal"
)

// Archive reads an archive. Its methods may be called at the same time.
//
// Errors name the object: *MissingError, *DamagedError, *ForeignError, *NewerError;
// any other is the store's own, and may pass.
type Archive struct {
	store object.Store
	known boundaries
	// heads and epochs are nil but for Remembering.
	heads  *kept[CheckpointKey, Checkpoint]
	epochs *kept[EpochKey, Epoch]
}

// New returns the archive in a store, which has it for itself.
func New(store object.Store) *Archive { return &Archive{store: store} }

// Store is where the archive is.
func (a *Archive) Store() object.Store { return a.store }

// Instance says whose archive it is; a *MissingError where there is none yet.
func (a *Archive) Instance(ctx context.Context) (Instance, error) {
	var d Instance
	err := a.read(ctx, InstanceKey{}, maxDocumentBytes, &d)
	return d, err
}

// Epoch reads the object of an epoch.
func (a *Archive) Epoch(ctx context.Context, k EpochKey) (Epoch, error) {
	var d Epoch
	err := a.read(ctx, k, maxDocumentBytes, &d)
	if err == nil && d.Epoch != k.Epoch {
		err = a.damaged(k, fmt.Errorf("it is of epoch %d", d.Epoch))
	}
	return d, err
}

// Manifest reads a checkpoint with its files.
func (a *Archive) Manifest(ctx context.Context, k CheckpointKey) (Manifest, error) {
	var d Manifest
	err := a.read(ctx, k, maxManifestBytes, &d)
	if err == nil && d.Key() != k {
		err = a.damaged(k, fmt.Errorf("it is of %s", d.Key()))
	}
	return d, err
}

// read reads a whole document.
func (a *Archive) read(ctx context.Context, k Key, limit int64, into document) error {
	b, err := a.bytes(ctx, k, limit)
	if err != nil {
		return err
	}
	return a.decoded(k, decode(b, k.String(), into))
}

// decoded turns what a decoder objects to into an error that names the object.
func (a *Archive) decoded(k Key, err error) error {
	var newer *NewerError
	if err == nil || errors.As(err, &newer) {
		return err
	}
	return a.damaged(k, err)
}

// bytes reads a small object.
func (a *Archive) bytes(ctx context.Context, k Key, limit int64) (_ []byte, err error) {
	r, err := a.open(ctx, k, 0, -1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, a.unread(k, err)
	}
	if int64(len(b)) > limit {
		return nil, a.damaged(k, fmt.Errorf("it has more than %d bytes", limit))
	}
	return b, nil
}

func (a *Archive) open(ctx context.Context, k Key, off, n int64) (io.ReadCloser, error) {
	r, err := a.store.Get(ctx, k.String(), off, n)
	if errors.Is(err, object.ErrNotFound) {
		return nil, &MissingError{Store: a.store.String(), Key: k.String()}
	}
	return r, err
}

// unread is the error of a reader. What the store says of its own content is
// damage; all else is a connection that broke.
func (a *Archive) unread(k Key, err error) error {
	if errors.Is(err, object.ErrContent) {
		return a.damaged(k, err)
	}
	return fmt.Errorf("read %s in %s: %w", k, a.store, err)
}

func (a *Archive) damaged(k Key, err error) error {
	return &DamagedError{Store: a.store.String(), Key: k.String(), Err: err}
}

// OpenFile reads a file of a checkpoint. The reader holds it against its size and
// hash, and fails with a *DamagedError rather than tell a wrong end.
func (a *Archive) OpenFile(ctx context.Context, f *File) (io.ReadCloser, error) {
	r, err := a.open(ctx, f.Key(), 0, -1)
	if err != nil {
		return nil, err
	}
	return newChecked(a, f, r), nil
}

// OpenSegment reads a sealed segment; instance is whose it must be.
func (a *Archive) OpenSegment(ctx context.Context, k SegmentKey, instance ulid.ULID) (*Frames, error) {
	return a.openFrames(ctx, k, extent{epoch: k.Epoch, first: k.First, last: k.Last, sealed: true}, instance)
}

// OpenPart reads a run of frames of the segment that was open. Its bytes are those
// of a segment without a footer that begins with the first frame of the run.
func (a *Archive) OpenPart(ctx context.Context, k PartKey, instance ulid.ULID) (*Frames, error) {
	return a.openFrames(ctx, k, extent{epoch: k.Epoch, first: k.From, last: k.To}, instance)
}

func (a *Archive) openFrames(ctx context.Context, k Key, want extent, instance ulid.ULID) (*Frames, error) {
	r, err := a.open(ctx, k, 0, -1)
	if err != nil {
		return nil, err
	}
	return a.newFrames(k, want, instance, r)
}

// newFrames reads an object from wherever its bytes come.
func (a *Archive) newFrames(k Key, want extent, instance ulid.ULID, r io.ReadCloser) (*Frames, error) {
	f := &Frames{a: a, key: k, want: want, src: &sticky{r: r}}
	if err := f.begin(instance); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// extent is what the name of an object says of its frames.
type extent struct {
	epoch       lsn.Epoch
	first, last lsn.LSN
	sealed      bool
}

// Frames gives the frames of an object one by one, each verified as a Reader of
// package wal does: CRC, LSN, epoch, stamp, chain, digest, and the footer with its
// SHA-256 at the end. One goroutine uses it.
type Frames struct {
	a    *Archive
	key  Key
	want extent
	src  *sticky
	raw  *expander
	s    *wal.Stream
}

func (f *Frames) begin(instance ulid.ULID) (err error) {
	if f.raw, err = expand(f.src); err != nil {
		return f.explain(err)
	}
	if f.s, err = wal.NewStream(f.key.String(), f.raw, f.raw.size); err != nil {
		return f.explain(err)
	}
	h := f.s.Header()
	switch {
	case h.Instance != instance:
		return &ForeignError{Store: f.a.store.String(), Key: f.key.String(), Theirs: h.Instance, Ours: instance}
	case h.Epoch != f.want.epoch || h.First != f.want.first:
		return f.a.damaged(f.key, fmt.Errorf("it begins at LSN %d of epoch %d", h.First, h.Epoch))
	}
	return nil
}

// Header is that of the segment.
func (f *Frames) Header() frame.SegmentHeader { return f.s.Header() }

// Footer is that of a segment once Next has returned io.EOF.
func (f *Frames) Footer() *frame.Footer { return f.s.Footer() }

// Tail is the state after the frame that Next returned last.
func (f *Frames) Tail() wal.Tail { return f.s.Tail() }

// Raw is the frame that Next returned last, as a segment with this Header holds it
// at the place where it stands; valid until the following call.
func (f *Frames) Raw() []byte { return f.s.Raw() }

// Size is how many bytes header, frames and footer have.
func (f *Frames) Size() int64 { return f.raw.size }

// Next returns the next frame; it and its Body are valid until the following call.
// io.EOF says that all of the object was read and found good.
func (f *Frames) Next() (*frame.Frame, error) {
	fr, err := f.s.Next()
	switch {
	case err == nil:
		return fr, nil
	case !errors.Is(err, io.EOF):
		return nil, f.explain(err)
	}
	if err := f.raw.end(); !errors.Is(err, io.EOF) {
		return nil, f.explain(err)
	}
	if last := f.s.Tail().Pos.LSN; last != f.want.last || (f.s.Footer() != nil) != f.want.sealed {
		return nil, f.a.damaged(f.key, fmt.Errorf("it ends at LSN %d, sealed: %t", last, f.s.Footer() != nil))
	}
	return nil, io.EOF
}

// Close ends the reading.
func (f *Frames) Close() error {
	if f.s != nil {
		f.s.Close()
	}
	if f.raw != nil {
		return f.raw.Close()
	}
	return f.src.Close()
}

// explain tells an object that is damaged from one whose transfer broke off.
func (f *Frames) explain(err error) error {
	if broken := f.src.err; broken != nil && !errors.Is(broken, io.EOF) {
		return f.a.unread(f.key, broken)
	}
	var newer *frame.NewerError
	var corrupt *fault.Corruption
	if errors.As(err, &newer) && !errors.As(err, &corrupt) {
		return fmt.Errorf("%s in %s: %w", f.key, f.a.store, err)
	}
	return f.a.damaged(f.key, err)
}

// sticky remembers how a transfer ended, which a decoder would tell as its own fault.
type sticky struct {
	r   io.ReadCloser
	err error
}

// Read implements io.Reader.
func (s *sticky) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

// Close implements io.Closer.
func (s *sticky) Close() error { return s.r.Close() }

// HighestEpoch is the newest epoch that the archive knows of, 0 for none.
func (a *Archive) HighestEpoch(ctx context.Context) (highest lsn.Epoch, err error) {
	list, err := keys[EpochKey](ctx, a, epochPrefix, "", nil)
	for _, k := range list {
		highest = max(highest, k.Key.Epoch)
	}
	return highest, err
}

// Began reports that there is data in the archive. It lists next to nothing.
func (a *Archive) Began(ctx context.Context) (bool, error) {
	for _, prefix := range []string{logPrefix, tailPrefix, checkpointPrefix} {
		began := false
		err := a.each(ctx, prefix, "", func(info object.Info) error {
			if _, err := ParseKey(info.Key); err == nil {
				began = true
				return errEnough
			}
			return nil
		})
		switch {
		case began:
			return true, nil
		case err != nil:
			return false, err
		}
	}
	return false, nil
}

// errEnough ends a listing.
var errEnough = errors.New("no more is needed")
