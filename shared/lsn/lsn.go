// Package lsn holds the coordinates of the log: where a frame stands (LSN,
// Epoch), which history it belongs to (Chain), and what state it leads to
// (Digest). It is the lowest layer; it imports nothing of the product.
package lsn

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
)

// LSN is the log sequence number of a frame: dense, from 1; 0 means "before
// the first frame".
type LSN uint64

// Epoch numbers one tenure of one writer. Every opening as writer takes a new
// one, so an epoch has exactly one history. 0 means "no epoch yet".
type Epoch uint64

// Pos is a place in the log: the LSN, and the epoch of the frame that has it.
type Pos struct {
	Epoch Epoch
	LSN   LSN
}

func (p Pos) String() string { return fmt.Sprintf("%d@%d", p.LSN, p.Epoch) }

// Chain identifies a whole history by one value: SHA-256 over the previous
// chain value, the chained header and the hash of the operations.
type Chain [32]byte

func (c Chain) String() string { return hex.EncodeToString(c[:]) }

// MarshalText gives c as 64 hex digits, for JSON.
func (c Chain) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText gives, and nothing else.
func (c *Chain) UnmarshalText(b []byte) error {
	raw, err := fromHex(b, len(c))
	if err == nil {
		copy(c[:], raw)
	}
	return err
}

// fromHex reads n bytes from lower-case hex digits.
func fromHex(b []byte, n int) ([]byte, error) {
	raw, err := hex.DecodeString(string(b))
	if err != nil || len(raw) != n || hex.EncodeToString(raw) != string(b) {
		return nil, fmt.Errorf("%q is not %d lower-case hex digits", b, 2*n)
	}
	return raw, nil
}

// Digest is the state digest: the sum, modulo 2^128, of the pair hashes of all
// keys the log writes. It detects errors, not attackers.
type Digest struct{ Hi, Lo uint64 }

// DigestSize is the length in bytes of an encoded Digest.
const DigestSize = 16

// Add returns d + o modulo 2^128.
func (d Digest) Add(o Digest) Digest {
	lo, carry := bits.Add64(d.Lo, o.Lo, 0)
	hi, _ := bits.Add64(d.Hi, o.Hi, carry)
	return Digest{Hi: hi, Lo: lo}
}

// Sub returns d - o modulo 2^128.
func (d Digest) Sub(o Digest) Digest {
	lo, borrow := bits.Sub64(d.Lo, o.Lo, 0)
	hi, _ := bits.Sub64(d.Hi, o.Hi, borrow)
	return Digest{Hi: hi, Lo: lo}
}

// IsZero reports whether d is the digest of the empty state.
func (d Digest) IsZero() bool { return d == Digest{} }

// Append encodes d as 16 big-endian bytes, the order in which it is printed.
func (d Digest) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, d.Hi)
	return binary.BigEndian.AppendUint64(dst, d.Lo)
}

// DigestFrom decodes the first 16 bytes of b; b must hold them.
func DigestFrom(b []byte) Digest {
	_ = b[DigestSize-1]
	return Digest{Hi: binary.BigEndian.Uint64(b), Lo: binary.BigEndian.Uint64(b[8:])}
}

// MarshalText gives d as 32 hex digits, for JSON.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText gives, and nothing else.
func (d *Digest) UnmarshalText(b []byte) error {
	raw, err := fromHex(b, DigestSize)
	if err == nil {
		*d = DigestFrom(raw)
	}
	return err
}

// String prints d as 32 hex digits.
func (d Digest) String() string { return fmt.Sprintf("%016x%016x", d.Hi, d.Lo) }
