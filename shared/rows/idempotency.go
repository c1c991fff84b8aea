package rows

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"

	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/table"
)

// How long stored answers live. Never shorter than idemMinAge; then the oldest
// go first, beyond idemMaxKeys or idemMaxAge. Ages are differences of frame
// stamps, and expiry is itself operations in a frame, so every copy of the log
// forgets at the same LSN.
const (
	idemMinAge  = 10 * time.Minute
	idemMaxAge  = 24 * time.Hour
	idemMaxKeys = 10_000
	// idemSweepKeys bounds how many old answers one frame takes away: more than
	// it adds, so that a backlog shrinks.
	idemSweepKeys = 4
)

// MaxIdemKeyBytes bounds an Idempotency-Key.
const MaxIdemKeyBytes = 255

// Answer is what a repeated request gets: the first answer, as stored in the
// frame that did the work.
type Answer struct {
	// Request is SHA-256 of what was asked; another one under the same key is a conflict.
	Request [sha256.Size]byte
	Status  uint16
	LSN     lsn.LSN
	Stamp   int64 // micros
	// Chunks, Accepted, Replaced and Rolling are the progress of a batch whose
	// chunks commit one by one; Done is false until its last chunk is in.
	Done     bool
	Chunks   uint64
	Accepted uint64
	Replaced uint64
	Rolling  [sha256.Size]byte // hash of the rows of the chunks that are in
	Body     []byte
}

// answerVersion is the format of a stored answer.
const answerVersion = 1

const answerFixed = saltSize + 1 + sha256.Size + 2 + 8 + 8 + 1 + 8*3 + sha256.Size

const saltSize = 8

// Encode lays an answer out: salt, version, then the fields in order of the
// struct, little-endian, the body last.
func (a *Answer) encode(salt uint64) []byte {
	b := make([]byte, 0, answerFixed+len(a.Body))
	b = binary.LittleEndian.AppendUint64(b, salt)
	b = append(b, answerVersion)
	b = append(b, a.Request[:]...)
	b = binary.LittleEndian.AppendUint16(b, a.Status)
	b = binary.LittleEndian.AppendUint64(b, uint64(a.LSN))
	b = binary.LittleEndian.AppendUint64(b, uint64(a.Stamp))
	done := byte(0)
	if a.Done {
		done = 1
	}
	b = append(b, done)
	b = binary.LittleEndian.AppendUint64(b, a.Chunks)
	b = binary.LittleEndian.AppendUint64(b, a.Accepted)
	b = binary.LittleEndian.AppendUint64(b, a.Replaced)
	b = append(b, a.Rolling[:]...)
	return append(b, a.Body...)
}

// DecodeAnswer is the inverse of encode; Body aliases b.
func DecodeAnswer(b []byte) (*Answer, error) {
	if len(b) < answerFixed {
		return nil, fmt.Errorf("stored answer: %d bytes are too few", len(b))
	}
	if b[saltSize] != answerVersion {
		return nil, fmt.Errorf("stored answer: version %d is not %d", b[saltSize], answerVersion)
	}
	b = b[saltSize+1:]
	a := &Answer{}
	b = b[copy(a.Request[:], b):]
	a.Status = binary.LittleEndian.Uint16(b)
	a.LSN = lsn.LSN(binary.LittleEndian.Uint64(b[2:]))
	a.Stamp = int64(binary.LittleEndian.Uint64(b[10:]))
	a.Done = b[18] == 1
	a.Chunks = binary.LittleEndian.Uint64(b[19:])
	a.Accepted = binary.LittleEndian.Uint64(b[27:])
	a.Replaced = binary.LittleEndian.Uint64(b[35:])
	b = b[43:]
	b = b[copy(a.Rolling[:], b):]
	a.Body = b
	return a, nil
}

