package frame

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"originchain/shared/lsn"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

const (
	goldenSeed   = 0x1122334455667788
	goldenOffset = 256
)

// readDump reads the bytes of a hex dump made by encoding/hex.Dump; lines that
// begin with # are for the reader.
func readDump(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") || len(line) < 10 {
			continue
		}
		columns, _, _ := strings.Cut(line[10:], "|")
		b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(columns), " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, b...)
	}
	return out
}

// golden compares got with the file, or rewrites it, and returns the file's bytes.
// Where the bytes depend on the compressor they are kept but not compared.
func golden(t *testing.T, name, what string, got []byte, exact bool) []byte {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".hex")
	if *update {
		text := fmt.Sprintf("# %s\n%s", what, hex.Dump(got))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		writeSeed(t, name, got)
	}
	want := readDump(t, path)
	if exact && !bytes.Equal(got, want) {
		t.Errorf("%s: this code writes other bytes than the format's golden file:\n%s", name, cmp.Diff(hex.Dump(want), hex.Dump(got)))
	}
	return want
}

// writeSeed puts the bytes of a golden file into the corpus of the fuzz test
// that its name belongs to.
func writeSeed(t *testing.T, name string, raw []byte) {
	t.Helper()
	kind, _, _ := strings.Cut(name, "-")
	target := map[string]string{"frame": "FuzzFrame", "ops": "FuzzOps", "segment": "FuzzSegmentHeader", "footer": "FuzzFooter"}[kind]
	dir := filepath.Join("testdata", "fuzz", target)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", raw)
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func goldenChain(first byte) (c lsn.Chain) {
	for i := range c {
		c[i] = first + byte(i)
	}
	return c
}

func goldenHeader(kind Kind) Header {
	h := Header{
		LSN: 0x0102030405060708, Epoch: 7, Synced: 0x0102030405060700,
		Timestamp: 1_700_000_000_123_456, Wall: 1_700_000_000_123_999, Kind: kind,
		Digest: lsn.Digest{Hi: 0xA1A2A3A4A5A6A7A8, Lo: 0xB1B2B3B4B5B6B7B8},
	}
	copy(h.Salt[:], "salt-of-16-bytes")
	return h
}

func goldenOps() []Op {
	return []Op{
		{Type: Put, Key: []byte("row/1"), Value: []byte("new")},
		{Type: Put, Key: []byte("row/2"), Value: []byte("newer"), HadOld: true, Old: lsn.Digest{Hi: 1, Lo: 2}},
		{Type: Delete, Key: []byte("row/3"), HadOld: true, Old: lsn.Digest{Hi: 3, Lo: 4}},
		{Type: RangeDelete, Key: []byte("t/"), End: []byte("t0"), HadOld: true, Old: lsn.Digest{Hi: 5, Lo: 6}},
	}
}

// goldenFrames are bodies by name; the redacted one stands for a purge.
func goldenFrames() map[string]struct {
	kind     Kind
	body     []byte
	redacted bool
} {
	epoch := EpochRecord{Parent: 6, FirstLSN: 42, ParentChain: goldenChain(0x40)}
	clock := ClockRecord{OldOffset: -5_000_000, NewOffset: 7_000_000}
	large := AppendOps(nil, []Op{{Type: Put, Key: []byte("k"), Value: bytes.Repeat([]byte("compressible "), 400)}})
	return map[string]struct {
		kind     Kind
		body     []byte
		redacted bool
	}{
		"frame-data":          {kind: KindData, body: AppendOps(nil, goldenOps())},
		"frame-epoch":         {kind: KindEpoch, body: AppendOps(epoch.Append(nil), nil)},
		"frame-clock":         {kind: KindClock, body: AppendOps(clock.Append(nil), nil)},
		"frame-zstd":          {kind: KindData, body: large},
		"frame-redacted":      {kind: KindData, body: AppendOps(nil, goldenOps()[:1]), redacted: true},
		"frame-zstd-redacted": {kind: KindData, body: large, redacted: true},
	}
}

func TestGoldenFrames(t *testing.T) {
	enc, dec := codec(t)
	for name, c := range goldenFrames() {
		h := goldenHeader(c.kind)
		p, err := enc.Prepare(&h.Salt, c.body)
		original := BodyHash(&h.Salt, []byte("what the purge took"))
		if c.redacted {
			p, err = enc.PrepareRedacted(original, c.body)
		}
		if err != nil {
			t.Fatal(err)
		}
		got, chain := AppendFrame(nil, goldenChain(1), &h, &p, goldenSeed, goldenOffset)
		zstd := strings.Contains(name, "zstd")
		what := fmt.Sprintf("%s frame at offset %d, seed %#x", c.kind, goldenOffset, uint64(goldenSeed))
		want := golden(t, name, what, got, !zstd)

		var f Frame
		if n, err := dec.Decode(&f, want, goldenSeed, goldenOffset); err != nil || n != len(want) {
			t.Errorf("%s: decoded %d bytes of %d: %v", name, n, len(want), err)
			continue
		}
		wantH := BodyHash(&h.Salt, c.body)
		if c.redacted {
			wantH = original
		}
		expect := Frame{Header: h, Chain: chain, Body: c.body, H: wantH, Redacted: c.redacted, Stored: len(want)}
		if diff := cmp.Diff(expect, f); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
		if packed := want[offFlags]&codecMask == codecZstd; packed != zstd {
			t.Errorf("%s: compressed is %t, want %t", name, packed, zstd)
		}
	}
}

func TestGoldenOps(t *testing.T) {
	for name, ops := range map[string][]Op{"ops-each": goldenOps(), "ops-none": {}} {
		want := golden(t, name, "operations", AppendOps(nil, ops), true)
		got, err := DecodeOps(want)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(ops, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

func goldenSegmentHeader() SegmentHeader {
	h := SegmentHeader{
		Epoch: 7, First: 42, PrevChain: goldenChain(0x40),
		PrevDigest: lsn.Digest{Hi: 0xC1C2C3C4C5C6C7C8, Lo: 9}, PrevTimestamp: 1_700_000_000_000_000, Seed: goldenSeed,
	}
	copy(h.Instance[:], "instance-id-0001")
	return h
}

func TestGoldenSegmentHeader(t *testing.T) {
	h := goldenSegmentHeader()
	want := golden(t, "segment-header", "segment header", h.Append(nil), true)
	got, err := DecodeSegmentHeader(want)
	if err != nil || got != h {
		t.Fatalf("decoded %+v, %v; want %+v", got, err, h)
	}
}

func goldenFooter() *Footer {
	return &Footer{
		Frames: 3, Ops: 11, Last: 44, Timestamp: 1_700_000_000_500_000, Chain: goldenChain(0x60),
		Digest: lsn.Digest{Hi: 21, Lo: 22},
		Index:  []IndexEntry{{LSN: 42, Timestamp: 1_700_000_000_100_000, Offset: 256}, {LSN: 44, Timestamp: 1_700_000_000_500_000, Offset: 70_000}},
	}
}

func TestGoldenFooter(t *testing.T) {
	f := goldenFooter()
	sum := sha256.New()
	sum.Write([]byte("the frames before it"))
	got := f.Append(nil, goldenSeed, 80_000, sum)
	if len(got) != f.Size() {
		t.Fatalf("footer is %d bytes, Size says %d", len(got), f.Size())
	}
	want := golden(t, "footer", "footer and trailer at offset 80000", got, true)
	decoded, err := DecodeFooter(want, goldenSeed, 80_000)
	if err != nil {
		t.Fatal(err)
	}
	f.SHA256 = sha256.Sum256(append([]byte("the frames before it"), want[:len(want)-TrailerSize-HashSize]...))
	if diff := cmp.Diff(f, decoded); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
	if at, err := DecodeTrailer(want[len(want)-TrailerSize:]); err != nil || at != 80_000 {
		t.Fatalf("trailer: %d, %v", at, err)
	}
}
