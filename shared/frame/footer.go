package frame

import (
	"encoding/binary"
	"fmt"
	"hash"

	"originchain/shared/lsn"
)

const (
	// TrailerSize is the length of the trailer, the last bytes of a sealed segment.
	TrailerSize = 16
	// IndexEvery is the distance in bytes between two entries of the time index, at least.
	IndexEvery = 64 << 10

	footerFixed    = 96 // bytes of the footer before its time index
	indexEntrySize = 24
	trailerMagic   = "OCSEALED"
)

// Places inside the footer.
const (
	footLength    = 4
	footCRC       = 8
	footEntries   = 12
	footFrames    = 16
	footOps       = 24
	footLast      = 32
	footTimestamp = 40
	footChain     = 48
	footDigest    = 80
)

// IndexEntry is one frame of the sparse time index.
type IndexEntry struct {
	LSN       lsn.LSN
	Timestamp int64
	// Offset is where the frame begins in the file.
	Offset uint64
}

// Footer sums up a sealed segment.
type Footer struct {
	Frames, Ops uint64
	Last        lsn.LSN
	Timestamp   int64
	Chain       lsn.Chain
	Digest      lsn.Digest
	// Index begins with the first frame and has one entry per IndexEvery bytes.
	Index []IndexEntry
	// SHA256 covers every byte of the file before it; set by decoding.
	SHA256 [HashSize]byte
}

// Size returns the length of the encoded footer, trailer included.
func (f *Footer) Size() int {
	return footerFixed + indexEntrySize*len(f.Index) + HashSize + TrailerSize
}

// MaxFooterSize bounds the footer, trailer included, of a file of size bytes:
// what a reader may fetch on the word of an offset it has not verified yet.
func MaxFooterSize(size int64) int64 {
	return footerFixed + indexEntrySize*(size/IndexEvery+1) + HashSize + TrailerSize
}

// Append encodes the footer and the trailer, to stand at offset in the segment
// with this seed. sum has been fed every byte of the file before offset, and is
// fed what the footer adds.
func (f *Footer) Append(dst []byte, seed, offset uint64, sum hash.Hash) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, footerFixed)...)
	b := dst[start:]
	length := uint32(f.Size() - TrailerSize - footCRC)
	binary.LittleEndian.PutUint32(b, Marker)
	binary.LittleEndian.PutUint32(b[footLength:], length)
	binary.LittleEndian.PutUint32(b[footEntries:], uint32(len(f.Index)))
	binary.LittleEndian.PutUint64(b[footFrames:], f.Frames)
	binary.LittleEndian.PutUint64(b[footOps:], f.Ops)
	binary.LittleEndian.PutUint64(b[footLast:], uint64(f.Last))
	binary.LittleEndian.PutUint64(b[footTimestamp:], uint64(f.Timestamp))
	copy(b[footChain:], f.Chain[:])
	putDigest(b[footDigest:], f.Digest)
	for _, e := range f.Index {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(e.LSN))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(e.Timestamp))
		dst = binary.LittleEndian.AppendUint64(dst, e.Offset)
	}
	b = dst[start:]
	binary.LittleEndian.PutUint32(b[footCRC:], crc(seed, offset, length, b[footEntries:]))
	sum.Write(b) // a hash's Write never fails
	dst = sum.Sum(dst)
	dst = binary.LittleEndian.AppendUint64(dst, offset)
	return append(dst, trailerMagic...)
}

// DecodeTrailer reads the last TrailerSize bytes of a file and returns the
// footer's offset; a *DecodeError means that the segment is not sealed.
func DecodeTrailer(src []byte) (uint64, error) {
	if len(src) != TrailerSize || string(src[8:]) != trailerMagic {
		return 0, &DecodeError{What: "trailer", Want: fmt.Sprintf("%x at the end of the file", trailerMagic), Got: fmt.Sprintf("%x", src[min(8, len(src)):])}
	}
	return binary.LittleEndian.Uint64(src), nil
}

// DecodeFooter reads the footer that fills src, trailer included, and stands at
// offset in the segment with this seed. It checks the footer's own CRC; the
// SHA-256 is for whoever reads the whole file.
func DecodeFooter(src []byte, seed, offset uint64) (*Footer, error) {
	if len(src) < footerFixed+HashSize+TrailerSize || binary.LittleEndian.Uint32(src) != Marker {
		return nil, &DecodeError{What: "footer", Want: "its marker and fixed part", Got: fmt.Sprintf("%x in %d bytes", src[:min(4, len(src))], len(src))}
	}
	length := binary.LittleEndian.Uint32(src[footLength:])
	if want := len(src) - TrailerSize - footCRC; uint64(length) != uint64(want) {
		return nil, &DecodeError{What: "footer length", Want: fmt.Sprint(want), Got: fmt.Sprint(length)}
	}
	hashAt := len(src) - TrailerSize - HashSize
	want := binary.LittleEndian.Uint32(src[footCRC:])
	if got := crc(seed, offset, length, src[footEntries:hashAt]); got != want {
		return nil, &DecodeError{What: "footer CRC32C", Want: fmt.Sprintf("%08x", want), Got: fmt.Sprintf("%08x", got)}
	}
	if at, err := DecodeTrailer(src[hashAt+HashSize:]); err != nil {
		return nil, err
	} else if at != offset {
		return nil, &DecodeError{What: "footer offset in the trailer", Want: fmt.Sprint(offset), Got: fmt.Sprint(at)}
	}
	n := binary.LittleEndian.Uint32(src[footEntries:])
	if room := hashAt - footerFixed; uint64(n)*indexEntrySize != uint64(room) {
		return nil, &DecodeError{What: "time index", Want: fmt.Sprintf("%d bytes", uint64(n)*indexEntrySize), Got: fmt.Sprintf("%d bytes", room)}
	}
	return readFooter(src, int(n), hashAt), nil
}

// readFooter reads fields whose places have been checked.
func readFooter(src []byte, entries, hashAt int) *Footer {
	f := &Footer{
		Frames:    binary.LittleEndian.Uint64(src[footFrames:]),
		Ops:       binary.LittleEndian.Uint64(src[footOps:]),
		Last:      lsn.LSN(binary.LittleEndian.Uint64(src[footLast:])),
		Timestamp: int64(binary.LittleEndian.Uint64(src[footTimestamp:])),
		Digest:    lsn.DigestFrom(src[footDigest:]),
		Index:     make([]IndexEntry, entries),
	}
	copy(f.Chain[:], src[footChain:])
	copy(f.SHA256[:], src[hashAt:])
	for i := range f.Index {
		e := src[footerFixed+i*indexEntrySize:]
		f.Index[i] = IndexEntry{
			LSN:       lsn.LSN(binary.LittleEndian.Uint64(e)),
			Timestamp: int64(binary.LittleEndian.Uint64(e[8:])),
			Offset:    binary.LittleEndian.Uint64(e[16:]),
		}
	}
	return f
}
