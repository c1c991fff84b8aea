package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"

	"originchain/shared/frame"
	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Divergent is a file of frames that were set aside: a sealed segment under
// another name.
type Divergent struct {
	Path  string
	Epoch lsn.Epoch
	// First and Last are the LSNs it holds.
	First, Last lsn.LSN
	Frames      uint64
}

// asideBuffer is how much is written to a divergent file at once, in bytes.
const asideBuffer = 1 << 20

// divergentPattern matches the names of divergentName.
var divergentPattern = regexp.MustCompile(`^divergent-[0-9a-f]{16}-[0-9a-f]{16}\.log$`)

// divergentName returns the name of the file of an epoch's frames from first on.
func divergentName(epoch lsn.Epoch, first lsn.LSN) string {
	return fmt.Sprintf("divergent-%016x-%016x.log", uint64(epoch), uint64(first))
}

// asideFile is a divergent file being written under a temporary name. Its bytes
// are a function of the frames, so writing it again gives the same.
type asideFile struct {
	path string
	out  vfs.File
	seg  *activeSegment
	buf  []byte
}

func createAside(disk vfs.FS, path string, header frame.SegmentHeader) (*asideFile, error) {
	f, err := disk.Create(path+".tmp", diskCategory)
	if err != nil {
		return nil, fmt.Errorf("create %s.tmp: %w", path, err)
	}
	return &asideFile{path: path, out: f, seg: startActive(path, nil, header), buf: header.Append(nil)}, nil
}

// add appends one frame, whose bytes elsewhere are raw.
func (w *asideFile) add(f *frame.Frame, raw []byte) error {
	ops, err := f.Ops()
	if err != nil {
		return fmt.Errorf("operations of LSN %d: %w", f.LSN, err)
	}
	start := len(w.buf)
	w.buf = append(w.buf, raw...)
	frame.Relocate(w.buf[start:], w.seg.header.Seed, uint64(w.seg.end))
	w.seg.sum.Write(w.buf[start:]) // a hash's Write never fails
	w.seg.note(&f.Header, f.Chain, ops.Len(), f.Stored)
	if len(w.buf) < asideBuffer {
		return nil
	}
	return w.flush()
}

func (w *asideFile) flush() error {
	if _, err := w.out.Write(w.buf); err != nil {
		return fmt.Errorf("write %s.tmp: %w", w.path, err)
	}
	w.buf = w.buf[:0]
	return nil
}

// publish seals the file and gives it its name, all of it durable.
func (w *asideFile) publish(disk vfs.FS, dir string) error {
	w.buf = w.seg.footer.Append(w.buf, w.seg.header.Seed, uint64(w.seg.end), w.seg.sum)
	err := w.flush()
	if err == nil {
		err = w.out.Sync()
	}
	if err := errors.Join(err, w.out.Close()); err != nil {
		return fmt.Errorf("finish %s.tmp: %w", w.path, err)
	}
	if err := disk.Rename(w.path+".tmp", w.path); err != nil {
		return fmt.Errorf("name %s: %w", w.path, err)
	}
	return syncDir(disk, dir)
}

// keptAlready reports whether the file at path holds the frames of s from header
// on, and more. One with as many is written again: that its name is durable is
// not known, and a second fsync of the directory may not make it so. One with
// another history is not overwritten; an epoch has one, so there is none.
func (l *Log) keptAlready(path string, header *frame.SegmentHeader, s *segment) (bool, error) {
	if _, err := l.opts.FS.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("stat %s: %w", path, err)
	}
	last := s.last.Pos.LSN
	var there lsn.Chain
	r, err := verifySegment(l.opts.FS, path, func(f *frame.Frame) error {
		if f.LSN <= last {
			there = f.Chain
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	_, here, err := l.rebuild(s, min(last, r.Tail.Pos.LSN))
	if err != nil {
		return false, err
	}
	if r.Header.Instance != header.Instance || r.Header.PrevChain != header.PrevChain || there != here.Chain {
		return false, fmt.Errorf("%s holds another history of the same epoch, with chain %s at LSN %d instead of %s: move it elsewhere",
			path, there, here.Pos.LSN, here.Chain)
	}
	return r.Tail.Pos.LSN > last, nil
}

// divergentFrom lists the divergent files in dir that continue the history up to
// LSN at, in order of LSN and epoch: those that begin behind it and have its
// chain before them, those that continue one of these, and so on. A nil chain is
// not known, and fits.
func (l *Log) divergentFrom(dir string, at lsn.LSN, chain *lsn.Chain) ([]Divergent, error) {
	disk := l.opts.FS
	names, err := disk.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var found []divergentHead
	for _, name := range names {
		if !divergentPattern.MatchString(name) {
			continue
		}
		d, err := readDivergent(disk, disk.PathJoin(dir, name))
		if err != nil {
			return nil, err
		}
		found = append(found, d)
	}
	slices.SortFunc(found, func(a, b divergentHead) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Epoch, b.Epoch))
	})
	follows := make(map[lsn.Chain]bool)
	var set []Divergent
	for _, d := range found {
		begins := d.First == at+1 && (chain == nil || *chain == d.header.PrevChain)
		if d.header.Instance == l.opts.Instance && (begins || follows[d.header.PrevChain]) {
			follows[d.last] = true
			set = append(set, d.Divergent)
		}
	}
	return set, nil
}

// DivergentPaths lists the divergent files in dir, by name.
func DivergentPaths(disk vfs.FS, dir string) ([]string, error) {
	names, err := disk.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	slices.Sort(names)
	var paths []string
	for _, name := range names {
		if divergentPattern.MatchString(name) {
			paths = append(paths, disk.PathJoin(dir, name))
		}
	}
	return paths, nil
}

// divergentHead is what header and footer of a divergent file say.
type divergentHead struct {
	Divergent
	header frame.SegmentHeader
	last   lsn.Chain
}

func readDivergent(disk vfs.FS, path string) (d divergentHead, err error) {
	s, err := OpenSegment(disk, path)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	h, f := s.Header(), s.Footer()
	if f == nil {
		return d, corruption(path, 0, "seal", "a footer: the file was whole when it got its name", "none")
	}
	return divergentHead{
		Divergent: Divergent{Path: path, Epoch: h.Epoch, First: h.First, Last: f.Last, Frames: f.Frames},
		header:    h, last: f.Chain,
	}, nil
}

// Divergents lists the divergent files in dir, by epoch and first LSN. One that cannot be
// read has a Last of 0: what is there is told, and nobody may take it for more.
func Divergents(disk vfs.FS, dir string) ([]Divergent, error) {
	paths, err := DivergentPaths(disk, dir)
	if err != nil {
		return nil, err
	}
	set := make([]Divergent, 0, len(paths))
	for _, path := range paths {
		d, err := readDivergent(disk, path)
		if err != nil {
			var epoch, first uint64
			if _, err := fmt.Sscanf(disk.PathBase(path), "divergent-%016x-%016x.log", &epoch, &first); err != nil {
				return nil, fmt.Errorf("%s: its name: %w", path, err)
			}
			d = divergentHead{Divergent: Divergent{Path: path, Epoch: lsn.Epoch(epoch), First: lsn.LSN(first)}}
		}
		set = append(set, d.Divergent)
	}
	return set, nil
}
