package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"originchain/shared/frame"
	"originchain/shared/lsn"
)

// BeginEpoch opens the log for writing in epoch, which must be above that of
// the last frame: it seals the open segment at its last frame and notes in the
// mark that this node writes the epoch. The next append begins a segment.
func (l *Log) BeginEpoch(epoch lsn.Epoch) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	if last := max(l.Tail().Pos.Epoch, l.epoch); epoch <= last {
		return fmt.Errorf("begin epoch %d: the log is in epoch %d already, epochs only rise", epoch, last)
	}
	if err := l.seal(); err != nil {
		return err
	}
	// The mark must name the epoch before the first frame in it: opening
	// applies the synced_lsn rule only to frames this node wrote as writer.
	v := markValue{durable: l.marked(), writer: epoch, instance: l.opts.Instance}
	if err := l.mark.write(v); err != nil {
		return l.fail("write "+markName, err)
	}
	if err := l.mark.file.Sync(); err != nil {
		return l.fail("fsync "+markName, err)
	}
	l.epoch, l.copying = epoch, false
	l.zeroAhead()
	return nil
}

// EndEpoch takes the log back from the epoch that it is written in: from then on it takes
// copies, as a log does that is opened anew, and no appends until another BeginEpoch. What
// was appended is durable by then.
//
// The mark still says that this node wrote the epoch, and that is true of all the log
// holds: the first copy changes it, before it writes a frame.
func (l *Log) EndEpoch() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	if err := l.sync(); err != nil {
		return err
	}
	l.epoch = 0
	return nil
}

// zeroAhead starts the preallocator, once.
func (l *Log) zeroAhead() {
	if l.next == nil && !l.opts.NoPreallocate {
		l.next = startPreallocator(l.opts.FS, l.path(nextName), l.opts.SegmentBytes, func(err error) {
			_ = l.fail("zero "+nextName, err) // shown by Err and by the next write
		})
	}
}

// RollIfAged seals the open segment if it has frames and its first one was
// stamped SegmentMaxAge or longer before now, by the clock of the stamps. It
// reports whether it did; the next append begins a segment. A log that is copied
// rolls where its leader's does, never by itself.
func (l *Log) RollIfAged(now time.Time) (bool, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.writable(); err != nil {
		return false, err
	}
	a := l.active
	if l.copying || a == nil || a.footer.Frames == 0 || now.UnixMicro()-a.firstStamp() < l.opts.SegmentMaxAge.Microseconds() {
		return false, nil
	}
	return true, l.seal()
}

// roll seals the open segment, if there is one, and begins the next. Nothing is
// appended before its name is durable.
func (l *Log) roll() error {
	if err := l.seal(); err != nil {
		return err
	}
	tail := l.Tail()
	header := frame.SegmentHeader{
		Instance: l.opts.Instance, Epoch: l.epoch, First: tail.Pos.LSN + 1,
		PrevChain: tail.Chain, PrevDigest: tail.Digest, PrevTimestamp: tail.Timestamp,
	}
	var seed [8]byte
	if _, err := io.ReadFull(l.opts.Rand, seed[:]); err != nil {
		return l.fail("draw a segment seed", err)
	}
	header.Seed = binary.LittleEndian.Uint64(seed[:])
	return l.begin(header, tail)
}

// begin makes the segment of header the one that is appended to; prev is the
// state before its first frame.
func (l *Log) begin(header frame.SegmentHeader, prev Tail) error {
	path := l.path(segmentName(header.First))
	f, err := l.create(path, &header)
	if err != nil {
		return l.fail("begin segment "+path, err)
	}
	l.active = startActive(path, f, header)
	l.view.Lock()
	l.segments = append(l.segments, segment{
		path: path, header: header, last: prev, end: l.active.end, bytes: l.active.end,
	})
	l.view.Unlock()
	if l.next != nil {
		l.next.start()
	}
	return nil
}

// create makes the segment file: header written and fsynced under a temporary
// name, then renamed, then the directory fsynced. A name in the directory thus
// always has a whole header behind it.
func (l *Log) create(path string, header *frame.SegmentHeader) (file, error) {
	f, err := l.blank()
	if err != nil {
		return nil, err
	}
	if err := l.publish(f, path, header); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (l *Log) publish(f file, path string, header *frame.SegmentHeader) error {
	if _, err := f.WriteAt(header.Append(nil), 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := l.opts.FS.Rename(l.path(nextName), path); err != nil {
		return err
	}
	return syncDir(l.opts.FS, l.opts.Dir)
}

// blank returns next.tmp: zeroed ahead if there was time, else its first part
// zeroed now.
func (l *Log) blank() (file, error) {
	if l.next != nil {
		if f, err := l.next.take(); f != nil || err != nil {
			return f, err
		}
	}
	f, err := openFile(l.opts.FS, l.path(nextName))
	if err != nil || l.opts.NoPreallocate {
		return f, err
	}
	if _, err = f.WriteAt(make([]byte, min(zeroAhead, l.opts.SegmentBytes)), 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// seal ends the open segment behind its last frame: frames durable first, so
// that a footer never vouches for bytes a crash may take, then the footer, the
// length, one fsync.
func (l *Log) seal() error {
	a := l.active
	if a == nil {
		return nil
	}
	if err := l.sync(); err != nil {
		return err
	}
	b := a.footer.Append(nil, a.header.Seed, uint64(a.end), a.sum)
	if _, err := a.file.WriteAt(b, a.end); err != nil {
		return l.fail("write the footer of "+a.path, err)
	}
	size := a.end + int64(len(b))
	if err := a.file.Truncate(size); err != nil {
		return l.fail("truncate "+a.path, err)
	}
	if err := a.file.Sync(); err != nil {
		return l.fail("fsync "+a.path, err)
	}
	l.active = nil
	if err := a.file.Close(); err != nil {
		return l.fail("close "+a.path, err)
	}
	l.view.Lock()
	defer l.view.Unlock()
	s := &l.segments[len(l.segments)-1]
	s.sealed, s.end, s.bytes = true, a.end, size
	l.wake()
	return nil
}

// path returns the path of a name in the log directory.
func (l *Log) path(name string) string { return l.opts.FS.PathJoin(l.opts.Dir, name) }
