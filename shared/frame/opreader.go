package frame

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"originchain/shared/lsn"
)

// minOpSize is the shortest operation: type, a key of one byte behind its
// length, an empty value and the old flag. It bounds the count by the bytes.
const minOpSize = 5

// OpReader walks the operations of a body without allocating; the slices it
// hands out alias the body.
type OpReader struct {
	rest  []byte
	left  uint64
	total int
}

// ReadOps starts at the count of operations.
func ReadOps(src []byte) (OpReader, error) {
	n, rest, err := uvarint(src, "operation count")
	if err != nil {
		return OpReader{}, err
	}
	if n > uint64(len(rest)/minOpSize) {
		return OpReader{}, &DecodeError{What: "operation count", Want: fmt.Sprintf("at most %d in %d bytes", len(rest)/minOpSize, len(rest)), Got: fmt.Sprint(n)}
	}
	if n == 0 && len(rest) != 0 {
		return OpReader{}, trailing(rest)
	}
	return OpReader{rest: rest, left: n, total: int(n)}, nil
}

// Len returns how many operations the body holds.
func (r *OpReader) Len() int { return r.total }

// Next decodes the next operation into op. It returns false at the end, which
// must be the end of the bytes too, and on an error.
func (r *OpReader) Next(op *Op) (bool, error) {
	if r.left == 0 {
		return false, nil
	}
	rest, err := decodeOp(op, r.rest)
	if err != nil {
		return false, err
	}
	r.rest, r.left = rest, r.left-1
	if r.left == 0 && len(rest) != 0 {
		return false, trailing(rest)
	}
	return true, nil
}

func trailing(rest []byte) error {
	return &DecodeError{What: "bytes after the last operation", Want: "0", Got: fmt.Sprint(len(rest))}
}

// DecodeOps decodes all operations; their slices alias src.
func DecodeOps(src []byte) ([]Op, error) {
	r, err := ReadOps(src)
	if err != nil {
		return nil, err
	}
	ops := make([]Op, r.Len())
	for i := range ops {
		if _, err := r.Next(&ops[i]); err != nil {
			return nil, err
		}
	}
	return ops, nil
}

func decodeOp(op *Op, src []byte) ([]byte, error) {
	if len(src) == 0 {
		return nil, &DecodeError{What: "operation", Want: "a type", Got: "the end"}
	}
	*op = Op{Type: OpType(src[0])}
	if op.Type < Put || op.Type > RangeDelete {
		return nil, &DecodeError{What: "operation type", Want: "1 to 3", Got: fmt.Sprint(src[0])}
	}
	var err error
	if op.Key, src, err = byteString(src[1:], "key"); err != nil {
		return nil, err
	}
	if len(op.Key) == 0 {
		return nil, &DecodeError{What: "key", Want: "1 byte or more", Got: "none"}
	}
	switch op.Type {
	case Put:
		return decodePut(op, src)
	case RangeDelete:
		if op.End, src, err = byteString(src, "range end"); err != nil {
			return nil, err
		}
		if bytes.Compare(op.Key, op.End) >= 0 {
			return nil, &DecodeError{What: "range", Want: "a start below its end", Got: fmt.Sprintf("%x to %x", op.Key, op.End)}
		}
	}
	op.HadOld = true
	return oldHash(op, src)
}

func decodePut(op *Op, src []byte) ([]byte, error) {
	var err error
	if op.Value, src, err = byteString(src, "value"); err != nil {
		return nil, err
	}
	if len(src) == 0 || src[0] > 1 {
		return nil, &DecodeError{What: "old flag", Want: "0 or 1", Got: fmt.Sprintf("%x", src[:min(1, len(src))])}
	}
	op.HadOld = src[0] == 1
	if !op.HadOld {
		return src[1:], nil
	}
	return oldHash(op, src[1:])
}

func oldHash(op *Op, src []byte) ([]byte, error) {
	if len(src) < lsn.DigestSize {
		return nil, &DecodeError{What: "old pair hash", Want: "16 bytes", Got: fmt.Sprintf("%d bytes", len(src))}
	}
	op.Old = lsn.DigestFrom(src)
	return src[lsn.DigestSize:], nil
}

// byteString reads a length and as many bytes, bounded by those that remain.
func byteString(src []byte, what string) (val, rest []byte, err error) {
	n, rest, err := uvarint(src, what)
	if err != nil {
		return nil, nil, err
	}
	if n > uint64(len(rest)) {
		return nil, nil, &DecodeError{What: what + " length", Want: fmt.Sprintf("at most %d", len(rest)), Got: fmt.Sprint(n)}
	}
	return rest[:n:n], rest[n:], nil
}

// uvarint reads one integer and insists on its shortest form: equal bodies
// must have equal bytes, or H would differ for the same operations.
func uvarint(src []byte, what string) (uint64, []byte, error) {
	if len(src) > 0 && src[0] < 0x80 {
		return uint64(src[0]), src[1:], nil
	}
	n, size := binary.Uvarint(src)
	if size <= 0 || (size > 1 && src[size-1] == 0) {
		return 0, nil, &DecodeError{What: what, Want: "a uvarint in its shortest form", Got: fmt.Sprintf("%x", src[:min(len(src), binary.MaxVarintLen64)])}
	}
	return n, src[size:], nil
}

// CheckKeys reports whether a key is touched more than once, by itself or
// through a range: then Old values overlap and the digest would be wrong.
// It sorts ops by key.
func CheckKeys(ops []Op) error {
	slices.SortFunc(ops, func(a, b Op) int {
		return cmp.Or(bytes.Compare(a.Key, b.Key), cmp.Compare(a.Type, b.Type))
	})
	var end []byte // the furthest exclusive end of a range so far
	for i := range ops {
		o := &ops[i]
		if bytes.Compare(o.Key, end) < 0 || (i > 0 && bytes.Equal(o.Key, ops[i-1].Key)) {
			return &DecodeError{What: "operations of a frame", Want: "one per key", Got: fmt.Sprintf("key %x again", o.Key)}
		}
		if o.Type == RangeDelete && bytes.Compare(o.End, end) > 0 {
			end = o.End
		}
	}
	return nil
}
