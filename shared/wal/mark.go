package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Layout of the durable mark: two slots, each on a page of its own.
const (
	markSlotSize   = 64
	markSlotStride = 4096
	markMagic      = "OCDMARK\x01"

	markSequence = 8
	markLSN      = 16
	markWriter   = 24
	markInstance = 32
	markReserved = 48
	markCRC      = 60
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// markValue is what the mark says.
type markValue struct {
	// valid is false when no slot could be read.
	valid bool
	// durable is an LSN that was durable when the mark was written.
	durable lsn.LSN
	// writer is the last epoch this node opened as writer.
	writer   lsn.Epoch
	instance [16]byte
}

// durableMark is the open mark file. A bad frame at or below the mark was
// once durable, so it is corruption and never a torn tail.
//
// A slot is rewritten in place after each fsync and needs no fsync of its own.
// It is written after the data it speaks of is durable, so whichever slot
// survives a crash speaks the truth; a stale or lost one only makes the next
// opening trust synced_lsn instead. Two slots in turn, so that a torn write
// leaves the other.
type durableMark struct {
	file     vfs.File
	sequence uint64
	value    markValue
}

// openMark opens or creates the mark and reads its newest good slot.
func openMark(fs vfs.FS, path string) (*durableMark, error) {
	f, err := fs.OpenReadWrite(path, diskCategory)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	m := &durableMark{file: f}
	if m.sequence, m.value, err = readMark(f); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), f.Close())
	}
	return m, nil
}

// readMark returns the newest good slot. A slot that is short or damaged
// leaves the other; both bad is the same as no mark.
func readMark(f vfs.File) (sequence uint64, newest markValue, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, markValue{}, err
	}
	for slot := range int64(2) {
		var b [markSlotSize]byte
		if slot*markSlotStride+markSlotSize > info.Size() {
			continue
		}
		if err := readFull(f, b[:], slot*markSlotStride); err != nil {
			return 0, markValue{}, err
		}
		if seq, v := decodeMark(b[:]); v.valid && seq >= sequence {
			sequence, newest = seq, v
		}
	}
	return sequence, newest, nil
}

func decodeMark(b []byte) (sequence uint64, v markValue) {
	if string(b[:markSequence]) != markMagic ||
		crc32.Checksum(b[:markCRC], castagnoli) != binary.LittleEndian.Uint32(b[markCRC:]) {
		return 0, v
	}
	v.valid = true
	v.durable = lsn.LSN(binary.LittleEndian.Uint64(b[markLSN:]))
	v.writer = lsn.Epoch(binary.LittleEndian.Uint64(b[markWriter:]))
	copy(v.instance[:], b[markInstance:markReserved])
	return binary.LittleEndian.Uint64(b[markSequence:]), v
}

// write puts v into the slot that holds the older value.
func (m *durableMark) write(v markValue) error {
	v.valid = true
	sequence := m.sequence + 1
	var b [markSlotSize]byte
	copy(b[:], markMagic)
	binary.LittleEndian.PutUint64(b[markSequence:], sequence)
	binary.LittleEndian.PutUint64(b[markLSN:], uint64(v.durable))
	binary.LittleEndian.PutUint64(b[markWriter:], uint64(v.writer))
	copy(b[markInstance:], v.instance[:])
	binary.LittleEndian.PutUint32(b[markCRC:], crc32.Checksum(b[:markCRC], castagnoli))
	if _, err := m.file.WriteAt(b[:], int64(sequence%2)*markSlotStride); err != nil {
		return err
	}
	m.sequence, m.value = sequence, v
	return nil
}
