package wal

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Names in the log directory.
const (
	nextName = "next.tmp"
	markName = "durable.mark"
)

// diskCategory labels the log's writes in the file system's statistics.
const diskCategory = vfs.DiskWriteCategory("originchain-log")

// remedy is what an operator does about a corrupt log.
const remedy = "restore into a fresh directory: oc-pitr restore --latest --data-dir <new dir>"

// segmentPattern is strict: divergent-*.log and foreign files are not the log.
var segmentPattern = regexp.MustCompile(`^([0-9a-f]{16})\.log$`)

// segmentName returns the file name of the segment that begins at first.
func segmentName(first lsn.LSN) string { return fmt.Sprintf("%016x.log", uint64(first)) }

// parseSegmentName returns the first LSN in a segment's file name.
func parseSegmentName(name string) (lsn.LSN, bool) {
	m := segmentPattern.FindStringSubmatch(name)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseUint(m[1], 16, 64)
	return lsn.LSN(n), err == nil
}

// truncater is the one call the log needs that vfs.File lacks.
type truncater interface{ Truncate(size int64) error }

// file is a segment opened for writing.
type file interface {
	vfs.File
	truncater
}

// openFile opens path for reading and writing and insists on Truncate: without
// it a torn tail could not be cut nor a seal end the file.
func openFile(fs vfs.FS, path string) (file, error) {
	f, err := fs.OpenReadWrite(path, diskCategory)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	t, ok := f.(file)
	if !ok {
		return nil, errors.Join(fmt.Errorf("open %s: the file system %T cannot truncate files, the log needs that", path, fs), f.Close())
	}
	return t, nil
}

// syncDir makes the names in dir durable.
func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open %s to fsync it: %w", dir, err)
	}
	if err := d.Sync(); err != nil {
		return errors.Join(fmt.Errorf("fsync %s: %w", dir, err), d.Close())
	}
	return d.Close()
}

// readFull reads exactly len(p) bytes at off.
func readFull(src io.ReaderAt, p []byte, off int64) error {
	n, err := src.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// corrupt turns what a decoder objects to into a corruption of path at offset.
// Intact bytes of a newer format, and errors of the disk, stay what they are.
func corrupt(path string, offset int64, err error) error {
	var bad *frame.DecodeError
	var known *fault.Corruption
	switch {
	case errors.As(err, &known):
		return err
	case errors.As(err, &bad):
		return corruption(path, offset, bad.What, bad.Want, bad.Got)
	}
	return fmt.Errorf("%s at offset %d: %w", path, offset, err)
}

func corruption(path string, offset int64, what, want, got string) *fault.Corruption {
	return &fault.Corruption{File: path, Offset: offset, What: what, Want: want, Got: got, Remedy: remedy}
}
