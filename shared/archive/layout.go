package archive

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"originchain/shared/lsn"
)

// Where objects are. An archive fills a store from its root.
const (
	instanceName     = "instance.json"
	epochPrefix      = "epochs/"
	logPrefix        = "log/"
	tailPrefix       = "tail/"
	checkpointPrefix = "checkpoints/"
	pendingPrefix    = "pending/"
	objectPrefix     = "objects/"
	gapPrefix        = "gaps/"
	boundaryPrefix   = "boundaries/"
	redactionPrefix  = "redactions/"

	segmentSuffix = ".seg.zst"
	partSuffix    = ".part.zst"
	jsonSuffix    = ".json"
)

// Key is the name of an object of an archive: one of the types below. Its String is
// the key, and ParseKey gives it back.
type Key interface {
	String() string
	valid() bool
}

// InstanceKey is the object that says whose archive this is.
type InstanceKey struct{}

// EpochKey is the object of an epoch.
type EpochKey struct{ Epoch lsn.Epoch }

// SegmentKey is a sealed segment of the log, compressed.
type SegmentKey struct {
	Epoch       lsn.Epoch
	First, Last lsn.LSN
	// Rewrite counts the purges that have rewritten it; 0 is the segment as written.
	Rewrite uint32
}

// PartKey is a run of whole frames of a segment, compressed.
type PartKey struct {
	Epoch lsn.Epoch
	// Segment is the first LSN of the segment that the frames stand in.
	Segment  lsn.LSN
	From, To lsn.LSN
	// Rewrite counts the purges that have rewritten it, as for a segment.
	Rewrite uint32
}

// CheckpointKey is the manifest of a checkpoint of the state after frame LSN, which
// is one of epoch Epoch.
type CheckpointKey struct {
	LSN   lsn.LSN
	Epoch lsn.Epoch
	// Rewrite counts the purges that have rewritten it, as for a segment.
	Rewrite uint32
}

// PendingKey announces a checkpoint whose files are being uploaded.
type PendingKey struct {
	CheckpointKey
	// Nonce tells apart the attempts at one checkpoint.
	Nonce uint32
}

// FileKey is a file of checkpoints, named by its content.
type FileKey struct {
	SHA256 [32]byte
	// Generation is above 0 where a retention run had condemned the names below.
	Generation uint32
}

// GapKey records frames that the archive does not have and never will.
type GapKey struct {
	Epoch    lsn.Epoch
	From, To lsn.LSN
}

// BoundaryKey is what a retention run announced before it removed anything.
type BoundaryKey struct{ Number uint64 }

// RedactionKey is the record of a purge.
type RedactionKey struct{ ID string }

func (InstanceKey) String() string { return instanceName }
func (k EpochKey) String() string  { return epochPrefix + hex16(uint64(k.Epoch)) + jsonSuffix }

func (k SegmentKey) String() string {
	return logPrefix + hex16(uint64(k.Epoch)) + "/" + hex16(uint64(k.First)) + "-" + hex16(uint64(k.Last)) + segmentSuffix + rewritten(k.Rewrite)
}

func (k PartKey) String() string {
	return tailPrefix + hex16(uint64(k.Epoch)) + "/" + hex16(uint64(k.Segment)) + "/" + hex16(uint64(k.From)) + "-" + hex16(uint64(k.To)) + partSuffix + rewritten(k.Rewrite)
}

func (k CheckpointKey) String() string {
	return checkpointPrefix + hex16(uint64(k.LSN)) + "-" + hex16(uint64(k.Epoch)) + jsonSuffix + rewritten(k.Rewrite)
}

func (k PendingKey) String() string {
	return pendingPrefix + hex16(uint64(k.LSN)) + "-" + hex16(uint64(k.Epoch)) + "-" + fmt.Sprintf("%08x", k.Nonce) + jsonSuffix
}

func (k FileKey) String() string {
	s := objectPrefix + hex.EncodeToString(k.SHA256[:])
	if k.Generation > 0 {
		s += "." + strconv.FormatUint(uint64(k.Generation), 10)
	}
	return s
}

func (k GapKey) String() string {
	return gapPrefix + hex16(uint64(k.Epoch)) + "/" + hex16(uint64(k.From)) + "-" + hex16(uint64(k.To)) + jsonSuffix
}

func (k BoundaryKey) String() string  { return boundaryPrefix + hex16(k.Number) + jsonSuffix }
func (k RedactionKey) String() string { return redactionPrefix + k.ID + jsonSuffix }

