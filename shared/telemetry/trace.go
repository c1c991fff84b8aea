package telemetry

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// traceparentLen is the length of a version 00 traceparent:
// 2 version, 32 trace id, 16 parent id and 2 flags, joined by three dashes.
const traceparentLen = 55

// flagSampled is the one flag of W3C Trace Context level 1.
const flagSampled = 1

// Trace is a position in a distributed trace, as W3C Trace Context has it.
// The zero value is no trace.
type Trace struct {
	ID    [16]byte
	Span  [8]byte
	Flags byte
}

// NewTrace begins a trace. It is not sampled: that is the caller's choice.
func NewTrace() Trace {
	var t Trace
	for !t.Valid() {
		binary.BigEndian.PutUint64(t.ID[:8], rand.Uint64())
		binary.BigEndian.PutUint64(t.ID[8:], rand.Uint64())
		binary.BigEndian.PutUint64(t.Span[:], rand.Uint64())
	}
	return t
}

// Child returns the same trace with a new span id, for work done in its name.
func (t Trace) Child() Trace {
	parent := t.Span
	for t.Span == parent || t.Span == [8]byte{} {
		binary.BigEndian.PutUint64(t.Span[:], rand.Uint64())
	}
	return t
}

// Valid says that t names a trace and a span: neither id may be all zero.
func (t Trace) Valid() bool {
	return t.ID != [16]byte{} && t.Span != [8]byte{}
}

// Sampled says that the caller records this trace.
func (t Trace) Sampled() bool { return t.Flags&flagSampled != 0 }

// TraceID is the trace id as 32 lower-case hex digits.
func (t Trace) TraceID() string { return hex.EncodeToString(t.ID[:]) }

// String is t as a version 00 traceparent header.
func (t Trace) String() string {
	b := make([]byte, 0, traceparentLen)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, t.ID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, t.Span[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, []byte{t.Flags})
	return string(b)
}

// ParseTrace reads a traceparent header. Version 00 must have exactly its
// length; a later version may say more after a dash, which is ignored, as the
// recommendation asks; version ff is invalid. False means: begin a new trace.
func ParseTrace(header string) (Trace, bool) {
	if len(header) < traceparentLen || header[2] != '-' || header[35] != '-' || header[52] != '-' {
		return Trace{}, false
	}
	var version, flags [1]byte
	var t Trace
	if !lowerHex(version[:], header[:2]) || !lowerHex(t.ID[:], header[3:35]) ||
		!lowerHex(t.Span[:], header[36:52]) || !lowerHex(flags[:], header[53:55]) {
		return Trace{}, false
	}
	t.Flags = flags[0]
	switch {
	case version[0] == 0xff:
		return Trace{}, false
	case version[0] == 0 && len(header) != traceparentLen:
		return Trace{}, false
	case len(header) > traceparentLen && header[traceparentLen] != '-':
		return Trace{}, false
	}
	return t, t.Valid()
}

// lowerHex decodes src, which must be lower-case hex of twice dst's length:
// encoding/hex would also take upper case, which the recommendation forbids.
func lowerHex(dst []byte, src string) bool {
	for i := range dst {
		hi, ok := nibble(src[2*i])
		if !ok {
			return false
		}
		lo, ok := nibble(src[2*i+1])
		if !ok {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

func nibble(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
