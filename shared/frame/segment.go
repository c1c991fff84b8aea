package frame

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"originchain/shared/lsn"
)

const (
	// SegmentHeaderSize is the length of the header that opens a segment file;
	// the first frame stands right behind it.
	SegmentHeaderSize = 256
	// segmentVersion is the file format this code writes and the newest it reads.
	segmentVersion = 1
	segmentMagic   = "OCSEGMT\x01"
)

// Places inside the segment header.
const (
	segVersion   = 8
	segLength    = 12
	segInstance  = 16
	segEpoch     = 32
	segFirst     = 40
	segChain     = 48
	segDigest    = 80
	segTimestamp = 96
	segSeed      = 104
	segReserved  = 112
	segCRC       = 252
)

// SegmentHeader says whose log a segment belongs to and which history it
// continues: everything needed to verify its first frame without the segment
// before it.
type SegmentHeader struct {
	Instance [16]byte
	// Epoch is that of every frame in the segment.
	Epoch lsn.Epoch
	// First is the LSN of the first frame.
	First lsn.LSN
	// PrevChain, PrevDigest and PrevTimestamp are those of frame First-1;
	// zero where the log begins.
	PrevChain     lsn.Chain
	PrevDigest    lsn.Digest
	PrevTimestamp int64
	// Seed is random and enters every CRC in the file.
	Seed uint64
}

// Append encodes the header.
func (h *SegmentHeader) Append(dst []byte) []byte {
	var b [SegmentHeaderSize]byte
	copy(b[:], segmentMagic)
	binary.LittleEndian.PutUint32(b[segVersion:], segmentVersion)
	binary.LittleEndian.PutUint32(b[segLength:], SegmentHeaderSize)
	copy(b[segInstance:], h.Instance[:])
	binary.LittleEndian.PutUint64(b[segEpoch:], uint64(h.Epoch))
	binary.LittleEndian.PutUint64(b[segFirst:], uint64(h.First))
	copy(b[segChain:], h.PrevChain[:])
	putDigest(b[segDigest:], h.PrevDigest)
	binary.LittleEndian.PutUint64(b[segTimestamp:], uint64(h.PrevTimestamp))
	binary.LittleEndian.PutUint64(b[segSeed:], h.Seed)
	binary.LittleEndian.PutUint32(b[segCRC:], crc32.Checksum(b[:segCRC], castagnoli))
	return append(dst, b[:]...)
}

// DecodeSegmentHeader reads the header at the start of a segment file. Every
// version keeps magic, version and the CRC in these places, so that a flipped
// bit (*DecodeError) is told from a newer format (*NewerError).
func DecodeSegmentHeader(src []byte) (h SegmentHeader, err error) {
	if len(src) < SegmentHeaderSize {
		return h, &DecodeError{What: "segment header", Want: "256 bytes", Got: fmt.Sprintf("%d bytes", len(src))}
	}
	if string(src[:segVersion]) != segmentMagic {
		return h, &DecodeError{What: "segment magic", Want: fmt.Sprintf("%x", segmentMagic), Got: fmt.Sprintf("%x", src[:segVersion])}
	}
	want := binary.LittleEndian.Uint32(src[segCRC:])
	if got := crc32.Checksum(src[:segCRC], castagnoli); got != want {
		return h, &DecodeError{What: "segment header CRC32C", Want: fmt.Sprintf("%08x", want), Got: fmt.Sprintf("%08x", got)}
	}
	if err := checkSegmentVersion(src); err != nil {
		return h, err
	}
	copy(h.Instance[:], src[segInstance:])
	h.Epoch = lsn.Epoch(binary.LittleEndian.Uint64(src[segEpoch:]))
	h.First = lsn.LSN(binary.LittleEndian.Uint64(src[segFirst:]))
	copy(h.PrevChain[:], src[segChain:])
	h.PrevDigest = lsn.DigestFrom(src[segDigest:])
	h.PrevTimestamp = int64(binary.LittleEndian.Uint64(src[segTimestamp:]))
	h.Seed = binary.LittleEndian.Uint64(src[segSeed:])
	if h.First == 0 {
		return h, &DecodeError{What: "first LSN of the segment", Want: "1 or more", Got: "0"}
	}
	return h, nil
}

func checkSegmentVersion(src []byte) error {
	v := binary.LittleEndian.Uint32(src[segVersion:])
	if v == 0 {
		return &DecodeError{What: "segment format version", Want: "1 or more", Got: "0"}
	}
	if v > segmentVersion {
		return &NewerError{What: "segment format version", Got: uint64(v), Ours: segmentVersion}
	}
	if n := binary.LittleEndian.Uint32(src[segLength:]); n != SegmentHeaderSize {
		return &NewerError{What: "segment header length", Got: uint64(n), Ours: SegmentHeaderSize}
	}
	for i, b := range src[segReserved:segCRC] {
		if b != 0 {
			return &NewerError{What: fmt.Sprintf("reserved byte %d of the segment header", segReserved+i), Got: uint64(b), Ours: 0}
		}
	}
	return nil
}
