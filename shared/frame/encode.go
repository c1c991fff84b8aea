package frame

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// compressFrom is the smallest body, in bytes, that is worth a try at
// compression: below it the saving is less than a disk block and the time is
// spent on the commit path.
const compressFrom = 4 << 10

// encoderLanes is how many bodies are compressed at once; more callers wait.
const encoderLanes = 2

// Encoder prepares payloads. It is safe for concurrent use.
type Encoder struct{ zstd *zstd.Encoder }

// NewEncoder makes an Encoder. Close frees it.
func NewEncoder() (*Encoder, error) {
	// No checksum inside: the frame's CRC and H cover the body. A single
	// segment carries its length, which bounds the decoder's memory.
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(encoderLanes),
		zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("zstd encoder: %w", err)
	}
	return &Encoder{zstd: z}, nil
}

// Close frees the encoder; it must not be used afterwards.
func (e *Encoder) Close() error { return e.zstd.Close() }

// Payload is a body made ready to be framed: hashed, and compressed where that
// saves space. It may alias the body it was made from.
type Payload struct {
	hash     [HashSize]byte
	data     []byte
	bodyLen  int
	zstd     bool
	redacted bool
}

func (p *Payload) size() int {
	if p.redacted {
		return HashSize + len(p.data)
	}
	return len(p.data)
}

func (p *Payload) flags() byte {
	var f byte = codecRaw
	if p.zstd {
		f = codecZstd
	}
	if p.redacted {
		f |= flagRedacted
	}
	return f
}

// FrameSize returns the length of the frame that will hold p, padding included.
func (p *Payload) FrameSize() int { return align(HeaderSize + p.size()) }

// Prepare hashes body under salt and compresses it when it is at least
// compressFrom long and shrinks by an eighth or more. A body longer than
// MaxBody is an error.
func (e *Encoder) Prepare(salt *[SaltSize]byte, body []byte) (Payload, error) {
	p, err := e.pack(body)
	if err != nil {
		return Payload{}, err
	}
	p.hash = BodyHash(salt, body)
	return p, nil
}

// PrepareRedacted packs what a purge leaves of a body, under the H of the
// original body, so that the frame keeps its chain value.
func (e *Encoder) PrepareRedacted(original [HashSize]byte, remaining []byte) (Payload, error) {
	p, err := e.pack(remaining)
	if err != nil {
		return Payload{}, err
	}
	p.hash, p.redacted = original, true
	return p, nil
}

func (e *Encoder) pack(body []byte) (Payload, error) {
	if len(body) > MaxBody {
		return Payload{}, fmt.Errorf("the body of a frame is %d bytes, the limit is %d: split the commit", len(body), MaxBody)
	}
	p := Payload{data: body, bodyLen: len(body)}
	if len(body) < compressFrom {
		return p, nil
	}
	packed := e.zstd.EncodeAll(body, make([]byte, 0, len(body)-len(body)/8))
	if len(packed) <= len(body)-len(body)/8 {
		p.data, p.zstd = packed, true
	}
	return p, nil
}
