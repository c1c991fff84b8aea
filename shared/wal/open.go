package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"originchain/shared/frame"
	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Open opens the log in opts.Dir, creating the directory if need be; that the
// one above it is durable is the caller's to see to. In order:
// every log file and the directory are fsynced before a byte is trusted; the
// durable mark is read; each segment is held against its name, its instance
// and the one before it; the last one is scanned if it is not sealed, and cut
// where a write that nobody was told about was torn.
//
// Anything else that is wrong is a *fault.Corruption that names the place and
// the remedy. Another instance's log, and a newer format (*frame.NewerError),
// are refused too. Nothing is sealed and nothing appended until BeginEpoch.
func Open(opts Options) (*Log, error) {
	if err := opts.complete(); err != nil {
		return nil, fmt.Errorf("open the log in %q: %w", opts.Dir, err)
	}
	enc, err := frame.NewEncoder()
	if err != nil {
		return nil, err
	}
	l := &Log{opts: opts, enc: enc}
	if err := l.open(); err != nil {
		return nil, errors.Join(err, l.abandon())
	}
	return l, nil
}

// abandon closes what a failed opening had open.
func (l *Log) abandon() error {
	var errs []error
	if l.active != nil {
		errs = append(errs, l.active.file.Close())
	}
	if l.mark != nil {
		errs = append(errs, l.mark.file.Close())
	}
	return errors.Join(append(errs, l.enc.Close())...)
}

func (l *Log) open() error {
	names, err := l.settleDirectory()
	if err != nil {
		return err
	}
	mark, err := l.loadMark()
	if err != nil {
		return err
	}
	for i, first := range names {
		if i < len(names)-1 {
			err = l.loadSealed(first)
		} else {
			err = l.recoverLast(first, mark)
		}
		if err != nil {
			return err
		}
	}
	if err := l.startAtBase(); err != nil {
		return err
	}
	if l.tail.Pos.LSN < mark.durable {
		return corruption(l.path(markName), 0, "last LSN of the log",
			fmt.Sprintf("%d or later, which was durable", mark.durable), fmt.Sprint(l.tail.Pos.LSN))
	}
	l.durable = l.tail.Pos.LSN
	if l.opts.ReadOnly || l.marked() == mark.durable {
		return nil
	}
	// All that was read has been fsynced above, so it may be marked.
	mark.durable, mark.instance = l.durable, l.opts.Instance
	if err := l.mark.write(mark); err != nil {
		return fmt.Errorf("write %s: %w", l.path(markName), err)
	}
	return nil
}

// startAtBase makes a log without a segment go on behind its base, and holds the
// first segment behind it against it.
func (l *Log) startAtBase() error {
	base := &l.opts.Base
	switch {
	case base.Pos.LSN == 0:
	case len(l.segments) == 0:
		l.tail = *base
	case l.segments[0].header.First == base.Pos.LSN+1:
		first := &l.segments[0]
		return checkSegment(first.path, first.header.First, &first.header, l.opts.Instance, base)
	}
	return nil
}

// marked is what the mark may vouch for: frames in files here, and not the base.
// The caller holds writing, or the log is being opened.
func (l *Log) marked() lsn.LSN {
	if l.FirstLSN() == 0 {
		return 0
	}
	return l.Durable()
}

// settleDirectory lists the segments, oldest first. Unless the log is opened
// for reading only it first makes durable what stands there: bytes in the page
// cache of a machine that then loses power were never there.
func (l *Log) settleDirectory() ([]lsn.LSN, error) {
	disk, dir := l.opts.FS, l.opts.Dir
	if !l.opts.ReadOnly {
		if err := disk.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("create %s: %w", dir, err)
		}
		if err := syncDir(disk, disk.PathDir(dir)); err != nil {
			return nil, err
		}
	}
	names, err := disk.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	segments := segmentsIn(names)
	if l.opts.ReadOnly {
		return segments, nil
	}
	for _, first := range segments {
		if err := l.syncFile(l.path(segmentName(first))); err != nil {
			return nil, err
		}
	}
	if slices.Contains(names, nextName) {
		if err := disk.Remove(l.path(nextName)); err != nil {
			return nil, fmt.Errorf("remove %s: %w", l.path(nextName), err)
		}
	}
	if l.mark, err = openMark(disk, l.path(markName)); err != nil {
		return nil, err
	}
	return segments, syncDir(disk, dir)
}

// segmentsIn picks the segments out of a listing, oldest first.
func segmentsIn(names []string) []lsn.LSN {
	var segments []lsn.LSN
	for _, name := range names {
		if first, ok := parseSegmentName(name); ok {
			segments = append(segments, first)
		}
	}
	slices.Sort(segments)
	return segments
}

func (l *Log) syncFile(path string) error {
	f, err := openFile(l.opts.FS, path)
	if err != nil {
		return err
	}
	if err := f.SyncData(); err != nil {
		return errors.Join(fmt.Errorf("fdatasync %s: %w", path, err), f.Close())
	}
	return f.Close()
}

// loadMark returns what the durable mark says.
func (l *Log) loadMark() (v markValue, err error) {
	path := l.path(markName)
	if l.mark != nil {
		v = l.mark.value
	} else if v, err = readMarkFile(l.opts.FS, path); err != nil {
		return v, err
	}
	if v.valid && v.instance != l.opts.Instance {
		return v, &ForeignError{path, v.instance, l.opts.Instance}
	}
	return v, nil
}

// readMarkFile reads a mark that may not be there, without creating it.
func readMarkFile(disk vfs.FS, path string) (markValue, error) {
	f, err := disk.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return markValue{}, nil
	} else if err != nil {
		return markValue{}, fmt.Errorf("open %s: %w", path, err)
	}
	_, v, err := readMark(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return v, fmt.Errorf("read %s: %w", path, err)
	}
	return v, nil
}

// previous is the state before the next segment to load; nil for the first.
func (l *Log) previous() *Tail {
	if len(l.segments) == 0 {
		return nil
	}
	return &l.tail
}

// adopt appends a loaded segment to the log.
func (l *Log) adopt(s segment) {
	l.segments = append(l.segments, s)
	l.tail = s.last
}

// loadSealed loads a segment that has a successor: its seal was durable before
// the successor got its name, so one without is corrupt. Its frames are
// verified when they are read.
func (l *Log) loadSealed(first lsn.LSN) (err error) {
	path := l.path(segmentName(first))
	f, err := l.opts.FS.Open(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	header, err := readHeader(f)
	if err != nil {
		return corrupt(path, 0, err)
	}
	if err := checkSegment(path, first, &header, l.opts.Instance, l.previous()); err != nil {
		return err
	}
	footer, at, err := readFooter(f, &header, info.Size())
	if err != nil {
		return corrupt(path, at, err)
	}
	l.adopt(segment{path: path, header: header, last: tailOf(&header, footer), end: at, bytes: info.Size(), sealed: true})
	return nil
}
