package frame

import (
	"encoding/binary"
	"errors"
	"fmt"

	"originchain/shared/lsn"

	"github.com/klauspost/compress/zstd"
)

// ErrNoFrame is returned at space that no frame was written to.
var ErrNoFrame = errors.New("no frame: untouched space")

// ErrFooter is returned where the footer begins instead of a frame.
var ErrFooter = errors.New("no frame: the footer begins")

// DecodeError is input that is not what the format says.
type DecodeError struct {
	// What names the field.
	What string
	Want string
	Got  string
}

// Error implements error.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("%s: want %s, got %s", e.What, e.Want, e.Got)
}

// NewerError is intact input that uses more of the format than this code
// knows: it was written by a newer version of the product.
type NewerError struct {
	What string
	Got  uint64
	Ours uint64
}

// Error implements error.
func (e *NewerError) Error() string {
	return fmt.Sprintf("written by a newer version: %s is %d, this version knows up to %d; "+
		"run the version that wrote it or a later one", e.What, e.Got, e.Ours)
}

// Decoder decodes frames. It owns scratch space for bodies that were
// compressed, so one goroutine uses it at a time.
type Decoder struct {
	zstd *zstd.Decoder
	body []byte
}

// NewDecoder makes a Decoder. Close frees it.
func NewDecoder() (*Decoder, error) {
	// One lane and no streaming: the decoder then starts no goroutine. The cap
	// limit holds every output to the length the frame's header declares.
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBody),
		zstd.WithDecoderMaxWindow(MaxFrame), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("zstd decoder: %w", err)
	}
	return &Decoder{zstd: z}, nil
}

// Close frees the decoder; it must not be used afterwards.
func (d *Decoder) Close() { d.zstd.Close() }

// Decode reads the frame at the start of src, which stands at offset in the
// segment with this seed, and returns its length, padding included. The CRC is
// checked before a byte is trusted, H is computed from the body. The caller
// checks what needs the frame before this one: Chain, LSN, Timestamp, Digest.
//
// The errors are those of Peek, *DecodeError, and *NewerError.
func (d *Decoder) Decode(f *Frame, src []byte, seed, offset uint64) (int, error) {
	size, err := Peek(src)
	if err != nil {
		return 0, err
	}
	if len(src) < size {
		return 0, &DecodeError{What: "frame", Want: fmt.Sprintf("%d bytes", size), Got: fmt.Sprintf("%d bytes", len(src))}
	}
	raw := src[:size:size]
	stored := binary.LittleEndian.Uint32(raw)
	want := binary.LittleEndian.Uint32(raw[offCRC:])
	if got := crc(seed, offset, stored, raw[offFlags:]); got != want {
		return 0, &DecodeError{What: "frame CRC32C", Want: fmt.Sprintf("%08x", want), Got: fmt.Sprintf("%08x", got)}
	}
	for _, b := range raw[stored:] {
		if b != 0 {
			return 0, &DecodeError{What: "frame padding", Want: "0", Got: fmt.Sprint(b)}
		}
	}
	*f = Frame{Stored: size}
	if err := f.readHeader(raw); err != nil {
		return 0, err
	}
	if err := d.readPayload(f, raw[offFlags], raw[HeaderSize:stored], binary.LittleEndian.Uint32(raw[offBodyLen:])); err != nil {
		return 0, err
	}
	return size, nil
}

func (f *Frame) readHeader(raw []byte) error {
	if v := binary.LittleEndian.Uint16(raw[offVersion:]); v > frameVersion {
		return &NewerError{What: "frame version", Got: uint64(v), Ours: frameVersion}
	}
	f.Kind = Kind(raw[offKind])
	if f.Kind == 0 {
		return &DecodeError{What: "frame kind", Want: "1 or more", Got: "0"}
	}
	if f.Kind > KindClock {
		return &NewerError{What: "frame kind", Got: uint64(f.Kind), Ours: uint64(KindClock)}
	}
	f.LSN = lsn.LSN(binary.LittleEndian.Uint64(raw[offLSN:]))
	f.Epoch = lsn.Epoch(binary.LittleEndian.Uint64(raw[offEpoch:]))
	f.Synced = lsn.LSN(binary.LittleEndian.Uint64(raw[offSynced:]))
	f.Timestamp = int64(binary.LittleEndian.Uint64(raw[offTimestamp:]))
	f.Wall = int64(binary.LittleEndian.Uint64(raw[offWall:]))
	copy(f.Salt[:], raw[offSalt:])
	f.Digest = lsn.DigestFrom(raw[offDigest:])
	copy(f.Chain[:], raw[offChain:])
	return nil
}

func (d *Decoder) readPayload(f *Frame, flags byte, payload []byte, bodyLen uint32) error {
	if unknown := flags &^ (codecMask | flagRedacted); unknown != 0 {
		return &NewerError{What: "frame flags", Got: uint64(flags), Ours: codecMask | flagRedacted}
	}
	if bodyLen > MaxBody {
		return &DecodeError{What: "body length", Want: fmt.Sprintf("at most %d", MaxBody), Got: fmt.Sprint(bodyLen)}
	}
	f.Redacted = flags&flagRedacted != 0
	if f.Redacted {
		if len(payload) < HashSize {
			return &DecodeError{What: "redacted payload", Want: "32 bytes or more", Got: fmt.Sprintf("%d bytes", len(payload))}
		}
		copy(f.H[:], payload)
		payload = payload[HashSize:]
	}
	switch codec := flags & codecMask; codec {
	case codecRaw:
		f.Body = payload
	case codecZstd:
		if err := d.inflate(payload, int(bodyLen)); err != nil {
			return err
		}
		f.Body = d.body
	default:
		return &NewerError{What: "frame codec", Got: uint64(codec), Ours: codecZstd}
	}
	if len(f.Body) != int(bodyLen) {
		return &DecodeError{What: "body", Want: fmt.Sprintf("%d bytes", bodyLen), Got: fmt.Sprintf("%d bytes", len(f.Body))}
	}
	if !f.Redacted {
		f.H = BodyHash(&f.Salt, f.Body)
	}
	return nil
}

// inflate decompresses into scratch space of exactly the declared length.
func (d *Decoder) inflate(payload []byte, bodyLen int) error {
	if cap(d.body) < bodyLen {
		d.body = make([]byte, 0, bodyLen)
	}
	out, err := d.zstd.DecodeAll(payload, d.body[:0:bodyLen])
	if err != nil {
		return &DecodeError{What: "compressed body", Want: fmt.Sprintf("%d bytes of zstd", bodyLen), Got: err.Error()}
	}
	d.body = out
	return nil
}
