package purge

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"

	"originchain/shared/archive"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/restore"
	"originchain/shared/table"
	"originchain/shared/wal"
)

// Found is what was found of a subject in files of nodes.
type Found struct {
	Files []FoundFile `json:"files"`
	// Unread are files and directories that hold a state, or were a log: what is deleted
	// in a state is still in its files until they are compacted, so that looking proves
	// nothing. They are to be destroyed with the directory.
	Unread []string `json:"unread"`
}

// FoundFile is a file of a log, and the frames in it that tell of the subject.
type FoundFile struct {
	Path  string    `json:"path"`
	Epoch lsn.Epoch `json:"epoch"`
	// First and Last are those in the file.
	First lsn.LSN `json:"first_lsn"`
	Last  lsn.LSN `json:"last_lsn"`
	// Frames are the LSNs of those that tell, at most maxFoundFrames; Count is how many.
	Frames []lsn.LSN `json:"frames"`
	Count  int       `json:"count"`
	// Torn says that the file ends in bytes that are no frame; what is in them is not
	// known.
	Torn bool `json:"torn,omitempty"`
}

// maxFoundFrames bounds how many frames of a file are listed.
const maxFoundFrames = 1000

// Any says that something was found.
func (f *Found) Any() bool {
	for i := range f.Files {
		if f.Files[i].Count > 0 {
			return true
		}
	}
	return false
}

// Find looks for the subject in log files of nodes, divergent files among them, and in
// data directories, which stand for their files. It changes nothing. Which rows are meant
// it learns from the archive and from the files.
func Find(ctx context.Context, o Options, paths []string) (*Found, error) {
	if o.Note == nil {
		o.Note = func(string, ...any) {}
	}
	out := &Found{Files: []FoundFile{}, Unread: []string{}}
	var files []string
	for _, path := range paths {
		list, err := out.expand(&o, path)
		if err != nil {
			return nil, err
		}
		files = append(files, list...)
	}
	p := &planning{o: &o, a: archive.New(restore.Patient(o.Store)), subject: newSubject(o.Selector)}
	var err error
	if p.s, err = p.a.Survey(ctx); err != nil {
		return nil, err
	}
	for _, epoch := range restore.Heads(p.s) {
		line, _ := p.s.Line(epoch)
		p.lines = append(p.lines, line)
	}
	o.Note("read the history to find the rows")
	if err := p.walk(ctx, walker{state: p.learnState, frame: p.learnFrame}); err != nil {
		return nil, err
	}
	// A divergent file may have rows, and a form of the table, that the archive never had.
	for _, path := range files {
		if _, err := p.inFile(ctx, path, p.learnFrame); err != nil {
			return nil, err
		}
	}
	if err := p.subject.check(); err != nil {
		return nil, err
	}
	if p.subject.none() {
		return nil, fmt.Errorf("%w: neither the archive nor the files have had a row of %s with that value, so that nothing could be found: after a purge select by --pk", ErrSelector, o.Selector.Schema)
	}
	for _, path := range files {
		o.Note("look into %s", path)
		found := FoundFile{Path: path, Frames: []lsn.LSN{}}
		found.Torn, err = p.inFile(ctx, path, func(f *frame.Frame) error { return found.look(p.subject, f) })
		if err != nil {
			return nil, err
		}
		out.Files = append(out.Files, found)
	}
	return out, nil
}

// expand lists the log files that a path stands for.
func (f *Found) expand(o *Options, path string) ([]string, error) {
	info, err := o.FS.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSelector, err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	files, err := wal.DivergentPaths(o.FS, path)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{path, o.FS.PathJoin(path, "log"), o.FS.PathJoin(path, "log.old")} {
		segments, err := wal.SegmentPaths(o.FS, dir)
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return nil, err
		}
		files = append(files, segments...)
	}
	for _, name := range statesIn {
		if _, err := o.FS.Stat(o.FS.PathJoin(path, name)); err == nil {
			f.Unread = append(f.Unread, o.FS.PathJoin(path, name))
		}
	}
	if len(files)+len(f.Unread) == 0 {
		return nil, fmt.Errorf("%w: %s holds no file of a log", ErrSelector, path)
	}
	return files, nil
}

// inFile shows the frames of a segment or a divergent file; torn says that it ends in
// what is no frame, as an open segment may after a crash.
func (p *planning) inFile(ctx context.Context, path string, visit func(f *frame.Frame) error) (torn bool, err error) {
	s, err := wal.OpenSegment(p.o.FS, path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if id := s.Header().Instance; id != p.s.Instance.Instance {
		return false, &archive.ForeignError{Store: "the file system", Key: path, Theirs: id, Ours: p.s.Instance.Instance}
	}
	for {
		f, _, err := s.Next()
		switch {
		case errors.Is(err, io.EOF):
			return false, nil
		case errors.As(err, new(*wal.TornError)):
			return true, nil
		case err != nil:
			return false, err
		}
		if err := errors.Join(visit(f), ctx.Err()); err != nil {
			return false, fmt.Errorf("%s: %w", path, err)
		}
	}
}

// look takes note of a frame that tells of the subject.
func (f *FoundFile) look(s *subject, x *frame.Frame) error {
	f.Epoch, f.Last = x.Epoch, x.LSN
	if f.First == 0 {
		f.First = x.LSN
	}
	ops, err := opsOf(x)
	if err != nil {
		return err
	}
	for i := range ops {
		o := &ops[i]
		p, ok := s.parts(o.Key)
		if !ok || o.Type == frame.RangeDelete {
			continue
		}
		tells := s.isRow(p)
		if !tells && o.Type == frame.Put && p.Space != table.SpaceRows {
			if tells, err = s.mine(p, o.Key, o.Value, map[string]bool{}); err != nil {
				return fmt.Errorf("LSN %d: %w", x.LSN, err)
			}
		}
		if tells {
			if f.Count++; len(f.Frames) < maxFoundFrames {
				f.Frames = append(f.Frames, x.LSN)
			}
			return nil
		}
	}
	return nil
}
