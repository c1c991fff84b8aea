package wal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"originchain/shared/fault"
	"originchain/shared/frame"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// verified runs a verification of the whole log.
func verified(fs vfs.FS, dir string) (LogReport, error) {
	return VerifyLog(fs, dir, testInstance, func(*frame.Frame) error { return nil })
}

// brokenFS lets one call end in a way of its own: the one that is numbered at.
type brokenFS struct {
	vfs.FS
	calls, at int
	// short lets all reads from then on give half of what is there, and no reason.
	short bool
}

var errDisk = &os.PathError{Op: "read", Path: "disk", Err: syscall.EIO}

func (b *brokenFS) broken(read bool) bool {
	if b.short && !read {
		return false
	}
	b.calls++
	return b.calls == b.at || b.short && b.at > 0 && b.calls > b.at
}

func (b *brokenFS) List(dir string) ([]string, error) {
	if b.broken(false) {
		return nil, errDisk
	}
	return b.FS.List(dir)
}

func (b *brokenFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if b.broken(false) {
		return nil, errDisk
	}
	f, err := b.FS.Open(name, opts...)
	return &brokenFile{f, b}, err
}

type brokenFile struct {
	vfs.File
	fs *brokenFS
}

func (f *brokenFile) Stat() (vfs.FileInfo, error) {
	if f.fs.broken(false) {
		return nil, errDisk
	}
	return f.File.Stat()
}

func (f *brokenFile) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case !f.fs.broken(true):
		return f.File.ReadAt(p, off)
	case f.fs.short:
		return f.File.ReadAt(p[:len(p)/2], off)
	}
	return 0, errDisk
}

func (f *brokenFile) Close() error {
	err := f.File.Close()
	if f.fs.broken(false) {
		return errDisk
	}
	return err
}

// A disk that cannot be read says nothing about the log: that is no fault of it,
// and it is not verified.
func TestVerifyLogTellsAnUnreadableDiskFromADamagedLog(t *testing.T) {
	c := crashLog(t, groupsOf)
	for _, short := range []bool{false, true} {
		count := &brokenFS{FS: vfs.Default, short: short}
		whole, err := verified(count, c.dir)
		if err != nil || len(whole.Faults) > 0 || len(whole.Segments) < 4 || whole.Mark != c.synced {
			t.Fatalf("%v, %+v", err, whole)
		}
		for at := 1; at <= count.calls; at++ {
			r, err := verified(&brokenFS{FS: vfs.Default, at: at, short: short}, c.dir)
			switch {
			case short && err == nil && len(r.Faults) == 0:
				t.Errorf("read %d of %d was short: the log was called sound", at, count.calls)
			case !short && (!errors.Is(err, syscall.EIO) || len(r.Faults) > 0):
				t.Errorf("call %d of %d failed: error %v, faults %v", at, count.calls, err, r.Faults)
			}
		}
	}
}

// What stands behind a bad frame must be read to call it a torn tail.
func TestAShortReadIsNotTakenForATornTail(t *testing.T) {
	c := crashLog(t, groupsOf)
	c.poker(t, c.last)(0xFF, int(c.syncedEnd)-1)
	must(t, os.Remove(filepath.Join(c.dir, markName)))
	count := &brokenFS{FS: vfs.Default, short: true}
	if r, err := verified(count, c.dir); err != nil || len(r.Faults) != 1 {
		t.Fatalf("error %v, faults %v", err, r.Faults)
	}
	for at := 1; at <= count.calls; at++ {
		if r, err := verified(&brokenFS{FS: vfs.Default, at: at, short: true}, c.dir); err == nil && len(r.Faults) == 0 {
			t.Errorf("from read %d of %d on all are short: a torn tail is seen", at, count.calls)
		}
	}
}

// An unreadable segment does not keep the damage of another from being told.
func TestVerifyLogGoesOnBehindAnUnreadableSegment(t *testing.T) {
	c := crashLog(t, groupsOf)
	paths, err := SegmentPaths(vfs.Default, c.dir)
	must(t, err)
	c.poker(t, filepath.Base(paths[2]))(0xFF, frame.SegmentHeaderSize+frame.HeaderSize)
	must(t, os.Remove(paths[0]))
	must(t, os.Mkdir(paths[0], 0o700)) // which cannot be read as a file
	r, err := verified(vfs.Default, c.dir)
	if !errors.Is(err, syscall.EISDIR) || len(r.Faults) != 1 || len(r.Segments) < 3 {
		t.Errorf("error %v, %d segments, faults %v", err, len(r.Segments), r.Faults)
	}
}

