package table

import (
	"encoding/binary"
	"fmt"

	"originchain/shared/lsn"
)

// Counters are the exact totals of a table's rows or of one index. They are
// written in the same frame as the change they count, so they are never
// estimated and never scanned for.
type Counters struct {
	Entries uint64 // rows, or index entries
	Bytes   uint64 // keys and values as stored
	Vectors uint64 // vectors held by the rows
	// Sum is the digest of the entries alone; it is what one range delete
	// takes off the state digest when the table or index is dropped.
	Sum lsn.Digest
}

// CountersSize is the length of encoded Counters.
const CountersSize = 8 + 8 + 8 + lsn.DigestSize

// Append encodes c: entries, bytes, vectors as u64 little-endian, then the sum.
func (c Counters) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, c.Entries)
	dst = binary.LittleEndian.AppendUint64(dst, c.Bytes)
	dst = binary.LittleEndian.AppendUint64(dst, c.Vectors)
	return c.Sum.Append(dst)
}

// DecodeCounters is the inverse of Append.
func DecodeCounters(b []byte) (Counters, error) {
	if len(b) != CountersSize {
		return Counters{}, fmt.Errorf("counters: want %d bytes, got %d", CountersSize, len(b))
	}
	return Counters{
		Entries: binary.LittleEndian.Uint64(b),
		Bytes:   binary.LittleEndian.Uint64(b[8:]),
		Vectors: binary.LittleEndian.Uint64(b[16:]),
		Sum:     lsn.DigestFrom(b[24:]),
	}, nil
}

// ReadCounters reads the counters under key; absent means zero.
func ReadCounters(v View, key []byte) (Counters, error) {
	b, ok, err := v.Get(key)
	if err != nil || !ok {
		return Counters{}, err
	}
	return DecodeCounters(b)
}
