package table

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/pacing"
)

// Applied says which frame the state stands at. It is stored node-locally, in
// the same batch as the frame's operations.
type Applied struct {
	Pos    lsn.Pos
	Chain  lsn.Chain
	Digest lsn.Digest
	Stamp  int64 // micros, of the frame
}

// appliedKey is node-local: outside the digest, the same on no two nodes.
var appliedKey = append([]byte{areaLocal}, "applied"...)

const appliedSize = 8 + 8 + 32 + lsn.DigestSize + 8

func (a *Applied) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(a.Pos.LSN))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(a.Pos.Epoch))
	dst = append(dst, a.Chain[:]...)
	dst = a.Digest.Append(dst)
	return binary.LittleEndian.AppendUint64(dst, uint64(a.Stamp))
}

func decodeApplied(b []byte) (a Applied, err error) {
	if len(b) != appliedSize {
		return a, fmt.Errorf("applied position: want %d bytes, got %d", appliedSize, len(b))
	}
	a.Pos.LSN = lsn.LSN(binary.LittleEndian.Uint64(b))
	a.Pos.Epoch = lsn.Epoch(binary.LittleEndian.Uint64(b[8:]))
	copy(a.Chain[:], b[16:])
	a.Digest = lsn.DigestFrom(b[48:])
	a.Stamp = int64(binary.LittleEndian.Uint64(b[64:]))
	return a, nil
}

// Options configure a Store.
type Options struct {
	FS  vfs.FS
	Dir string
	Log logrus.FieldLogger
	// ReadOnly opens a state that nothing may change, such as a checkpoint.
	ReadOnly bool
	// CacheBytes and MemtableBytes size Pebble; 0 takes the defaults below.
	CacheBytes    int64
	MemtableBytes uint64
	// OnFailure is told, once, that a flush, compaction or manifest write has
	// failed in the background. The state must then not be used further; what
	// waits for it returns. It must not call the Store; may be nil.
	OnFailure func(error)
}

const (
	defaultCacheBytes    = 128 << 20
	defaultMemtableBytes = 32 << 20
	bloomBitsPerKey      = 10
	maxOpenFiles         = 512
	// From so many tables on level 0 on they are compacted; from so many on
	// writes wait for that.
	l0CompactionThreshold = 4
	l0StopWritesThreshold = 24
	// From so many on their compaction is in a hurry.
	hurryLevel0Tables = 2 * l0CompactionThreshold
)

// Store is the state on disk. Reads see what was applied; Apply is for one
// goroutine at a time.
type Store struct {
	db *pebble.DB
	*guard
	pace *pacing.Pacer
	// level0 is how many tables on level 0 the pacer was told nothing of yet.
	level0 int64
}

// Open opens or creates the state in o.Dir.
func Open(o Options) (*Store, error) {
	g := newGuard(o.OnFailure)
	cacheBytes := o.CacheBytes
	if cacheBytes == 0 {
		cacheBytes = defaultCacheBytes
	}
	cache := pebble.NewCache(cacheBytes)
	defer cache.Unref()
	memtable := cmp.Or(o.MemtableBytes, defaultMemtableBytes)
	pace := pacing.New(int64(memtable/2), hurryLevel0Tables)
	opts := &pebble.Options{
		FS: guardedFS{o.FS, g, pace, o.ReadOnly}, ReadOnly: o.ReadOnly, Cache: cache, MaxOpenFiles: maxOpenFiles,
		// The log is the only log: a second one would only be a second fsync.
		DisableWAL:                  true,
		FormatMajorVersion:          pebble.FormatValueSeparation,
		MemTableSize:                memtable,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       l0CompactionThreshold,
		L0StopWritesThreshold:       l0StopWritesThreshold,
		LBaseMaxBytes:               64 << 20,
		Logger:                      pebbleLog{o.Log, g},
		EventListener:               g.listener(o.Dir),
		CompactionConcurrencyRange:  func() (int, int) { return 1, max(1, runtime.GOMAXPROCS(0)-1) },
	}
	pace.Listen(opts.EventListener)
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBitsPerKey)
	}
	opened := make(chan *pebble.DB, 1)
	err := g.wait(func() error {
		db, err := pebble.Open(o.Dir, opts)
		opened <- db
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open the state in %s: %w", o.Dir, err)
	}
	g.opening.Store(false)
	s := &Store{db: <-opened, guard: g, pace: pace}
	s.level0 = pace.Untold(func() int64 { return s.db.Metrics().Levels[0].TablesCount })
	return s, nil
}

