package schema

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"originchain/shared/fault"
)

// MaxBatchRowBytes bounds one row of a batch: a line of NDJSON or an element of
// a JSON array.
const MaxBatchRowBytes = 1 << 20

const firstBufferBytes = 64 << 10

// RowReader splits a batch into the JSON texts of its rows: the elements of a
// JSON array when the body begins with [, the lines of NDJSON otherwise. It holds
// one row and a read's worth of what follows, whatever the body's length. It
// finds where rows end; DecodeJSON finds what is wrong inside one.
type RowReader struct {
	src      io.Reader
	buf      []byte
	from, to int // the bytes read and not yet given out
	mode     batchMode
	index    int // of the row Next is at
	srcErr   error
	err      error // what ended the batch
}

type batchMode uint8

const (
	batchUnknown batchMode = iota
	batchLines
	batchArrayFirst
	batchArrayRest
)

// NewRowReader reads from src, nothing before the first Next.
func NewRowReader(src io.Reader) *RowReader { return &RowReader{src: src} }

// Next returns the JSON of the next row, valid until the next call, and its
// index, counted from 0. The error is io.EOF after the last row, invalid_json for
// a broken array, body_too_large for a row above MaxBatchRowBytes, or wraps
// what the reader gave; index then names the row it was found at. An error stays.
func (r *RowReader) Next() (raw []byte, index int, err error) {
	if r.err != nil {
		return nil, r.index, r.err
	}
	raw, err = r.row()
	if err != nil {
		r.err = err
		return nil, r.index, err
	}
	r.index++
	return raw, r.index - 1, nil
}

func (r *RowReader) row() ([]byte, error) {
	c, err := r.nonSpace()
	if err == nil && r.mode == batchUnknown {
		r.mode = batchLines
		if c == '[' {
			r.mode = batchArrayFirst
			r.from++
			c, err = r.nonSpace()
		}
	}
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("reading row %d of the batch: %w", r.index, err)
	case r.mode == batchUnknown:
		return nil, io.EOF
	case r.mode == batchLines:
		if err != nil {
			return nil, io.EOF
		}
		return r.line()
	}
	return r.element(c)
}

// element is the next element of an array; c is the byte the reader is at, 0 at
// the end of the body.
func (r *RowReader) element(c byte) ([]byte, error) {
	if c == ']' {
		r.from++
		return nil, r.afterArray()
	}
	if r.mode == batchArrayRest {
		if c != ',' {
			return nil, r.broken(c, "a comma or ]")
		}
		r.from++
		var err error
		if c, err = r.nonSpace(); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading row %d of the batch: %w", r.index, err)
		}
	}
	r.mode = batchArrayRest
	if c != '{' {
		return nil, r.broken(c, "a row's JSON object")
	}
	return r.object()
}

func (r *RowReader) broken(c byte, want string) error {
	if c == 0 && r.from == r.to {
		return fault.New(fault.InvalidJSON, "the batch ends at row %d (counted from 0), where %s is expected", r.index, want)
	}
	return fault.New(fault.InvalidJSON, "the batch has %q at row %d (counted from 0), where %s is expected", c, r.index, want)
}

// afterArray requires that nothing follows the array.
func (r *RowReader) afterArray() error {
	c, err := r.nonSpace()
	switch {
	case err == nil:
		return fault.New(fault.InvalidJSON, "the batch has %q after its closing ]; send one array", c)
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("reading behind the last row of the batch: %w", err)
	}
	return io.EOF
}

// nonSpace drops white space and returns the byte after it, without taking it.
func (r *RowReader) nonSpace() (byte, error) {
	for {
		for r.from < r.to {
			c := r.buf[r.from]
			if c != ' ' && c != '\n' && c != '\r' && c != '\t' {
				return c, nil
			}
			r.from++
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
}

// line takes the bytes up to the end of the line or of the body.
func (r *RowReader) line() ([]byte, error) {
	scanned := 0
	for {
		have := r.buf[r.from:r.to]
		if i := bytes.IndexByte(have[scanned:], '\n'); i >= 0 {
			r.from += scanned + i + 1
			return r.sizedRow(bytes.TrimRight(have[:scanned+i], " \t\r"))
		}
		scanned = len(have)
		err := r.more()
		if errors.Is(err, io.EOF) {
			last := r.buf[r.from:r.to] // fill has moved it
			r.from = r.to
			return r.sizedRow(bytes.TrimRight(last, " \t\r"))
		}
		if err != nil {
			return nil, err
		}
	}
}

// object takes the bytes up to the bracket that closes the one it is at. Which
// bracket closes which is left to the decoder.
func (r *RowReader) object() ([]byte, error) {
	depth, quoted := 0, false
	for i := 0; ; {
		have := r.buf[r.from:r.to]
		for ; i < len(have); i++ {
			switch c := have[i]; {
			case c == '"':
				quoted = !quoted
			case quoted && c == '\\':
				i++ // whatever it is, it does not end the string
			case quoted:
			case c == '{' || c == '[':
				depth++
			case c == '}' || c == ']':
				if depth--; depth == 0 {
					r.from += i + 1
					return r.sizedRow(have[:i+1])
				}
			}
		}
		err := r.more()
		if errors.Is(err, io.EOF) {
			return nil, fault.New(fault.InvalidJSON, "the batch ends inside row %d (counted from 0)", r.index)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (r *RowReader) sizedRow(raw []byte) ([]byte, error) {
	if len(raw) > MaxBatchRowBytes {
		return nil, r.tooLarge()
	}
	return raw, nil
}

func (r *RowReader) tooLarge() error {
	return fault.New(fault.BodyTooLarge, "row %d of the batch (counted from 0) is longer than %d bytes; send it by itself or make it smaller", r.index, MaxBatchRowBytes)
}

// more reads on inside a row, whose start stays at r.from.
func (r *RowReader) more() error {
	if r.to-r.from > MaxBatchRowBytes {
		return r.tooLarge()
	}
	err := r.fill()
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading row %d of the batch: %w", r.index, err)
	}
	return err
}

// fill reads at least one byte behind r.to, making room by moving the rest to
// the front, or by a larger buffer where one row fills it.
func (r *RowReader) fill() error {
	if r.from > 0 {
		r.to = copy(r.buf, r.buf[r.from:r.to])
		r.from = 0
	}
	if r.to == len(r.buf) {
		grown := make([]byte, max(2*len(r.buf), firstBufferBytes))
		copy(grown, r.buf[:r.to])
		r.buf = grown
	}
	const mostEmptyReads = 100
	for range mostEmptyReads {
		if r.srcErr != nil {
			return r.srcErr
		}
		n, err := r.src.Read(r.buf[r.to:])
		if n < 0 || n > len(r.buf)-r.to {
			return errors.New("the reader returned an impossible count")
		}
		r.to += n
		r.srcErr = err
		if n > 0 {
			return nil
		}
	}
	return io.ErrNoProgress
}
