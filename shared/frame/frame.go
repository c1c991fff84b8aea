package frame

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"originchain/shared/lsn"
)

// Sizes of the format, in bytes.
const (
	// HeaderSize is the fixed part of a frame, before its payload.
	HeaderSize = 120
	// Align is the boundary on which every frame and the footer begin.
	Align = 8
	// MaxFrame bounds a frame as stored, padding included.
	MaxFrame = 16 << 20
	// MaxBody bounds the uncompressed body, so that the frame fits MaxFrame
	// stored raw, and still does when a purge puts H before its payload.
	MaxBody = MaxFrame - HeaderSize - HashSize
	// HashSize is the length of H and of a chain value.
	HashSize = sha256.Size
	// SaltSize is the length of the random salt that H starts with.
	SaltSize = 16
	// PeekSize is how many bytes Peek needs.
	PeekSize = 8
)

// Marker stands where a stored length would, and says that a footer begins.
const Marker = 0xFFFFFFFF

// frameVersion is the version of the frame layout this code writes and reads.
const frameVersion = 0

// Places inside the frame header.
const (
	offStored    = 0
	offCRC       = 4
	offFlags     = 8
	offKind      = 9
	offVersion   = 10
	offBodyLen   = 12
	offLSN       = 16
	offEpoch     = 24
	offSynced    = 32
	offTimestamp = 40
	offWall      = 48
	offSalt      = 56
	offDigest    = 72
	offChain     = 88
)

// The flags byte: the low four bits name the codec, the highest one a redacted
// frame; the rest must be zero.
const (
	codecMask    = 0x0F
	codecRaw     = 0
	codecZstd    = 1
	flagRedacted = 0x80
)

// Kind says what a frame's body starts with.
type Kind uint8

// The kinds. Data is operations alone; the others put a fixed record first.
const (
	KindData  Kind = 1
	KindEpoch Kind = 2
	KindClock Kind = 3
)

