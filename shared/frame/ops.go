package frame

import (
	"encoding/binary"
	"fmt"

	"originchain/shared/lsn"

	"github.com/zeebo/xxh3"
)

// OpType says what an operation does to its key.
type OpType uint8

// The operations of the log.
const (
	// Put sets Key to Value; HadOld and Old say which pair it replaces.
	Put OpType = 1
	// Delete removes Key; Old is the hash of the pair removed. A delete of an
	// absent key is left out of the frame by whoever makes it.
	Delete OpType = 2
	// RangeDelete removes every key in [Key, End); Old is the sum of the
	// hashes of all pairs removed.
	RangeDelete OpType = 3
)

// String names the operation as waldump prints it.
func (t OpType) String() string {
	switch t {
	case Put:
		return "put"
	case Delete:
		return "delete"
	case RangeDelete:
		return "range_delete"
	}
	return fmt.Sprintf("op(%d)", uint8(t))
}

// Op is one operation. A key is touched at most once in a frame, and Old is
// relative to the state before the frame: only so is a digest checked without
// a read.
type Op struct {
	Type OpType
	Key  []byte
	// End is the exclusive end of a RangeDelete, nil otherwise.
	End []byte
	// Value is the new value of a Put, nil otherwise.
	Value []byte
	// HadOld says that a Put replaces a pair; Delete and RangeDelete always do.
	HadOld bool
	Old    lsn.Digest
}

// pairOnStack is the longest pair that is hashed from one buffer on the stack.
const pairOnStack = 512

// PairHash is XXH3-128 over the key's length (u32, little-endian), key and
// value: what a pair contributes to the state digest.
func PairHash(key, value []byte) lsn.Digest {
	if 4+len(key)+len(value) <= pairOnStack {
		var space [pairOnStack]byte
		b := binary.LittleEndian.AppendUint32(space[:0], uint32(len(key)))
		b = append(append(b, key...), value...)
		h := xxh3.Hash128(b)
		return lsn.Digest{Hi: h.Hi, Lo: h.Lo}
	}
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], uint32(len(key)))
	x := xxh3.New()
	_, _ = x.Write(n[:]) // a hasher's Write never fails
	_, _ = x.Write(key)
	_, _ = x.Write(value)
	h := x.Sum128()
	return lsn.Digest{Hi: h.Hi, Lo: h.Lo}
}

// Delta is what the operation adds to the state digest.
func (o *Op) Delta() lsn.Digest {
	switch o.Type {
	case Put:
		d := PairHash(o.Key, o.Value)
		if o.HadOld {
			d = d.Sub(o.Old)
		}
		return d
	default:
		return lsn.Digest{}.Sub(o.Old)
	}
}

// Delta is what the operations add to the state digest together.
func Delta(ops []Op) lsn.Digest {
	var d lsn.Digest
	for i := range ops {
		d = d.Add(ops[i].Delta())
	}
	return d
}

// AppendOps appends the encoding of ops: their count, then each.
func AppendOps(dst []byte, ops []Op) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(ops)))
	for i := range ops {
		dst = AppendOp(dst, &ops[i])
	}
	return dst
}

// AppendOp appends one operation without the count, for callers that stream
// operations behind a count they know.
func AppendOp(dst []byte, o *Op) []byte {
	dst = append(dst, byte(o.Type))
	dst = appendBytes(dst, o.Key)
	switch o.Type {
	case Put:
		dst = appendBytes(dst, o.Value)
		if !o.HadOld {
			return append(dst, 0)
		}
		return o.Old.Append(append(dst, 1))
	case RangeDelete:
		dst = appendBytes(dst, o.End)
	}
	return o.Old.Append(dst)
}

func appendBytes(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}
