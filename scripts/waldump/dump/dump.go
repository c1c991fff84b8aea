package dump

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/wal"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// KeyFormatter turns a key into something a person can read.
type KeyFormatter func(key []byte) string

// QuoteKey prints a key as a quoted string, with escapes for what is not ASCII.
func QuoteKey(key []byte) string { return strconv.QuoteToASCII(string(key)) }

// Options say what is printed, and how.
type Options struct {
	FS  vfs.FS
	Out io.Writer
	// JSON prints one object per line.
	JSON bool
	// Ops prints the operations of each frame.
	Ops bool
	// Verify also checks footers, SHA-256 and keys.
	Verify bool
	// Quiet prints verdicts alone.
	Quiet     bool
	FormatKey KeyFormatter
}

// printer is one way to show what is read. Its methods do not fail: the
// buffered writer below them keeps the first error for Flush.
type printer interface {
	header(path string, h *frame.SegmentHeader)
	frame(f *frame.Frame, offset int64, ops int)
	op(o *frame.Op)
	footer(f *frame.Footer)
	verdict(path string, v verdict)
}

// verdict is what is said of a file in the end.
type verdict struct {
	OK     bool   `json:"ok"`
	Sealed bool   `json:"sealed"`
	Detail string `json:"detail"`
}

// Run prints the files and directories named by paths. A corruption is a
// *fault.Corruption; it ends the file it is in and not the run, so that one run
// shows all there is. The first error is returned.
func Run(o Options, paths []string) error {
	out := bufio.NewWriter(o.Out)
	r := &run{opts: o, print: newText(out, o.FormatKey)}
	if o.JSON {
		r.print = newJSON(out, o.FormatKey)
	}
	var first error
	for _, path := range paths {
		if err := r.path(path); err != nil && first == nil {
			first = err
		}
	}
	return errors.Join(first, out.Flush())
}

type run struct {
	opts  Options
	print printer
}

// path shows a file, or the log in a directory.
func (r *run) path(path string) error {
	info, err := r.opts.FS.Stat(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if info.IsDir() {
		return r.directory(path)
	}
	_, err = r.file(path, nil)
	return err
}

// directory shows the segments of a log, each joined to the one before it.
func (r *run) directory(dir string) error {
	mark, err := wal.ReadMark(r.opts.FS, dir)
	if err != nil {
		return err
	}
	paths, err := wal.SegmentPaths(r.opts.FS, dir)
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		return fmt.Errorf("read %s: it holds no segment of a log", dir)
	}
	var first error
	var prev *wal.SegmentReport
	for _, path := range paths {
		report, err := r.file(path, prev)
		if err != nil {
			first = cmp.Or(first, err)
			prev = nil // what follows cannot be held against it
			continue
		}
		prev = &report
	}
	if prev != nil {
		first = cmp.Or(first, prev.Reaches(mark))
	}
	return first
}

// file shows one segment and says what became of it.
func (r *run) file(path string, prev *wal.SegmentReport) (wal.SegmentReport, error) {
	report, err := r.segment(path, prev)
	v := verdict{OK: err == nil, Sealed: report.Sealed}
	switch {
	case err != nil:
		v.Detail = err.Error()
	case report.Torn != nil:
		v.Detail = fmt.Sprintf("open, torn tail at offset %d: %v", report.Torn.Offset, report.Torn.Cause)
	case report.Sealed:
		v.Detail = "sealed, " + read(&report)
	default:
		v.Detail = "open, " + read(&report)
	}
	r.print.verdict(path, v)
	return report, err
}

func read(r *wal.SegmentReport) string {
	return fmt.Sprintf("%d frames, %d operations, %d bytes intact", r.Frames, r.Ops, r.Bytes)
}

func (r *run) segment(path string, prev *wal.SegmentReport) (report wal.SegmentReport, err error) {
	s, err := wal.OpenSegment(r.opts.FS, path)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	header := s.Header()
	if !r.opts.Quiet {
		r.print.header(path, &header)
	}
	err = r.frames(s)
	report = s.Report()
	if err != nil && !errors.As(err, &report.Torn) {
		return report, err
	}
	if r.opts.Verify {
		if err := s.CheckSeal(); err != nil {
			return report, err
		}
	}
	if footer := s.Footer(); footer != nil && !r.opts.Quiet {
		r.print.footer(footer)
	}
	if prev != nil {
		return report, report.Follows(prev)
	}
	return report, nil
}

// frames shows the frames up to the end, which is nil, or what stopped it.
func (r *run) frames(s *wal.SegmentFile) error {
	for {
		f, offset, err := s.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if r.opts.Verify {
			if err := s.CheckKeys(); err != nil {
				return err
			}
		}
		if r.opts.Quiet {
			continue
		}
		if err := r.frame(f, offset); err != nil {
			return err
		}
	}
}

func (r *run) frame(f *frame.Frame, offset int64) error {
	ops, err := f.Ops()
	if err != nil {
		return fmt.Errorf("operations of LSN %d: %w", f.LSN, err)
	}
	r.print.frame(f, offset, ops.Len())
	var op frame.Op
	for r.opts.Ops {
		more, err := ops.Next(&op)
		if err != nil {
			return fmt.Errorf("operations of LSN %d: %w", f.LSN, err)
		}
		if !more {
			return nil
		}
		r.print.op(&op)
	}
	return nil
}

// record says what opens the body of an epoch or clock frame, "" for data.
func record(f *frame.Frame) string {
	switch f.Kind {
	case frame.KindEpoch:
		if r, _, err := frame.DecodeEpoch(f.Body); err == nil {
			return fmt.Sprintf("parent_epoch=%d first_lsn=%d parent_chain=%s", r.Parent, r.FirstLSN, short(r.ParentChain))
		}
	case frame.KindClock:
		if r, _, err := frame.DecodeClock(f.Body); err == nil {
			return fmt.Sprintf("old_offset_us=%d new_offset_us=%d", r.OldOffset, r.NewOffset)
		}
	}
	return ""
}

// short is enough of a chain value to tell two apart by eye.
func short(c lsn.Chain) string { return c.String()[:12] }