// String names the kind as waldump prints it.
func (k Kind) String() string {
	switch k {
	case KindData:
		return "data"
	case KindEpoch:
		return "epoch"
	case KindClock:
		return "clock"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Header is what a frame says about itself and what the chain commits to,
// together with H.
type Header struct {
	LSN   lsn.LSN
	Epoch lsn.Epoch
	// Synced is the highest LSN known durable when the frame's group was written.
	Synced lsn.LSN
	// Timestamp is the stamp in microseconds since 1970 UTC; it never decreases.
	Timestamp int64
	// Wall is the raw wall time in the same unit, for the record alone.
	Wall int64
	Kind Kind
	// Salt is random, so that H does not reveal a guessable body.
	Salt [SaltSize]byte
	// Digest is the state digest after this frame.
	Digest lsn.Digest
}

// Frame is one decoded frame.
type Frame struct {
	Header
	Chain lsn.Chain
	// Body is uncompressed. It aliases the decoder's input or its scratch
	// space, and is valid until the decoder is used again.
	Body []byte
	// H is the hash of salt and body; of the original body if Redacted.
	H [HashSize]byte
	// Redacted says that a purge replaced the body by what remains of it.
	Redacted bool
	// Stored is the frame's length in the file, padding included.
	Stored int
}

// Ops returns the operations of the frame, past the record of its kind.
func (f *Frame) Ops() (OpReader, error) {
	ops, err := OpsOf(f.Kind, f.Body)
	if err != nil {
		return OpReader{}, err
	}
	return ReadOps(ops)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// BodyHash returns H: SHA-256 over salt and uncompressed body.
func BodyHash(salt *[SaltSize]byte, body []byte) (h [HashSize]byte) {
	s := sha256.New()
	s.Write(salt[:])
	s.Write(body)
	s.Sum(h[:0])
	return h
}

// ChainNext returns the chain value of the frame with this header and H that
// follows prev.
func ChainNext(prev lsn.Chain, h *Header, hash *[HashSize]byte) lsn.Chain {
	var raw [HeaderSize]byte
	putHeader(raw[:], h)
	return chainNext(prev, raw[:], hash)
}

// chainNext hashes prev ‖ chained header ‖ H. In the layout the chained header
// is kind and version, then everything from LSN up to the chain value.
func chainNext(prev lsn.Chain, raw []byte, hash *[HashSize]byte) lsn.Chain {
	var in [2*HashSize + (offBodyLen - offKind) + (offChain - offLSN)]byte
	b := append(in[:0], prev[:]...)
	b = append(b, raw[offKind:offBodyLen]...)
	b = append(b, raw[offLSN:offChain]...)
	b = append(b, hash[:]...)
	return sha256.Sum256(b)
}

// putHeader writes the chained part of the header into raw.
func putHeader(raw []byte, h *Header) {
	raw[offKind] = byte(h.Kind)
	binary.LittleEndian.PutUint16(raw[offVersion:], frameVersion)
	binary.LittleEndian.PutUint64(raw[offLSN:], uint64(h.LSN))
	binary.LittleEndian.PutUint64(raw[offEpoch:], uint64(h.Epoch))
	binary.LittleEndian.PutUint64(raw[offSynced:], uint64(h.Synced))
	binary.LittleEndian.PutUint64(raw[offTimestamp:], uint64(h.Timestamp))
	binary.LittleEndian.PutUint64(raw[offWall:], uint64(h.Wall))
	copy(raw[offSalt:offDigest], h.Salt[:])
	putDigest(raw[offDigest:], h.Digest)
}

// putDigest writes a digest in the order it is printed in.
func putDigest(dst []byte, d lsn.Digest) {
	binary.BigEndian.PutUint64(dst, d.Hi)
	binary.BigEndian.PutUint64(dst[8:], d.Lo)
}

// crc covers identity as well as content: with the segment's seed and the
// frame's offset and length in front, a frame left by an earlier file, or
// written to the wrong place, does not verify.
func crc(seed, offset uint64, stored uint32, rest []byte) uint32 {
	// By hand, since a buffer that crc32.Update gets would escape to the heap.
	c := ^uint32(0)
	for i := range 8 {
		c = crcByte(c, byte(seed>>(8*i)))
	}
	for i := range 8 {
		c = crcByte(c, byte(offset>>(8*i)))
	}
	for i := range 4 {
		c = crcByte(c, byte(stored>>(8*i)))
	}
	return crc32.Update(^c, castagnoli, rest)
}

func crcByte(c uint32, b byte) uint32 { return castagnoli[byte(c)^b] ^ c>>8 }

// align rounds n up to the frame boundary.
func align(n int) int { return (n + Align - 1) &^ (Align - 1) }

// AppendFrame appends the frame made of h and p, to stand at offset in the
// segment with this seed, after the frame whose chain value is prev. It
// returns the extended slice and the frame's own chain value.
func AppendFrame(dst []byte, prev lsn.Chain, h *Header, p *Payload, seed, offset uint64) ([]byte, lsn.Chain) {
	start := len(dst)
	stored := HeaderSize + p.size()
	dst = append(dst, make([]byte, HeaderSize)...)
	if p.redacted {
		dst = append(dst, p.hash[:]...)
	}
	dst = append(dst, p.data...)
	for len(dst)-start < align(stored) {
		dst = append(dst, 0)
	}
	raw := dst[start:]
	binary.LittleEndian.PutUint32(raw[offStored:], uint32(stored))
	raw[offFlags] = p.flags()
	binary.LittleEndian.PutUint32(raw[offBodyLen:], uint32(p.bodyLen))
	putHeader(raw, h)
	chain := chainNext(prev, raw, &p.hash)
	copy(raw[offChain:HeaderSize], chain[:])
	binary.LittleEndian.PutUint32(raw[offCRC:], crc(seed, offset, uint32(stored), raw[offFlags:]))
	return dst, chain
}

// Relocate rewrites the CRC of a whole, good frame, padding included, so that it
// verifies at another offset or in a segment with another seed. Nothing else in
// it depends on its place.
func Relocate(raw []byte, seed, offset uint64) {
	stored := binary.LittleEndian.Uint32(raw)
	binary.LittleEndian.PutUint32(raw[offCRC:], crc(seed, offset, stored, raw[offFlags:]))
}

// Peek reads the first PeekSize bytes at a frame boundary and returns the
// length of the frame there, padding included. ErrNoFrame means untouched
// space, ErrFooter that the footer begins; a *DecodeError a length no frame has.
func Peek(src []byte) (int, error) {
	if len(src) < PeekSize {
		return 0, &DecodeError{What: "frame length", Want: "8 bytes", Got: fmt.Sprintf("%d bytes", len(src))}
	}
	stored := binary.LittleEndian.Uint32(src)
	switch {
	case stored == 0:
		return 0, ErrNoFrame
	case stored == Marker:
		return 0, ErrFooter
	case stored < HeaderSize || stored > MaxFrame:
		return 0, &DecodeError{What: "frame length", Want: fmt.Sprintf("%d to %d", HeaderSize, MaxFrame), Got: fmt.Sprint(stored)}
	}
	return align(int(stored)), nil
}

// PeekClaim reads what the first HeaderSize bytes of a frame, which src must
// hold, say of its LSN and synced LSN. It is for searches that would otherwise
// pay a CRC at every offset; nothing it says may be trusted before Decode has
// agreed.
func PeekClaim(src []byte) (at, synced lsn.LSN) {
	_ = src[HeaderSize-1]
	return lsn.LSN(binary.LittleEndian.Uint64(src[offLSN:])), lsn.LSN(binary.LittleEndian.Uint64(src[offSynced:]))
}
