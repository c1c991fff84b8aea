// Package wal is the durable log: segment files in one directory, written by
// one appender, read by many. What it promises:
//
//   - A frame at or below Durable survives any crash; Durable advances by one
//     fdatasync per group and never retreats.
//   - A log that opens is whole: dense LSNs, one unbroken chain, one instance.
//     A torn tail that nobody was told about is cut; anything else that is
//     wrong refuses to open and says how to restore.
//   - After the first failed write or fsync nothing more is written or
//     acknowledged. A second fsync may succeed without the data, so none is
//     tried.
//
// All files go through a vfs.FS, so that one crashing, failing disk in tests
// stands below log and state. docs/FORMATS.md draws the bytes; DESIGN.md here
// tells the order of disk calls and what was refused.
package wal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"originchain/shared/frame"
	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"
)

// Limits and defaults.
const (
	// DefaultSegmentBytes is the size at which a segment is sealed.
	DefaultSegmentBytes = 64 << 20
	// MinSegmentBytes refuses a size that was meant in another unit. A frame
	// larger than a segment still fits: it gets a segment of its own.
	MinSegmentBytes = 4 << 10
	// DefaultSegmentMaxAge is the age at which a segment with frames is sealed.
	DefaultSegmentMaxAge = time.Minute
)

// Errors callers decide on.
var (
	// ErrFailed wraps the first failed write or fsync, for ever after.
	ErrFailed = errors.New("the log has failed and takes no more writes; restart the process")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the log is closed")
	// ErrReadOnly is returned by every write to a log opened ReadOnly.
	ErrReadOnly = errors.New("the log is open for reading only")
	// ErrRemoved says that the LSN asked for is older than the oldest segment.
	ErrRemoved = errors.New("the log no longer holds this LSN; start from a checkpoint")
	// ErrBadChunk says that a chunk to copy is no run of frames of a good log: it
	// was damaged on its way, or where it came from.
	ErrBadChunk = errors.New("the chunk is no run of a good log")
	// ErrGap says that a chunk to copy begins behind the end of the log.
	ErrGap = errors.New("the chunk does not reach down to the end of the log")
	// ErrFork says that a chunk to copy has another history than the log.
	ErrFork = errors.New("the log has another history: find the fork and set aside what is above it")
)

// Options configure a Log. FS, Dir, Instance and Log are required.
type Options struct {
	FS  vfs.FS
	Dir string
	// Instance is the identity every segment carries; another one's log is refused.
	Instance [16]byte
	// SegmentBytes is the size at which a segment is sealed; 0 is DefaultSegmentBytes.
	SegmentBytes int64
	// SegmentMaxAge is the distance between the stamps of a segment's first
	// frame and the present at which it is sealed; 0 is DefaultSegmentMaxAge.
	SegmentMaxAge time.Duration
	Log           logrus.FieldLogger
	// SyncObserver is told how long each fdatasync of the commit path took; may be nil.
	SyncObserver func(time.Duration)
	// ReadOnly opens without a change to the directory: no fsync, no cut. The
	// caller must know that no writer has it open.
	ReadOnly bool
	// NoPreallocate leaves out zeroing the next segment ahead, and with it the
	// log's only goroutine: for file systems that copy on write, where zeros
	// bring nothing, and for simulations that replay each disk call.
	NoPreallocate bool
	// Rand is the source of segment seeds; nil is crypto/rand.
	Rand io.Reader
	// Base is where a log that holds no segment goes on: behind a frame that the
	// state has and no file here, as a restore leaves it. Zero: such a log is empty.
	Base Tail
}