// Pace makes flushes and compactions give way from now on to those who read and
// write, as far as they are not behind. An opening, which waits for them, has
// them run at full speed.
func (s *Store) Pace() {
	s.pace.Start(s.level0)
	s.level0 = 0
}

// StopPacing has flushes and compactions run at full speed again, until Pace.
func (s *Store) StopPacing() { s.pace.Stop() }

// Close closes the state. What is in memory only is replayed from the log at
// the next opening. A state that has failed is left as it stands: Pebble waits
// for work that has been given up.
func (s *Store) Close() error {
	if s.hasFailed() {
		return nil
	}
	s.pace.Stop()
	return s.wait(s.db.Close)
}

// Failure is what OnFailure was told, or is about to be; nil while the state is sound.
func (s *Store) Failure() error {
	if s.hasFailed() {
		return s.err
	}
	return nil
}

// Applied reads which frame the state stands at; the zero value is the empty state.
func (s *Store) Applied() (Applied, error) { return readApplied(s.guard, s.db) }

// Get implements View on the newest applied state.
func (s *Store) Get(key []byte) ([]byte, bool, error) { return get(s.guard, s.db, key) }

// Iter implements View on the state as it is when the iterator is made.
func (s *Store) Iter(lower, upper []byte, reverse bool) (Iterator, error) {
	return iterate(s.guard, s.db, lower, upper, reverse)
}

// Snapshot freezes the applied state until it is closed.
func (s *Store) Snapshot() (*Snapshot, error) {
	snap := s.db.NewSnapshot()
	a, err := readApplied(s.guard, snap)
	if err != nil {
		return nil, errors.Join(err, snap.Close())
	}
	return &Snapshot{snap: snap, applied: a, guard: s.guard}, nil
}

// Flush writes memory to disk: the state then stands at least at the frame that
// was applied when it was called, after any crash.
func (s *Store) Flush() error {
	defer s.pace.Hurry()()
	return s.wait(s.db.Flush)
}

// Checkpoint flushes, in no hurry, and makes a copy in dir by hard links. The copy stands at
// or above the frame applied when it was called; only the copy itself says where.
func (s *Store) Checkpoint(dir string) error {
	return s.wait(func() error {
		if err := s.db.Flush(); err != nil {
			return err
		}
		return s.db.Checkpoint(dir)
	})
}

// DiskBytes is how much disk the state takes.
func (s *Store) DiskBytes() uint64 { return s.db.Metrics().DiskSpaceUsage() }

// Snapshot is a frozen state.
type Snapshot struct {
	snap    *pebble.Snapshot
	applied Applied
	guard   *guard
}

// Applied is the frame the snapshot stands at.
func (s *Snapshot) Applied() Applied { return s.applied }

// Get implements View.
func (s *Snapshot) Get(key []byte) ([]byte, bool, error) { return get(s.guard, s.snap, key) }

// Iter implements View.
func (s *Snapshot) Iter(lower, upper []byte, reverse bool) (Iterator, error) {
	return iterate(s.guard, s.snap, lower, upper, reverse)
}

// Close releases the snapshot.
func (s *Snapshot) Close() error { return s.snap.Close() }

func readApplied(g *guard, r pebble.Reader) (Applied, error) {
	b, ok, err := get(g, r, appliedKey)
	if err != nil || !ok {
		return Applied{}, err
	}
	return decodeApplied(b)
}

func get(g *guard, r pebble.Reader, key []byte) ([]byte, bool, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, g.explain(err)
	}
	out := append(make([]byte, 0, len(v)), v...)
	return out, true, closer.Close()
}

func iterate(g *guard, r pebble.Reader, lower, upper []byte, reverse bool) (Iterator, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, g.explain(err)
	}
	return &pebbleIter{it: it, reverse: reverse, guard: g}, nil
}