func (InstanceKey) valid() bool  { return true }
func (k EpochKey) valid() bool   { return k.Epoch > 0 }
func (k SegmentKey) valid() bool { return k.Epoch > 0 && k.First > 0 && k.Last >= k.First }
func (k PartKey) valid() bool {
	return k.Epoch > 0 && k.Segment > 0 && k.From >= k.Segment && k.To >= k.From
}
func (k CheckpointKey) valid() bool { return k.Epoch > 0 && k.LSN > 0 }
func (k FileKey) valid() bool       { return true }
func (k GapKey) valid() bool        { return k.Epoch > 0 && k.From > 0 && k.To >= k.From }
func (k BoundaryKey) valid() bool   { return k.Number > 0 }
func (k RedactionKey) valid() bool  { return len(k.ID) == 26 && !strings.ContainsAny(k.ID, "/.") }

// rewriteSuffix stands before the number of a rewrite.
const rewriteSuffix = ".r"

func rewritten(n uint32) string {
	if n == 0 {
		return ""
	}
	return rewriteSuffix + strconv.FormatUint(uint64(n), 10)
}

func hex16(v uint64) string { return fmt.Sprintf("%016x", v) }

// ParseKey reads a key. A name is one of an archive only if it is, to the letter,
// what its Key gives; any other is a *KeyError.
func ParseKey(name string) (Key, error) {
	k := parseKey(name)
	if k == nil || !k.valid() || k.String() != name {
		return nil, &KeyError{name}
	}
	return k, nil
}

// KeyError says that an object is none of an archive's.
type KeyError struct{ Key string }

// Error implements error.
func (e *KeyError) Error() string {
	return fmt.Sprintf("%q is not a name of an object of an archive; an archive has its place in the store for itself", e.Key)
}

// parseKey reads loosely: ParseKey holds what it finds against the name.
func parseKey(name string) Key {
	if name == instanceName {
		return InstanceKey{}
	}
	dir, rest, _ := strings.Cut(name, "/")
	f := fields(rest)
	switch dir + "/" {
	case epochPrefix:
		return EpochKey{lsn.Epoch(f.hex(16))}
	case logPrefix:
		k := SegmentKey{Epoch: lsn.Epoch(f.hex(16)), First: lsn.LSN(f.skip(1).hex(16)), Last: lsn.LSN(f.skip(1).hex(16))}
		k.Rewrite = f.skip(len(segmentSuffix)).number(rewriteSuffix)
		return k
	case tailPrefix:
		k := PartKey{Epoch: lsn.Epoch(f.hex(16)), Segment: lsn.LSN(f.skip(1).hex(16)), From: lsn.LSN(f.skip(1).hex(16)), To: lsn.LSN(f.skip(1).hex(16))}
		k.Rewrite = f.skip(len(partSuffix)).number(rewriteSuffix)
		return k
	case checkpointPrefix:
		k := CheckpointKey{LSN: lsn.LSN(f.hex(16)), Epoch: lsn.Epoch(f.skip(1).hex(16))}
		k.Rewrite = f.skip(len(jsonSuffix)).number(rewriteSuffix)
		return k
	case pendingPrefix:
		return PendingKey{CheckpointKey{LSN: lsn.LSN(f.hex(16)), Epoch: lsn.Epoch(f.skip(1).hex(16))}, uint32(f.skip(1).hex(8))}
	case objectPrefix:
		var k FileKey
		if raw, err := hex.DecodeString(f.take(64)); err == nil {
			copy(k.SHA256[:], raw)
		}
		k.Generation = f.number(".")
		return k
	case gapPrefix:
		return GapKey{Epoch: lsn.Epoch(f.hex(16)), From: lsn.LSN(f.skip(1).hex(16)), To: lsn.LSN(f.skip(1).hex(16))}
	case boundaryPrefix:
		return BoundaryKey{f.hex(16)}
	case redactionPrefix:
		return RedactionKey{strings.TrimSuffix(rest, jsonSuffix)}
	}
	return nil
}

// cursor reads a name from left to right; what is not there reads as zero.
type cursor struct{ rest string }

func fields(s string) *cursor { return &cursor{s} }

func (c *cursor) take(n int) string {
	n = min(n, len(c.rest))
	s := c.rest[:n]
	c.rest = c.rest[n:]
	return s
}

func (c *cursor) skip(n int) *cursor {
	c.take(n)
	return c
}

func (c *cursor) hex(n int) uint64 {
	v, err := strconv.ParseUint(c.take(n), 16, 64)
	if err != nil {
		return 0
	}
	return v
}

func (c *cursor) number(after string) uint32 {
	v, err := strconv.ParseUint(strings.TrimPrefix(c.rest, after), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(v)
}
