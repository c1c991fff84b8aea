package frame

import (
	"encoding/binary"
	"fmt"

	"originchain/shared/lsn"
)

// Lengths of the records that open a body, in bytes.
const (
	epochRecordSize = 8 + 8 + HashSize
	clockRecordSize = 8 + 8
)

// EpochRecord opens an epoch in the log: where on which parent it stands.
type EpochRecord struct {
	Parent      lsn.Epoch
	FirstLSN    lsn.LSN
	ParentChain lsn.Chain
}

// Append encodes the record; operations follow it.
func (r *EpochRecord) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Parent))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.FirstLSN))
	return append(dst, r.ParentChain[:]...)
}

// DecodeEpoch reads the record of an epoch frame's body and returns the
// operations behind it.
func DecodeEpoch(body []byte) (r EpochRecord, ops []byte, err error) {
	if len(body) < epochRecordSize {
		return r, nil, shortRecord("epoch record", epochRecordSize, len(body))
	}
	r.Parent = lsn.Epoch(binary.LittleEndian.Uint64(body))
	r.FirstLSN = lsn.LSN(binary.LittleEndian.Uint64(body[8:]))
	copy(r.ParentChain[:], body[16:])
	return r, body[epochRecordSize:], nil
}

// ClockRecord notes a jump of the stamps: the offset between them and the
// monotonic clock, in microseconds, before and after.
type ClockRecord struct{ OldOffset, NewOffset int64 }

// Append encodes the record; operations follow it.
func (r *ClockRecord) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.OldOffset))
	return binary.LittleEndian.AppendUint64(dst, uint64(r.NewOffset))
}

// DecodeClock reads the record of a clock frame's body and returns the
// operations behind it.
func DecodeClock(body []byte) (r ClockRecord, ops []byte, err error) {
	if len(body) < clockRecordSize {
		return r, nil, shortRecord("clock record", clockRecordSize, len(body))
	}
	r.OldOffset = int64(binary.LittleEndian.Uint64(body))
	r.NewOffset = int64(binary.LittleEndian.Uint64(body[8:]))
	return r, body[clockRecordSize:], nil
}

func shortRecord(what string, want, got int) error {
	return &DecodeError{What: what, Want: fmt.Sprintf("%d bytes", want), Got: fmt.Sprintf("%d bytes", got)}
}

// OpsOf returns the encoded operations in a body of this kind.
func OpsOf(kind Kind, body []byte) ([]byte, error) {
	switch kind {
	case KindEpoch:
		_, ops, err := DecodeEpoch(body)
		return ops, err
	case KindClock:
		_, ops, err := DecodeClock(body)
		return ops, err
	default:
		return body, nil
	}
}
