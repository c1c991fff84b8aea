package wal

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"originchain/shared/frame"
	"originchain/shared/lsn"
)

// segment is one file of the log as readers see it.
type segment struct {
	path   string
	header frame.SegmentHeader
	// last is the state after the segment's last frame.
	last Tail
	// end is the end of its durable frames: where the footer begins once sealed.
	end int64
	// bytes is the length of header, frames and footer.
	bytes  int64
	sealed bool
}

// activeSegment is the file being appended to, and what its footer will say.
type activeSegment struct {
	path   string
	file   file
	header frame.SegmentHeader
	// end is where the next frame goes.
	end    int64
	footer frame.Footer
	sum    hash.Hash
}

// startActive begins the bookkeeping of a segment that holds only its header.
func startActive(path string, f file, header frame.SegmentHeader) *activeSegment {
	a := &activeSegment{path: path, file: f, header: header, end: frame.SegmentHeaderSize, sum: sha256.New()}
	a.sum.Write(header.Append(nil)) // a hash's Write never fails
	return a
}

// note adds one frame of size bytes, which begins at end, to the footer-to-be.
func (a *activeSegment) note(h *frame.Header, chain lsn.Chain, ops, size int) {
	f := &a.footer
	if n := len(f.Index); n == 0 || a.end-int64(f.Index[n-1].Offset) >= frame.IndexEvery {
		f.Index = append(f.Index, frame.IndexEntry{LSN: h.LSN, Timestamp: h.Timestamp, Offset: uint64(a.end)})
	}
	f.Frames++
	f.Ops += uint64(ops)
	f.Last, f.Timestamp, f.Chain, f.Digest = h.LSN, h.Timestamp, chain, h.Digest
	a.end += int64(size)
}

// firstStamp is the stamp of the segment's first frame.
func (a *activeSegment) firstStamp() int64 {
	if len(a.footer.Index) == 0 {
		return a.header.PrevTimestamp
	}
	return a.footer.Index[0].Timestamp
}

// tailOf is the state a sealed segment's footer describes.
func tailOf(h *frame.SegmentHeader, f *frame.Footer) Tail {
	return Tail{Pos: lsn.Pos{Epoch: h.Epoch, LSN: f.Last}, Chain: f.Chain, Digest: f.Digest, Timestamp: f.Timestamp}
}

// readHeader reads and decodes the header of the segment file src; a file too
// short for one is a *frame.DecodeError.
func readHeader(src io.ReaderAt) (frame.SegmentHeader, error) {
	var b [frame.SegmentHeaderSize]byte
	n, err := src.ReadAt(b[:], 0)
	if n < len(b) && err != nil && !errors.Is(err, io.EOF) {
		return frame.SegmentHeader{}, err
	}
	return frame.DecodeSegmentHeader(b[:n])
}

// readFooter reads the footer of a file of size bytes and holds it against the
// header. A *frame.DecodeError says that the file is not sealed, or that its
// seal is damaged.
func readFooter(src io.ReaderAt, header *frame.SegmentHeader, size int64) (*frame.Footer, int64, error) {
	if size < frame.SegmentHeaderSize+frame.TrailerSize {
		return nil, 0, &frame.DecodeError{What: "trailer", Want: "a sealed file", Got: fmt.Sprintf("%d bytes", size)}
	}
	var trailer [frame.TrailerSize]byte
	if err := readFull(src, trailer[:], size-frame.TrailerSize); err != nil {
		return nil, 0, err
	}
	at, err := frame.DecodeTrailer(trailer[:])
	if err != nil {
		return nil, 0, err
	}
	limit := frame.MaxFooterSize(size)
	if at < frame.SegmentHeaderSize || at%frame.Align != 0 || at > uint64(size) || size-int64(at) > limit {
		return nil, 0, &frame.DecodeError{What: "footer offset", Want: fmt.Sprintf("a multiple of 8 within %d bytes of the end at %d", limit, size), Got: fmt.Sprint(at)}
	}
	b := make([]byte, size-int64(at))
	if err := readFull(src, b, int64(at)); err != nil {
		return nil, 0, err
	}
	footer, err := frame.DecodeFooter(b, header.Seed, at)
	if err != nil {
		return nil, int64(at), err
	}
	if want := header.First + lsn.LSN(footer.Frames) - 1; footer.Frames == 0 || footer.Last != want {
		err = &frame.DecodeError{What: "last LSN in the footer", Want: fmt.Sprintf("%d, after %d frames", want, footer.Frames), Got: fmt.Sprint(footer.Last)}
		return nil, int64(at), err
	}
	return footer, int64(at), nil
}

// checkSegment holds a segment's header against its name, the instance and the
// segment before it; prev is nil for the oldest.
func checkSegment(path string, first lsn.LSN, h *frame.SegmentHeader, instance [16]byte, prev *Tail) error {
	switch {
	case h.Instance != instance:
		return &ForeignError{path, h.Instance, instance}
	case h.First != first:
		return corruption(path, 0, "first LSN of the segment", fmt.Sprint(first), fmt.Sprint(h.First))
	case prev == nil:
		return nil
	case h.First != prev.Pos.LSN+1:
		return corruption(path, 0, "first LSN of the segment", fmt.Sprint(prev.Pos.LSN+1), fmt.Sprint(h.First))
	case h.PrevChain != prev.Chain:
		return corruption(path, 0, "previous chain", prev.Chain.String(), h.PrevChain.String())
	case h.PrevDigest != prev.Digest:
		return corruption(path, 0, "previous digest", prev.Digest.String(), h.PrevDigest.String())
	case h.PrevTimestamp != prev.Timestamp:
		return corruption(path, 0, "previous timestamp", fmt.Sprint(prev.Timestamp), fmt.Sprint(h.PrevTimestamp))
	case h.Epoch < prev.Pos.Epoch:
		return corruption(path, 0, "epoch of the segment", fmt.Sprintf("%d or later", prev.Pos.Epoch), fmt.Sprint(h.Epoch))
	}
	return nil
}

// ForeignError refuses a file of another instance: it is intact, but not ours.
type ForeignError struct {
	Path         string
	Theirs, Ours [16]byte
}

// Error implements error.
func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s belongs to instance %x, this server is instance %x: "+
		"point --data-dir at this instance's directory, or restore into a fresh one", e.Path, e.Theirs, e.Ours)
}