// StoredAnswer looks a key up. A key that was used for another request is a
// conflict; a key that is new returns nil.
func StoredAnswer(v table.View, tenant ulid.ULID, key string, request [sha256.Size]byte) (*Answer, error) {
	raw, ok, err := v.Get(table.IdemKey(tenant, key))
	if err != nil || !ok {
		return nil, err
	}
	a, err := DecodeAnswer(raw)
	if err != nil {
		return nil, err
	}
	if a.Request != request {
		return nil, fault.New(fault.Conflict, "this Idempotency-Key was used for another request; use a new key for a new request")
	}
	return a, nil
}

// StoreAnswer keeps an answer in the frame that does the work, under the
// frame's LSN and stamp, and takes the oldest answers away.
func (b *Builder) StoreAnswer(tenant ulid.ULID, key string, a Answer) error {
	a.LSN, a.Stamp = b.cfg.LSN, b.cfg.Stamp
	k := table.IdemKey(tenant, key)
	ck := table.CounterKey(tenant, table.IdemTable, 0)
	old, ok, err := b.Get(k)
	if err != nil {
		return err
	}
	if ok {
		was, err := DecodeAnswer(old)
		if err != nil {
			return err
		}
		if err := b.removeKey(table.IdemOrderKey(tenant, was.Stamp, key)); err != nil {
			return err
		}
	}
	if err := b.set(ck, k, a.encode(b.cfg.Salt()), old, ok); err != nil {
		return err
	}
	order := table.IdemOrderKey(tenant, a.Stamp, key)
	cur, have, err := b.Get(order)
	if err != nil {
		return err
	}
	if err := b.set(nil, order, table.AppendIndexValue(nil, b.cfg.Salt(), nil), cur, have); err != nil {
		return err
	}
	return b.expireAnswers(tenant, ck)
}

func (b *Builder) removeKey(key []byte) error {
	old, ok, err := b.Get(key)
	if err != nil || !ok {
		return err
	}
	return b.remove(nil, key, old)
}

// expireAnswers takes at most idemSweepKeys of the oldest answers away.
func (b *Builder) expireAnswers(tenant ulid.ULID, ck []byte) error {
	total, err := b.Counters(ck)
	if err != nil {
		return err
	}
	lower, _ := table.RecordRange(tenant, table.SpaceIdemOrder)
	upper := table.IdemOrderKey(tenant, max(0, b.cfg.Stamp-idemMinAge.Microseconds()), "")
	if string(upper) <= string(lower) {
		return nil
	}
	most := uint64(idemSweepKeys)
	if total.Entries <= idemMaxKeys {
		// Only age can expire something now; look no further than that.
		upper = table.IdemOrderKey(tenant, max(0, b.cfg.Stamp-idemMaxAge.Microseconds()), "")
	} else {
		most = min(most, total.Entries-idemMaxKeys)
	}
	old, err := b.oldest(lower, upper, most)
	if err != nil {
		return err
	}
	for _, order := range old {
		_, key, ok := table.SplitIdemOrderKey(order)
		if !ok {
			return fmt.Errorf("stored answers: malformed order key %x", order)
		}
		if err := b.removeAnswer(tenant, ck, key, order); err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) removeAnswer(tenant ulid.ULID, ck []byte, key string, order []byte) error {
	k := table.IdemKey(tenant, key)
	value, ok, err := b.Get(k)
	if err != nil {
		return err
	}
	if ok {
		if err := b.remove(ck, k, value); err != nil {
			return err
		}
	}
	return b.removeKey(order)
}

func (b *Builder) oldest(lower, upper []byte, most uint64) ([][]byte, error) {
	it, err := b.Iter(lower, upper, false)
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	for uint64(len(keys)) < most && it.Next() {
		keys = append(keys, append([]byte(nil), it.Key()...))
	}
	err = it.Err()
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	return keys, err
}

// CheckIdemKey refuses a key that cannot be stored.
func CheckIdemKey(key string) error {
	if len(key) > MaxIdemKeyBytes {
		return fault.New(fault.ValidationFailed, "the Idempotency-Key has %d bytes; at most %d are allowed", len(key), MaxIdemKeyBytes)
	}
	if !utf8.ValidString(key) {
		return fault.New(fault.ValidationFailed, "the Idempotency-Key is not valid UTF-8")
	}
	return nil
}
