package wal

import (
	"fmt"

	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// SegmentInfo describes one segment file of an open log.
type SegmentInfo struct {
	// First and Last are the LSNs it holds.
	First, Last lsn.LSN
	Epoch       lsn.Epoch
	// Bytes is the length of header, frames and footer, without zeros behind.
	Bytes  int64
	Sealed bool
	Path   string
	// LastTimestamp is the stamp of its last frame in microseconds.
	LastTimestamp int64
}

// Segments lists the log's files, oldest first.
func (l *Log) Segments() []SegmentInfo {
	l.view.Lock()
	defer l.view.Unlock()
	infos := make([]SegmentInfo, len(l.segments))
	for i := range l.segments {
		s := &l.segments[i]
		infos[i] = SegmentInfo{
			First: s.header.First, Last: s.last.Pos.LSN, Epoch: s.header.Epoch,
			Bytes: s.bytes, Sealed: s.sealed, Path: s.path, LastTimestamp: s.last.Timestamp,
		}
	}
	return infos
}

// NewestFirst is the first LSN of the newest segment; it changes with each roll.
func (l *Log) NewestFirst() lsn.LSN {
	l.view.Lock()
	defer l.view.Unlock()
	if len(l.segments) == 0 {
		return 0
	}
	return l.segments[len(l.segments)-1].header.First
}

// RemoveBefore removes the sealed segments all of whose frames are below at,
// oldest first. The newest segment always stays: the log continues from it.
// Whether the frames are needed is the caller's to know. The directory is
// fsynced after each, so that a crash leaves no hole. Appends go on meanwhile:
// taking a large file off the disk can last longer than many commits.
func (l *Log) RemoveBefore(at lsn.LSN) error {
	l.removing.Lock()
	defer l.removing.Unlock()
	for {
		l.writing.Lock()
		err := l.writable()
		l.writing.Unlock()
		if err != nil {
			return err
		}
		path, ok := l.removable(at)
		if !ok {
			return nil
		}
		if err := l.opts.FS.Remove(path); err != nil {
			return l.fail("remove "+path, err)
		}
		if err := syncDir(l.opts.FS, l.opts.Dir); err != nil {
			return l.fail("remove "+path, err)
		}
	}
}

// removable takes the oldest segment off the list if it may go.
func (l *Log) removable(at lsn.LSN) (string, bool) {
	l.view.Lock()
	defer l.view.Unlock()
	if len(l.segments) < 2 || !l.segments[0].sealed || l.segments[0].last.Pos.LSN >= at {
		return "", false
	}
	path := l.segments[0].path
	l.segments = l.segments[1:]
	return path, true
}

// String shows where the log stands, for error messages and tests.
func (t Tail) String() string {
	return fmt.Sprintf("%s stamp %d digest %s chain %s", t.Pos, t.Timestamp, t.Digest, t.Chain)
}

// SegmentPaths lists the segment files in dir, oldest first, for tools that
// read a log without opening it.
func SegmentPaths(fs vfs.FS, dir string) ([]string, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var paths []string
	for _, first := range segmentsIn(names) {
		paths = append(paths, fs.PathJoin(dir, segmentName(first)))
	}
	return paths, nil
}

// ReadMark returns the LSN that the durable mark in dir vouches for, 0 if
// there is no mark to read.
func ReadMark(disk vfs.FS, dir string) (lsn.LSN, error) {
	v, err := readMarkFile(disk, disk.PathJoin(dir, markName))
	return v.durable, err
}