// TestVerifyLogIsNoLaxerThanTheServer damages every byte, and every tail of the
// newest segment: what is called sound must open, with all that was acknowledged.
func TestVerifyLogIsNoLaxerThanTheServer(t *testing.T) {
	c := crashLog(t, groupsOf)
	entries, err := os.ReadDir(c.dir)
	must(t, err)
	check := func(what string, at int) (sound bool) {
		t.Helper()
		r, err := verified(vfs.Default, c.dir)
		if err != nil {
			t.Fatalf("%s at %d: %v", what, at, err)
		}
		if len(r.Faults) > 0 {
			return false
		}
		got, err := c.peek()
		if err != nil || len(got) < int(c.synced) {
			t.Errorf("%s at %d: called sound; the server finds %d frames of %d: %v", what, at, len(got), c.synced, err)
		}
		return true
	}
	for _, entry := range entries {
		name := entry.Name()
		raw, poke := c.read(t, name), c.poker(t, name)
		faults := 0
		for i := range raw {
			poke(^raw[i], i)
			if !check(name+", flipped", i) {
				faults++
			}
			poke(raw[i], i)
		}
		if name != markName && name != c.last && faults != len(raw) {
			t.Errorf("%s: %d of %d flipped bytes were found", name, faults, len(raw))
		}
	}
	raw := c.read(t, c.last)
	for i := range raw {
		zeroed := slices.Clone(raw)
		clear(zeroed[i:])
		c.write(t, c.last, zeroed)
		if sound := check("zeroed from", i); sound && int64(i) < c.syncedEnd-1 && raw[i] != 0 {
			t.Errorf("zeroed from %d: an acknowledged frame is gone, and nothing is said", i)
		}
	}
	c.write(t, c.last, raw)
	if !check("nothing", 0) {
		t.Error("the log was not put back")
	}
}

// Every hole is told: a segment is held against the one before it, whatever was
// wrong with that one's place.
func TestVerifyLogTellsEveryHole(t *testing.T) {
	c := crashLog(t, 2*groupsOf-1)
	paths, err := SegmentPaths(vfs.Default, c.dir)
	must(t, err)
	if len(paths) < 6 {
		t.Fatalf("only %d segments", len(paths))
	}
	must(t, os.Remove(paths[1]))
	must(t, os.Remove(paths[3]))
	must(t, os.Remove(paths[len(paths)-1]))
	r, err := verified(vfs.Default, c.dir)
	if err != nil || len(r.Faults) != 3 {
		t.Errorf("error %v, faults %v", err, r.Faults)
	}
}

// The server refuses a mark of another instance, so it is not sound.
func TestVerifyLogHoldsTheMarkAgainstTheInstance(t *testing.T) {
	c := crashLog(t, groupsOf)
	must(t, os.Remove(filepath.Join(c.dir, markName)))
	m, err := openMark(vfs.Default, filepath.Join(c.dir, markName))
	must(t, err)
	other := testInstance
	other[0]++
	must(t, m.write(markValue{durable: 1, writer: 3, instance: other}))
	must(t, m.file.Close())
	if _, err := c.peek(); err == nil {
		t.Fatal("the server takes it")
	}
	r, err := verified(vfs.Default, c.dir)
	var foreign *ForeignError
	if err != nil || len(r.Faults) != 1 || !errors.As(r.Faults[0], &foreign) {
		t.Errorf("error %v, faults %v", err, r.Faults)
	}
}

// A newer server's segment is whole: it is not damage, and not verified.
func TestVerifyLogDoesNotCallANewerFormatDamage(t *testing.T) {
	c := crashLog(t, groupsOf)
	raw := c.read(t, c.last)
	h, err := frame.DecodeSegmentHeader(raw)
	must(t, err)
	newer := h.Append(nil)
	newer[frame.SegmentHeaderSize-5] = 1 // reserved until now
	binary.LittleEndian.PutUint32(newer[frame.SegmentHeaderSize-4:], crc32.Checksum(newer[:frame.SegmentHeaderSize-4], castagnoli))
	c.write(t, c.last, append(newer, raw[len(newer):]...))
	r, err := verified(vfs.Default, c.dir)
	var is *frame.NewerError
	if !errors.As(err, &is) || len(r.Faults) > 0 {
		t.Errorf("error %v, faults %v", err, r.Faults)
	}
}

// An error of visit ends the verification and is no fault.
func TestVerifyLogEndsWhereVisitSaysSo(t *testing.T) {
	c := crashLog(t, groupsOf)
	seen := 0
	r, err := VerifyLog(vfs.Default, c.dir, testInstance, func(*frame.Frame) error {
		if seen++; seen == 5 {
			return io.ErrClosedPipe
		}
		return nil
	})
	if !errors.Is(err, io.ErrClosedPipe) || len(r.Faults) > 0 || seen != 5 {
		t.Errorf("error %v, faults %v after %d frames", err, r.Faults, seen)
	}
	var bad *fault.Corruption
	if errors.As(err, &bad) {
		t.Error("it is called a corruption")
	}
}
