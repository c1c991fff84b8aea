package tenant

import (
	"bytes"
	"sync"

	"github.com/oklog/ulid/v2"
)

// Stored reads the bytes of records as they are visible now; false where there
// is none. The bytes need to stay valid only until the next call returns.
type Stored interface {
	TokenBytes(id ulid.ULID) ([]byte, bool, error)
	TenantBytes(id ulid.ULID) ([]byte, bool, error)
}

// DecodedRecords are Records over Stored bytes. The state is read on every
// call, and decoded only when its bytes have changed since the last one:
// decoding costs several times the read.
type DecodedRecords struct {
	stored  Stored
	tokens  decoded[TokenRecord]
	tenants decoded[TenantRecord]
}

// NewDecodedRecords makes Records of stored bytes.
func NewDecodedRecords(stored Stored) *DecodedRecords {
	return &DecodedRecords{stored: stored,
		tokens:  decoded[TokenRecord]{seen: make(map[ulid.ULID]seen[TokenRecord])},
		tenants: decoded[TenantRecord]{seen: make(map[ulid.ULID]seen[TenantRecord])}}
}

// Token implements Records.
func (r *DecodedRecords) Token(id ulid.ULID) (TokenRecord, bool, error) {
	src, ok, err := r.stored.TokenBytes(id)
	if err != nil || !ok {
		return TokenRecord{}, false, err
	}
	record, err := r.tokens.decode(id, src, DecodeToken)
	return record, err == nil, err
}

// Tenant implements Records.
func (r *DecodedRecords) Tenant(id ulid.ULID) (TenantRecord, bool, error) {
	src, ok, err := r.stored.TenantBytes(id)
	if err != nil || !ok {
		return TenantRecord{}, false, err
	}
	record, err := r.tenants.decode(id, src, DecodeTenant)
	return record, err == nil, err
}

// decoded remembers the last form of each record.
type decoded[R any] struct {
	mu   sync.RWMutex
	seen map[ulid.ULID]seen[R]
}

// seen is a record and the bytes it was decoded from.
type seen[R any] struct {
	src    []byte
	record R
}

// decode returns the record of src, from memory where the bytes are the same.
func (d *decoded[R]) decode(id ulid.ULID, src []byte, read func([]byte) (R, error)) (R, error) {
	d.mu.RLock()
	s, ok := d.seen[id]
	d.mu.RUnlock()
	if ok && bytes.Equal(s.src, src) {
		return s.record, nil
	}
	record, err := read(src)
	if err != nil {
		return record, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	makeRoom(d.seen, maxVerified)
	d.seen[id] = seen[R]{src: bytes.Clone(src), record: record}
	return record, nil
}
