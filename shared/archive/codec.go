package archive

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"

	"originchain/shared/object"
)

// Bounds of compression.
const (
	// windowBytes is how far back a compressed object refers: what it costs to read.
	windowBytes = 1 << 20
	// maxWindowBytes bounds what an object may ask a reader for.
	maxWindowBytes = 8 << 20
	// maxRawBytes bounds an object before compression: a decoder promises no more.
	maxRawBytes = 1 << 40
	// copyBytes is how much is compressed at once.
	copyBytes = 256 << 10
)

// newEncoder compresses in the goroutine that writes, so that the same input gives
// the same output and nothing is left behind by who gives up. The fastest level costs
// half and gives the same size within two hundredths: most of a frame are hashes, where
// a longer search finds nothing.
func newEncoder() (*zstd.Encoder, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(windowBytes), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("zstd encoder: %w", err)
	}
	return enc, nil
}

// counter counts and hashes what is written to it.
type counter struct {
	hash.Hash
	n int64
}

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.Hash.Write(p)
}

// tapped closes what a reader reads from.
type tapped struct {
	io.Reader
	io.Closer
}

// compressed is the body of a source of size bytes. What is compressed is given to
// check, which reads it to the end: so what has the hash is what was found good. It is
// kept in memory if all of it fits into keep, and else compressed once more to be sent:
// a segment of any size costs a bounded amount of memory, and no disk.
func compressed(open func() (io.ReadCloser, error), size int64, keep *room, check func(io.ReadCloser) error) (body object.Body, release func(), err error) {
	r, err := compress(open, size)
	if err != nil {
		return body, nil, err
	}
	sum, kept := &counter{Hash: sha256.New()}, &pieces{room: keep}
	if err := check(tapped{io.TeeReader(r, io.MultiWriter(sum, kept)), r}); err != nil {
		kept.drop()
		return body, nil, err
	}
	body.Size = sum.n
	sum.Sum(body.SHA256[:0])
	body.Open = kept.open
	if kept.over {
		body.Open = func() (io.ReadCloser, error) { return compress(open, size) }
	}
	return body, kept.drop, nil
}

// compressor gives the compressed bytes of a source to whoever reads.
type compressor struct {
	src  io.ReadCloser
	enc  *zstd.Encoder
	out  bytes.Buffer
	in   []byte
	done bool
}

func compress(open func() (io.ReadCloser, error), size int64) (io.ReadCloser, error) {
	src, err := open()
	if err != nil {
		return nil, err
	}
	c := &compressor{src: src, in: make([]byte, min(copyBytes, max(size, 1)))}
	if c.enc, err = newEncoder(); err != nil {
		return nil, errors.Join(err, src.Close())
	}
	c.enc.ResetContentSize(&c.out, size)
	return c, nil
}

// Read implements io.Reader.
func (c *compressor) Read(p []byte) (int, error) {
	for c.out.Len() == 0 {
		if c.done {
			return 0, io.EOF
		}
		n, err := c.src.Read(c.in)
		if _, err := c.enc.Write(c.in[:n]); err != nil {
			return 0, err
		}
		switch {
		case errors.Is(err, io.EOF):
			c.done = true
			if err := c.enc.Close(); err != nil {
				return 0, err
			}
		case err != nil:
			return 0, err
		}
	}
	return c.out.Read(p)
}

// Close implements io.Closer.
func (c *compressor) Close() error { return c.src.Close() }

// errFormat says that an object is not compressed as ours are.
var errFormat = errors.New("it is not one zstd frame that tells its length")

// expander gives the raw bytes of a compressed object, and fails unless they are as
// many as it says. Its memory is bounded by maxWindowBytes.
type expander struct {
	src  io.ReadCloser
	dec  *zstd.Decoder
	size int64
	left int64
}

func expand(src io.ReadCloser) (*expander, error) {
	buffered := bufio.NewReader(src)
	var h zstd.Header
	b, err := buffered.Peek(zstd.HeaderMaxSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := h.Decode(b); err != nil || h.Skippable || !h.HasFCS || h.DictionaryID != 0 || h.FrameContentSize > maxRawBytes ||
		h.WindowSize > maxWindowBytes || h.SingleSegment && h.FrameContentSize > maxWindowBytes {
		return nil, errFormat
	}
	dec, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindowBytes), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("zstd decoder: %w", err)
	}
	return &expander{src: src, dec: dec, size: int64(h.FrameContentSize), left: int64(h.FrameContentSize)}, nil
}

// Read implements io.Reader.
func (e *expander) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, e.end()
	}
	n, err := e.dec.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = nil
		if e.left > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

// end reports io.EOF if nothing stands behind the bytes that were announced.
func (e *expander) end() error {
	var one [1]byte
	n, err := io.ReadFull(e.dec, one[:])
	if n > 0 {
		return fmt.Errorf("%w: it goes on behind %d bytes", errFormat, e.size)
	}
	return err
}

// Close implements io.Closer.
func (e *expander) Close() error {
	e.dec.Close()
	return e.src.Close()
}