func (o *Options) complete() error {
	var faults []error
	if o.FS == nil || o.Dir == "" || o.Log == nil {
		faults = append(faults, errors.New("a log needs a file system, a directory and a logger"))
	}
	if o.Instance == ([16]byte{}) {
		faults = append(faults, errors.New("a log needs an instance id"))
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	if o.SegmentBytes < MinSegmentBytes {
		faults = append(faults, fmt.Errorf("segment size %d bytes is too small, the least is %d: the unit is bytes", o.SegmentBytes, MinSegmentBytes))
	}
	if o.SegmentMaxAge == 0 {
		o.SegmentMaxAge = DefaultSegmentMaxAge
	}
	if o.SegmentMaxAge < 0 {
		faults = append(faults, fmt.Errorf("segment age %s is negative", o.SegmentMaxAge))
	}
	if o.SyncObserver == nil {
		o.SyncObserver = func(time.Duration) {}
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	return errors.Join(faults...)
}

// Tail is the state of the log after its last frame; zero for an empty log.
type Tail struct {
	Pos       lsn.Pos
	Chain     lsn.Chain
	Digest    lsn.Digest
	Timestamp int64
}

// Log is an open log: a writer's from BeginEpoch to EndEpoch, a follower's while it is
// filled by Copy. One goroutine at a time writes (Append, Copy, Sync,
// BeginEpoch, EndEpoch, RollIfAged, SetAside); calls from several are serialised. Readers and the
// accessors may run at any time and never wait for the disk.
type Log struct {
	opts Options
	enc  *frame.Encoder

	// writing serialises everything that changes files; it is held across
	// fsyncs. The fields up to the next blank line belong to its holder.
	writing sync.Mutex
	active  *activeSegment
	epoch   lsn.Epoch
	mark    *durableMark
	next    *preallocator
	group   []byte
	closed  bool
	// dec verifies what Copy is given, nil before the first; copying says that
	// the mark no longer claims frames of this node as writer.
	dec     *frame.Decoder
	copying bool

	// removing serialises RemoveBefore, and keeps Close from overtaking it. It is
	// taken before writing.
	removing sync.Mutex

	// view guards what readers see; it is never held across a disk call.
	view     sync.Mutex
	segments []segment
	tail     Tail
	durable  lsn.LSN
	failure  error
	// over says why durable will never advance again; advanced is closed, and
	// dropped, when there is more to read or never will be. It is nil while nobody
	// waits, so that the appender pays a comparison.
	over     error
	advanced chan struct{}
}

// Tail returns the position, chain, digest and stamp of the last frame
// appended, durable or not.
func (l *Log) Tail() Tail {
	l.view.Lock()
	defer l.view.Unlock()
	return l.tail
}

// Durable returns the highest LSN that survives a crash.
func (l *Log) Durable() lsn.LSN {
	l.view.Lock()
	defer l.view.Unlock()
	return l.durable
}

// FirstLSN returns the lowest LSN the log still holds; 0 if it holds none.
func (l *Log) FirstLSN() lsn.LSN {
	l.view.Lock()
	defer l.view.Unlock()
	if len(l.segments) == 0 {
		return 0
	}
	return l.segments[0].header.First
}

// Advanced returns a channel that is closed once more is durable than at the
// call, a segment is sealed, or the log has failed or is closed. A reader that
// waits takes it before it looks, so that nothing slips in between.
func (l *Log) Advanced() <-chan struct{} {
	l.view.Lock()
	defer l.view.Unlock()
	if l.advanced == nil {
		l.advanced = make(chan struct{})
		if l.over != nil {
			close(l.advanced) // and kept: nothing wakes a log that is over
		}
	}
	return l.advanced
}

// wake tells whoever waits that there is something to look at. The caller
// holds view.
func (l *Log) wake() {
	if l.advanced != nil {
		close(l.advanced)
		l.advanced = nil
	}
}

// finish notes that nothing more will become durable.
func (l *Log) finish() {
	l.view.Lock()
	defer l.view.Unlock()
	if l.over == nil {
		l.over = ErrClosed
		l.wake()
	}
}

// Err returns the failure that stopped the log, wrapped in ErrFailed, or nil.
func (l *Log) Err() error {
	l.view.Lock()
	defer l.view.Unlock()
	return l.failure
}

// Over says why nothing more will ever become durable: ErrClosed or the failure that
// stopped the log; nil while it goes on. Who waits on Advanced must ask it, since the
// channel of a log that is over is closed for good.
func (l *Log) Over() error {
	l.view.Lock()
	defer l.view.Unlock()
	return l.over
}

// fail records the first failure and returns it; later ones change nothing.
func (l *Log) fail(doing string, err error) error {
	l.view.Lock()
	defer l.view.Unlock()
	if l.failure == nil {
		l.failure = fmt.Errorf("%w: %s: %w", ErrFailed, doing, err)
		l.over = l.failure
		l.wake()
	}
	return l.failure
}

// writable says why the log takes no write, or nil. The caller holds writing.
func (l *Log) writable() error {
	switch {
	case l.opts.ReadOnly:
		return ErrReadOnly
	case l.closed:
		return ErrClosed
	}
	return l.Err()
}

// Close syncs what is pending, cuts the zeros off the open segment, joins the
// log's goroutine and closes the files. It does not seal: the next opening
// does, so that a segment is sealed in one place only.
func (l *Log) Close() error {
	l.removing.Lock()
	defer l.removing.Unlock()
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.closed {
		return ErrClosed
	}
	err := l.Err()
	if err == nil && !l.opts.ReadOnly {
		err = l.settle()
	}
	l.closed = true
	l.finish()
	if l.next != nil {
		err = errors.Join(err, l.next.close())
	}
	if l.active != nil {
		err = errors.Join(err, l.active.file.Close())
	}
	if l.mark != nil {
		err = errors.Join(err, l.mark.file.Close())
	}
	if l.dec != nil {
		l.dec.Close()
	}
	return errors.Join(err, l.enc.Close())
}

// settle leaves the directory as a fresh opening wants to find it.
func (l *Log) settle() error {
	if err := l.sync(); err != nil {
		return err
	}
	if a := l.active; a != nil {
		if err := a.file.Truncate(a.end); err != nil {
			return l.fail("truncate "+a.path, err)
		}
		if err := a.file.Sync(); err != nil {
			return l.fail("fsync "+a.path, err)
		}
	}
	if err := l.mark.file.SyncData(); err != nil {
		return l.fail("fsync "+markName, err)
	}
	return nil
}
