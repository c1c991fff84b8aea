package frame

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"originchain/shared/lsn"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/xxh3"
)

func codec(t testing.TB) (*Encoder, *Decoder) {
	t.Helper()
	enc, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	dec, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		dec.Close()
		if err := enc.Close(); err != nil {
			t.Error(err)
		}
	})
	return enc, dec
}

// oneFrame encodes a data frame with ops as its body.
func oneFrame(t testing.TB, enc *Encoder, body []byte) []byte {
	t.Helper()
	h := goldenHeader(KindData)
	p, err := enc.Prepare(&h.Salt, body)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := AppendFrame(nil, goldenChain(1), &h, &p, goldenSeed, goldenOffset)
	if len(raw) != p.FrameSize() {
		t.Fatalf("frame is %d bytes, FrameSize says %d", len(raw), p.FrameSize())
	}
	return raw
}

// reseal gives tampered frame bytes a valid CRC, as a newer version would.
func reseal(raw []byte) []byte {
	stored := binary.LittleEndian.Uint32(raw)
	binary.LittleEndian.PutUint32(raw[offCRC:], crc(goldenSeed, goldenOffset, stored, raw[offFlags:]))
	return raw
}

func TestEveryFlippedBitIsSeen(t *testing.T) {
	enc, dec := codec(t)
	raw := oneFrame(t, enc, AppendOps(nil, goldenOps()))
	for i := range len(raw) * 8 {
		bad := bytes.Clone(raw)
		bad[i/8] ^= 1 << (i % 8)
		var f Frame
		if _, err := dec.Decode(&f, bad, goldenSeed, goldenOffset); err == nil {
			t.Fatalf("bit %d of byte %d flipped and nobody noticed", i%8, i/8)
		}
	}
}

func TestFrameIsBoundToItsPlace(t *testing.T) {
	enc, dec := codec(t)
	raw := oneFrame(t, enc, AppendOps(nil, goldenOps()))
	var f Frame
	if _, err := dec.Decode(&f, raw, goldenSeed, goldenOffset+8); err == nil {
		t.Error("a frame moved by 8 bytes decodes")
	}
	if _, err := dec.Decode(&f, raw, goldenSeed+1, goldenOffset); err == nil {
		t.Error("a frame of another file decodes")
	}
}

