package frame

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// The corpora in testdata/fuzz are the golden files, rewritten with them, and
// inputs that once failed.

// FuzzFrame mends the CRC first, so that mutations reach the decoder behind it.
func FuzzFrame(f *testing.F) {
	enc, dec := codec(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if n, err := Peek(raw); err == nil && n <= len(raw) && n > offFlags {
			raw = bytes.Clone(raw[:n])
			binary.LittleEndian.PutUint32(raw[offCRC:], crc(goldenSeed, goldenOffset, binary.LittleEndian.Uint32(raw), raw[offFlags:]))
		}
		var fr Frame
		n, err := dec.Decode(&fr, raw, goldenSeed, goldenOffset)
		if cap(dec.body) > MaxBody {
			t.Fatalf("the decoder holds %d bytes, the bound is %d", cap(dec.body), MaxBody)
		}
		if err != nil {
			return
		}
		body := bytes.Clone(fr.Body)
		p, err := enc.Prepare(&fr.Salt, body)
		if fr.Redacted {
			p, err = enc.PrepareRedacted(fr.H, body)
		}
		if err != nil {
			t.Fatal(err)
		}
		again, chain := AppendFrame(nil, goldenChain(1), &fr.Header, &p, goldenSeed, goldenOffset)
		if chain != ChainNext(goldenChain(1), &fr.Header, &fr.H) {
			t.Fatal("the chain changes when a frame is written again")
		}
		var back Frame
		if _, err := dec.Decode(&back, again, goldenSeed, goldenOffset); err != nil {
			t.Fatalf("a decoded frame of %d bytes does not decode again: %v", n, err)
		}
		if back.Header != fr.Header || back.H != fr.H || !bytes.Equal(back.Body, body) {
			t.Fatal("a frame changes when it is written again")
		}
	})
}

func FuzzOps(f *testing.F) {
	f.Add([]byte{0xFF, 0xFF, 0x03, 1, 1, 'k', 0, 0})
	f.Fuzz(func(t *testing.T, src []byte) {
		ops, err := DecodeOps(src)
		if err != nil {
			return
		}
		if len(ops)*minOpSize > len(src) {
			t.Fatalf("%d operations out of %d bytes", len(ops), len(src))
		}
		if again := AppendOps(nil, ops); !bytes.Equal(again, src) {
			t.Fatalf("operations have two encodings: %x and %x", src, again)
		}
		_ = Delta(ops)
		_ = CheckKeys(ops)
	})
}

func FuzzSegmentHeader(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) >= SegmentHeaderSize {
			raw = bytes.Clone(raw)
			binary.LittleEndian.PutUint32(raw[segCRC:], crc32.Checksum(raw[:segCRC], castagnoli))
		}
		h, err := DecodeSegmentHeader(raw)
		if err != nil {
			return
		}
		if again := h.Append(nil); !bytes.Equal(again, raw[:SegmentHeaderSize]) {
			t.Fatalf("a segment header has two encodings:\n%x\n%x", raw, again)
		}
	})
}

func FuzzFooter(f *testing.F) {
	const offset = 80_000
	f.Fuzz(func(t *testing.T, raw []byte) {
		if hashAt := len(raw) - TrailerSize - HashSize; hashAt >= footerFixed {
			raw = bytes.Clone(raw)
			length := binary.LittleEndian.Uint32(raw[footLength:])
			binary.LittleEndian.PutUint32(raw[footCRC:], crc(goldenSeed, offset, length, raw[footEntries:hashAt]))
		}
		_, _ = DecodeTrailer(raw)
		foot, err := DecodeFooter(raw, goldenSeed, offset)
		if err != nil {
			return
		}
		again := foot.Append(nil, goldenSeed, offset, sha256.New())
		hashAt := len(raw) - TrailerSize - HashSize
		if !bytes.Equal(again[:hashAt], raw[:hashAt]) || !bytes.Equal(again[len(again)-TrailerSize:], raw[len(raw)-TrailerSize:]) {
			t.Fatalf("a footer has two encodings:\n%x\n%x", raw, again)
		}
	})
}
