package frame

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

// benchOps looks like row inserts with one index: 60-byte keys and 160-byte
// rows, 40-byte index keys with empty values.
func benchOps(rows int) []Op {
	rng := rand.NewChaCha8([32]byte{9})
	fill := func(n int) []byte {
		b := make([]byte, n)
		_, _ = rng.Read(b)
		return b
	}
	var ops []Op
	for i := range rows {
		key := binary.BigEndian.AppendUint64(fill(20), uint64(i))
		ops = append(ops, Op{Type: Put, Key: key, Value: fill(160)}, Op{Type: Put, Key: fill(40), Value: fill(8)})
	}
	return ops
}

func BenchmarkDecodeOps(b *testing.B) {
	body := AppendOps(nil, benchOps(500))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	var n int
	for b.Loop() {
		r, err := ReadOps(body)
		if err != nil {
			b.Fatal(err)
		}
		var op Op
		for {
			more, err := r.Next(&op)
			if err != nil {
				b.Fatal(err)
			}
			if !more {
				break
			}
			n++
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds()/1e6, "Mops/s")
}

func BenchmarkPairHash(b *testing.B) {
	for _, size := range []int{32, 200, 1000} {
		b.Run(fmt.Sprintf("value=%d", size), func(b *testing.B) {
			key, value := make([]byte, 40), make([]byte, size)
			b.ReportAllocs()
			for b.Loop() {
				_ = PairHash(key, value)
			}
		})
	}
}

func BenchmarkFrame(b *testing.B) {
	enc, dec := codec(b)
	for _, rows := range []int{1, 500} {
		body := AppendOps(nil, benchOps(rows))
		h := goldenHeader(KindData)
		b.Run(fmt.Sprintf("encode/rows=%d", rows), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			var dst []byte
			for b.Loop() {
				p, err := enc.Prepare(&h.Salt, body)
				if err != nil {
					b.Fatal(err)
				}
				dst, _ = AppendFrame(dst[:0], goldenChain(1), &h, &p, goldenSeed, goldenOffset)
			}
		})
		raw := oneFrame(b, enc, body)
		b.Run(fmt.Sprintf("decode/rows=%d", rows), func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			var f Frame
			for b.Loop() {
				if _, err := dec.Decode(&f, raw, goldenSeed, goldenOffset); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