func TestChainCoversHistoryAndNotStorage(t *testing.T) {
	h := goldenHeader(KindData)
	hash := BodyHash(&h.Salt, []byte("body"))
	base := ChainNext(goldenChain(1), &h, &hash)
	changes := map[string]func(*Header){
		"LSN": func(h *Header) { h.LSN++ }, "epoch": func(h *Header) { h.Epoch++ }, "synced": func(h *Header) { h.Synced++ },
		"timestamp": func(h *Header) { h.Timestamp++ }, "wall": func(h *Header) { h.Wall++ }, "kind": func(h *Header) { h.Kind++ },
		"salt": func(h *Header) { h.Salt[0]++ }, "digest": func(h *Header) { h.Digest.Lo++ },
	}
	for what, change := range changes {
		c := h
		change(&c)
		if ChainNext(goldenChain(1), &c, &hash) == base {
			t.Errorf("the chain does not cover the %s", what)
		}
	}
	if ChainNext(goldenChain(2), &h, &hash) == base {
		t.Error("the chain does not cover the frame before")
	}

	enc, dec := codec(t)
	body := bytes.Repeat([]byte{1, 0}, compressFrom)
	packed, err := enc.Prepare(&h.Salt, body)
	if err != nil {
		t.Fatal(err)
	}
	plain := packed
	plain.data, plain.zstd = body, false
	redacted, err := enc.PrepareRedacted(packed.hash, AppendOps(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	var chains []lsn.Chain
	for _, p := range []Payload{packed, plain, redacted} {
		raw, chain := AppendFrame(nil, goldenChain(1), &h, &p, goldenSeed, goldenOffset)
		chains = append(chains, chain)
		var f Frame
		if _, err := dec.Decode(&f, raw, goldenSeed, goldenOffset); err != nil || f.H != packed.hash || f.Chain != chain {
			t.Fatalf("decode: %v", err)
		}
	}
	if !packed.zstd || chains[0] != chains[1] || chains[0] != chains[2] {
		t.Errorf("compression or a purge changed the chain: %v", chains)
	}
}

func TestNewerFormatIsNotCorruption(t *testing.T) {
	enc, dec := codec(t)
	body := AppendOps(nil, goldenOps())
	for name, change := range map[string]func([]byte){
		"version":      func(b []byte) { b[offVersion] = 1 },
		"kind":         func(b []byte) { b[offKind] = 9 },
		"codec":        func(b []byte) { b[offFlags] = 2 },
		"unknown flag": func(b []byte) { b[offFlags] = 0x10 },
	} {
		raw := oneFrame(t, enc, body)
		change(raw)
		var f Frame
		_, err := dec.Decode(&f, reseal(raw), goldenSeed, goldenOffset)
		var newer *NewerError
		if !errors.As(err, &newer) {
			t.Errorf("%s: got %v, want a NewerError", name, err)
		}
	}
	head := goldenSegmentHeader()
	for name, at := range map[string]int{"version": segVersion, "length": segLength, "reserved": segReserved + 100} {
		raw := head.Append(nil)
		raw[at]++
		var bad *DecodeError
		if _, err := DecodeSegmentHeader(raw); !errors.As(err, &bad) {
			t.Errorf("segment %s: a flipped bit gives %v, want a DecodeError", name, err)
		}
		binary.LittleEndian.PutUint32(raw[segCRC:], crc32.Checksum(raw[:segCRC], castagnoli))
		var newer *NewerError
		if _, err := DecodeSegmentHeader(raw); !errors.As(err, &newer) {
			t.Errorf("segment %s: got %v, want a NewerError", name, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	enc, dec := codec(t)
	small := AppendOps(nil, goldenOps())
	large := bytes.Repeat([]byte("ab"), compressFrom)
	for name, c := range map[string]struct {
		body   []byte
		change func([]byte)
	}{
		"length below a header":     {small, func(b []byte) { binary.LittleEndian.PutUint32(b, HeaderSize-1) }},
		"length above a frame":      {small, func(b []byte) { binary.LittleEndian.PutUint32(b, MaxFrame+1) }},
		"length beyond the input":   {small, func(b []byte) { binary.LittleEndian.PutUint32(b, uint32(len(b)+1)) }},
		"body length above limit":   {small, func(b []byte) { binary.LittleEndian.PutUint32(b[offBodyLen:], MaxBody+1) }},
		"body length not the raw":   {small, func(b []byte) { b[offBodyLen]++ }},
		"zstd longer than declared": {large, func(b []byte) { b[offBodyLen]-- }},
		"zstd shorter":              {large, func(b []byte) { b[offBodyLen]++ }},
		"zstd is not zstd":          {small, func(b []byte) { b[offFlags] = codecZstd }},
		"kind 0":                    {small, func(b []byte) { b[offKind] = 0 }},
		"padding":                   {append(small, 0), func(b []byte) { b[len(b)-1] = 1 }},
	} {
		raw := oneFrame(t, enc, c.body)
		c.change(raw)
		if len(raw) >= HeaderSize {
			reseal(raw)
		}
		var f Frame
		_, err := dec.Decode(&f, raw, goldenSeed, goldenOffset)
		var bad *DecodeError
		if !errors.As(err, &bad) {
			t.Errorf("%s: got %v, want a DecodeError", name, err)
		}
	}
	if _, err := Peek(make([]byte, 8)); !errors.Is(err, ErrNoFrame) {
		t.Errorf("zeros: %v", err)
	}
	if _, err := Peek(bytes.Repeat([]byte{0xFF}, 8)); !errors.Is(err, ErrFooter) {
		t.Errorf("marker: %v", err)
	}
	if _, err := enc.Prepare(new([SaltSize]byte), make([]byte, MaxBody+1)); err == nil {
		t.Error("a body above the limit is framed")
	}
}

func TestLargestBodyFitsAFrame(t *testing.T) {
	enc, dec := codec(t)
	body := make([]byte, MaxBody)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(body)
	h := goldenHeader(KindData)
	p, err := enc.PrepareRedacted([HashSize]byte{1}, body)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := AppendFrame(nil, lsn.Chain{}, &h, &p, goldenSeed, goldenOffset)
	var f Frame
	if _, err := dec.Decode(&f, raw, goldenSeed, goldenOffset); err != nil || !bytes.Equal(f.Body, body) {
		t.Fatalf("largest redacted frame, %d bytes: %v", len(raw), err)
	}
}

func TestPairHash(t *testing.T) {
	for _, n := range []int{0, 1, pairOnStack - 5, pairOnStack - 4, pairOnStack, 4096, 100_000} {
		key, value := []byte("k"), bytes.Repeat([]byte{7}, n)
		in := append(append([]byte{1, 0, 0, 0}, key...), value...)
		want := xxh3.Hash128(in)
		if got := PairHash(key, value); got != (lsn.Digest{Hi: want.Hi, Lo: want.Lo}) {
			t.Errorf("value of %d bytes: the two ways to hash a pair differ", n)
		}
	}
	if PairHash([]byte("ab"), []byte("c")) == PairHash([]byte("a"), []byte("bc")) {
		t.Error("the key's length is not in the hash")
	}
}

// TestDeltaFollowsTheState plays random operations against a map and holds the
// running digest against the sum over the map.
func TestDeltaFollowsTheState(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	state := map[string]string{}
	var digest lsn.Digest
	for range 500 {
		key := string(rune('a' + rng.IntN(20)))
		old, had := state[key]
		op := Op{Type: Put, Key: []byte(key), Value: []byte{byte(rng.Uint32())}, HadOld: had}
		if had {
			op.Old = PairHash([]byte(key), []byte(old))
		}
		switch {
		case had && rng.IntN(3) == 0:
			op.Type, op.Value = Delete, nil
			delete(state, key)
		case had && rng.IntN(5) == 0:
			op = Op{Type: RangeDelete, Key: []byte(key), End: []byte("zz"), HadOld: true}
			for k, v := range state {
				if k >= key {
					op.Old = op.Old.Add(PairHash([]byte(k), []byte(v)))
					delete(state, k)
				}
			}
		default:
			state[key] = string(op.Value)
		}
		ops, err := DecodeOps(AppendOps(nil, []Op{op}))
		if err != nil {
			t.Fatal(err)
		}
		digest = digest.Add(Delta(ops))
	}
	var want lsn.Digest
	for k, v := range state {
		want = want.Add(PairHash([]byte(k), []byte(v)))
	}
	if digest != want {
		t.Fatalf("digest %s, the state's is %s", digest, want)
	}
}

func TestOpsRefuse(t *testing.T) {
	put := Op{Type: Put, Key: []byte("k"), Value: []byte("v")}
	good := AppendOps(nil, []Op{put})
	for name, src := range map[string][]byte{
		"nothing":                 {},
		"count without bytes":     {0xFF, 0xFF, 0xFF, 0xFF, 0x0F},
		"count not shortest":      append([]byte{0x81, 0x00}, good[1:]...),
		"count too small":         append([]byte{0}, good[1:]...),
		"trailing byte":           append(bytes.Clone(good), 0),
		"type 0":                  {1, 0, 1, 'k', 0, 0},
		"type 4":                  {1, 4, 1, 'k', 0, 0},
		"key beyond the end":      {1, 1, 0xFF, 'k', 0, 0},
		"empty key":               {1, 1, 0, 1, 'v', 0},
		"old flag 2":              {1, 1, 1, 'k', 1, 'v', 2},
		"old hash cut":            {1, 2, 1, 'k', 1, 2, 3},
		"range that is empty":     AppendOps(nil, []Op{{Type: RangeDelete, Key: []byte("b"), End: []byte("b")}}),
		"range that runs back":    AppendOps(nil, []Op{{Type: RangeDelete, Key: []byte("b"), End: []byte("a")}}),
		"length not its shortest": {1, 1, 0x81, 0x00, 'k', 1, 'v', 0},
	} {
		_, err := DecodeOps(src)
		var bad *DecodeError
		if !errors.As(err, &bad) {
			t.Errorf("%s: got %v, want a DecodeError", name, err)
		}
	}
}

func TestCheckKeys(t *testing.T) {
	put := func(k string) Op { return Op{Type: Put, Key: []byte(k)} }
	del := func(from, to string) Op { return Op{Type: RangeDelete, Key: []byte(from), End: []byte(to)} }
	for name, c := range map[string]struct {
		ops []Op
		ok  bool
	}{
		"distinct":           {[]Op{put("b"), put("a"), del("c", "d"), put("d")}, true},
		"same key":           {[]Op{put("a"), put("b"), put("a")}, false},
		"key in a range":     {[]Op{put("c"), del("a", "d")}, false},
		"key starts a range": {[]Op{put("a"), del("a", "d")}, false},
		"ranges overlap":     {[]Op{del("a", "d"), del("c", "e")}, false},
		"behind the longer":  {[]Op{del("a", "z"), del("b", "c"), put("d")}, false},
		"ranges touch":       {[]Op{del("a", "c"), del("c", "e")}, true},
	} {
		if err := CheckKeys(c.ops); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRecords(t *testing.T) {
	e := EpochRecord{Parent: 3, FirstLSN: 9, ParentChain: goldenChain(5)}
	gotE, ops, err := DecodeEpoch(append(e.Append(nil), 0))
	if err != nil || gotE != e || !bytes.Equal(ops, []byte{0}) {
		t.Errorf("epoch: %+v %x %v", gotE, ops, err)
	}
	c := ClockRecord{OldOffset: -1, NewOffset: 2}
	gotC, ops, err := DecodeClock(append(c.Append(nil), 0))
	if err != nil || gotC != c || !bytes.Equal(ops, []byte{0}) {
		t.Errorf("clock: %+v %x %v", gotC, ops, err)
	}
	for kind, short := range map[Kind]int{KindEpoch: epochRecordSize - 1, KindClock: clockRecordSize - 1} {
		if _, err := OpsOf(kind, make([]byte, short)); err == nil {
			t.Errorf("%s: a short record decodes", kind)
		}
	}
}

func TestFooterRefuses(t *testing.T) {
	f := goldenFooter()
	raw := f.Append(nil, goldenSeed, 80_000, sha256.New())
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 0x40
		got, err := DecodeFooter(bad, goldenSeed, 80_000)
		inHash := i >= len(raw)-TrailerSize-HashSize && i < len(raw)-TrailerSize
		if (err == nil) != inHash {
			t.Errorf("byte %d flipped: %v", i, err)
		}
		if inHash && cmp.Equal(got.SHA256[:], raw[len(raw)-TrailerSize-HashSize:len(raw)-TrailerSize]) {
			t.Errorf("byte %d: the hash is not read", i)
		}
	}
	for n := range raw {
		if _, err := DecodeFooter(raw[:n], goldenSeed, 80_000); err == nil {
			t.Errorf("a footer cut to %d bytes decodes", n)
		}
	}
	if _, err := DecodeFooter(raw, goldenSeed, 80_008); err == nil {
		t.Error("a footer moved by 8 bytes decodes")
	}
}

// TestRelocate: a frame that was moved verifies at its new place, there alone,
// and is the same frame.
func TestRelocate(t *testing.T) {
	enc, err := NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	dec, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	h := Header{LSN: 7, Epoch: 3, Kind: KindData, Timestamp: 5}
	p, err := enc.Prepare(&h.Salt, AppendOps(nil, []Op{{Type: Put, Key: []byte("key"), Value: []byte("value")}}))
	if err != nil {
		t.Fatal(err)
	}
	raw, chain := AppendFrame(nil, lsn.Chain{1}, &h, &p, 11, 256)
	Relocate(raw, 12, 512)
	var f Frame
	if _, err := dec.Decode(&f, raw, 11, 256); err == nil {
		t.Error("it still verifies at the old place")
	}
	if _, err := dec.Decode(&f, raw, 12, 512); err != nil || f.Header != h || f.Chain != chain {
		t.Errorf("at the new place: %+v, %v", f, err)
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
}