// pebbleIter gives Pebble's iterator one direction.
type pebbleIter struct {
	it      *pebble.Iterator
	reverse bool
	begun   bool
	guard   *guard
}

func (i *pebbleIter) Next() bool {
	switch {
	case i.begun && i.reverse:
		return i.it.Prev()
	case i.begun:
		return i.it.Next()
	}
	i.begun = true
	if i.reverse {
		return i.it.Last()
	}
	return i.it.First()
}

func (i *pebbleIter) Key() []byte   { return i.it.Key() }
func (i *pebbleIter) Value() []byte { return i.it.Value() }
func (i *pebbleIter) Err() error    { return i.guard.explain(i.it.Error()) }
func (i *pebbleIter) Close() error  { return i.guard.explain(i.it.Close()) }

// Batch gathers the operations of consecutive frames; Commit applies them and
// the position of the last one together.
type Batch struct {
	s *Store
	b *pebble.Batch
	// latest has the counters that the frames put, one after the other: nobody
	// sees a state inside the batch, so the last of each is enough.
	latest map[string][]byte
	names  []string // its keys, in the order they came first
}

// NewBatch makes an empty Batch.
func (s *Store) NewBatch() *Batch { return &Batch{s: s, b: s.db.NewBatch()} }

// Add adds one operation. Operations apply in the order they are added. It does
// not keep op's bytes.
func (b *Batch) Add(op *frame.Op) error {
	switch {
	case op.Type == frame.Put && isCounterKey(op.Key):
		b.hold(op)
		return nil
	case op.Type == frame.RangeDelete, len(b.names) > 0 && isCounterKey(op.Key):
		// It may take away what was put before it.
		if err := b.settle(); err != nil {
			return err
		}
	}
	switch op.Type {
	case frame.Put:
		return b.b.Set(op.Key, op.Value, nil)
	case frame.Delete:
		return b.b.Delete(op.Key, nil)
	case frame.RangeDelete:
		return b.b.DeleteRange(op.Key, op.End, nil)
	}
	return fmt.Errorf("state: unknown operation %d", op.Type)
}

// hold keeps the newest put of a counter.
func (b *Batch) hold(op *frame.Op) {
	if value, ok := b.latest[string(op.Key)]; ok && len(value) == len(op.Value) {
		copy(value, op.Value)
		return
	}
	if b.latest == nil {
		b.latest = map[string][]byte{}
	}
	name := string(op.Key)
	if _, ok := b.latest[name]; !ok {
		b.names = append(b.names, name)
	}
	b.latest[name] = bytes.Clone(op.Value)
}

// settle puts the counters that were held into the batch.
func (b *Batch) settle() error {
	for _, name := range b.names {
		if err := b.b.Set([]byte(name), b.latest[name], nil); err != nil {
			return err
		}
	}
	clear(b.latest)
	b.names = b.names[:0]
	return nil
}

// Size is the batch's length in bytes.
func (b *Batch) Size() int { return b.b.Len() }

// Commit applies the batch; the state then stands at a. It does not sync: what
// a crash takes away is replayed.
func (b *Batch) Commit(a Applied) error {
	if err := b.settle(); err != nil {
		return err
	}
	if err := b.b.Set(appliedKey, a.append(make([]byte, 0, appliedSize)), nil); err != nil {
		return err
	}
	b.s.pace.Applied(b.b.Len())
	if err := b.s.wait(func() error { return b.s.db.Apply(b.b, pebble.NoSync) }); err != nil {
		return err
	}
	b.b.Reset()
	return nil
}

// Close gives the batch back without applying it.
func (b *Batch) Close() error { return b.b.Close() }

// ScanDigest recomputes the state digest from every key in the view.
func ScanDigest(v View) (lsn.Digest, uint64, error) {
	lower, upper := LoggedRange()
	it, err := v.Iter(lower, upper, false)
	if err != nil {
		return lsn.Digest{}, 0, err
	}
	var d lsn.Digest
	var n uint64
	for it.Next() {
		d = d.Add(frame.PairHash(it.Key(), it.Value()))
		n++
	}
	err = it.Err()
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	return d, n, err
}
