package table

import (
	"encoding/binary"
	"fmt"

	"github.com/oklog/ulid/v2"

	"originchain/shared/schema"
)

// The keyspace. Every key starts with an area byte:
//
//	0x00 ‖ name                                   node-local, never logged, outside the digest
//	0x01 ‖ tenant[16] ‖ space u8 ‖ rest           logged, part of the state digest
//
// Logged keys order by tenant, then space, then table, then the tuple key, so a
// tenant, a table and an index are each one contiguous range. Fixed-width
// integers inside keys are big-endian, so that byte order is number order.
const (
	areaLocal  = 0x00
	areaLogged = 0x01
)

// Space separates the kinds of logged keys of one tenant.
type Space uint8

// The spaces. Their numbers are part of the format and are never reused.
const (
	SpaceTenants   Space = 1 // system: tenant id → tenant record
	SpaceTokens    Space = 2 // system: token id → token record
	SpaceSchemas   Space = 3 // table name → table record (manifest, ids)
	SpaceCounters  Space = 4 // table u32, index u32 → Counters
	SpaceIDs       Space = 5 // → next table id
	SpaceRows      Space = 6 // table u32, primary key tuple → row value
	SpaceIndexes   Space = 7 // table u32, index u32, tuple → index value
	SpaceIdem      Space = 8 // idempotency key → stored answer
	SpaceIdemOrder Space = 9 // timestamp u64, idempotency key → salt
)

func (s Space) String() string {
	switch s {
	case SpaceTenants:
		return "tenant"
	case SpaceTokens:
		return "token"
	case SpaceSchemas:
		return "schema"
	case SpaceCounters:
		return "counter"
	case SpaceIDs:
		return "ids"
	case SpaceRows:
		return "row"
	case SpaceIndexes:
		return "index"
	case SpaceIdem:
		return "idempotency"
	case SpaceIdemOrder:
		return "idempotency-order"
	}
	return fmt.Sprintf("space-%d", uint8(s))
}

// System is the tenant under which the instance keeps its own records (tenants
// and tokens). No ULID of a real tenant is zero.
var System ulid.ULID

// IdemTable is the table id under which a tenant's stored answers are counted;
// real tables count up from 1 and never reach it.
const IdemTable uint32 = 0xFFFFFFFF

const prefixSize = 1 + 16 + 1

func appendPrefix(dst []byte, tenant ulid.ULID, s Space) []byte {
	dst = append(dst, areaLogged)
	dst = append(dst, tenant[:]...)
	return append(dst, byte(s))
}

// RecordKey is the key of a whole-value record: tenants, tokens, schemas.
func RecordKey(tenant ulid.ULID, s Space, id []byte) []byte {
	k := make([]byte, 0, prefixSize+len(id))
	return append(appendPrefix(k, tenant, s), id...)
}

// RecordRange is the range [lower, upper) of all records of a space.
func RecordRange(tenant ulid.ULID, s Space) (lower, upper []byte) {
	lower = RecordKey(tenant, s, nil)
	return lower, schema.PrefixEnd(nil, lower)
}

// CounterKey is the key of the counters of a table (index 0) or of one of its indexes.
func CounterKey(tenant ulid.ULID, tableID, indexID uint32) []byte {
	k := make([]byte, 0, prefixSize+8)
	k = appendPrefix(k, tenant, SpaceCounters)
	k = binary.BigEndian.AppendUint32(k, tableID)
	return binary.BigEndian.AppendUint32(k, indexID)
}

// isCounterKey says that the key is one of CounterKey's.
func isCounterKey(key []byte) bool {
	return len(key) == prefixSize+8 && key[0] == areaLogged && key[prefixSize-1] == byte(SpaceCounters)
}

// AppendRowPrefix appends the prefix that all rows of a table share.
func AppendRowPrefix(dst []byte, tenant ulid.ULID, tableID uint32) []byte {
	dst = appendPrefix(dst, tenant, SpaceRows)
	return binary.BigEndian.AppendUint32(dst, tableID)
}

// AppendIndexPrefix appends the prefix that all entries of an index share.
func AppendIndexPrefix(dst []byte, tenant ulid.ULID, tableID, indexID uint32) []byte {
	dst = appendPrefix(dst, tenant, SpaceIndexes)
	dst = binary.BigEndian.AppendUint32(dst, tableID)
	return binary.BigEndian.AppendUint32(dst, indexID)
}

// rowPrefixSize and indexPrefixSize are where the tuple starts in a key.
const (
	rowPrefixSize   = prefixSize + 4
	indexPrefixSize = prefixSize + 8
)

// IdemKey is the key of a stored answer.
func IdemKey(tenant ulid.ULID, key string) []byte {
	return RecordKey(tenant, SpaceIdem, []byte(key))
}

// IdemOrderKey orders stored answers by the stamp (micros) of their frame, so
// that expiry finds the oldest without a scan.
func IdemOrderKey(tenant ulid.ULID, stamp int64, key string) []byte {
	k := make([]byte, 0, prefixSize+8+len(key))
	k = appendPrefix(k, tenant, SpaceIdemOrder)
	k = binary.BigEndian.AppendUint64(k, uint64(stamp))
	return append(k, key...)
}

// SplitIdemOrderKey is the inverse of IdemOrderKey.
func SplitIdemOrderKey(k []byte) (stamp int64, key string, ok bool) {
	if len(k) < prefixSize+8 {
		return 0, "", false
	}
	return int64(binary.BigEndian.Uint64(k[prefixSize:])), string(k[prefixSize+8:]), true
}

// Parts are the fields of a logged key, for tools that print it.
type Parts struct {
	Tenant  ulid.ULID
	Space   Space
	TableID uint32 // rows, indexes, counters
	IndexID uint32 // indexes, counters
	Rest    []byte // tuple, record id or idempotency key
}

// SplitKey takes a logged key apart; ok is false when k is not one.
func SplitKey(k []byte) (p Parts, ok bool) {
	if len(k) < prefixSize || k[0] != areaLogged {
		return p, false
	}
	copy(p.Tenant[:], k[1:17])
	p.Space = Space(k[17])
	p.Rest = k[prefixSize:]
	switch p.Space {
	case SpaceRows:
		if len(p.Rest) < 4 {
			return p, false
		}
		p.TableID, p.Rest = binary.BigEndian.Uint32(p.Rest), p.Rest[4:]
	case SpaceIndexes, SpaceCounters:
		if len(p.Rest) < 8 {
			return p, false
		}
		p.TableID, p.IndexID = binary.BigEndian.Uint32(p.Rest), binary.BigEndian.Uint32(p.Rest[4:])
		p.Rest = p.Rest[8:]
	}
	return p, true
}

// LoggedRange is the range of every key the log writes; the state digest is
// the sum over exactly these.
func LoggedRange() (lower, upper []byte) {
	return []byte{areaLogged}, []byte{areaLogged + 1}
}
