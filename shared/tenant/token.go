package tenant

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/crypto/argon2"

	"originchain/shared/fault"
)

// Kind is what a token is for; it shows in its text.
type Kind string

// The kinds of tokens. They open the same things: a test token is told apart
// in logs and lists, so that it can be found and revoked.
const (
	Live Kind = "live"
	Test Kind = "test"
)

// A token's text is "oc_", its kind, "_", the 26 characters of its id and 32
// characters of secret. The id is in the text so that the record is found by a
// lookup: a hash with a salt cannot be searched for.
const (
	tokenPrefix = "oc_"
	idChars     = ulid.EncodedSize
)

// Token is a token in plain text. It exists where it is minted and in the
// answer that shows it; String hides it from everything that formats values.
type Token struct{ text string }

// Reveal is the text, for the one answer that shows it.
func (t Token) Reveal() string { return t.text }

// String implements fmt.Stringer without the secret.
func (t Token) String() string { return "[token]" }

// GoString implements fmt.GoStringer without the secret.
func (t Token) GoString() string { return "[token]" }

// MarshalText implements encoding.TextMarshaler without the secret: a token
// reaches a client by Reveal or not at all.
func (t Token) MarshalText() ([]byte, error) { return []byte("[token]"), nil }

// ParseKind reads a kind; "" is Live.
func ParseKind(text string) (Kind, error) {
	switch k := Kind(text); k {
	case "":
		return Live, nil
	case Live, Test:
		return k, nil
	}
	return "", fault.New(fault.ValidationFailed, "kind is live or test, not %q", clip(text)).With("field", "kind")
}

// MintToken makes a token of the tenant and the record to store for it. It
// takes the time of one Argon2id evaluation (some 70 ms).
func MintToken(tenant ulid.ULID, kind Kind, now time.Time) (Token, TokenRecord) {
	id := newID(now)
	t := Token{text: tokenPrefix + string(kind) + "_" + id.String() + randomText(secretChars)}
	return t, TokenRecord{Format: recordFormat, ID: id, Tenant: tenant, Kind: kind, Hash: newHash(t.text), Created: now.UTC()}
}

// parseToken takes the id out of a token's text. False is not a token of ours.
// The kind is not compared with the record's: it is part of what is hashed.
func parseToken(text string) (id ulid.ULID, ok bool) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return ulid.ULID{}, false
	}
	name, rest, ok := strings.Cut(rest, "_")
	if !ok || (Kind(name) != Live && Kind(name) != Test) || len(rest) != idChars+secretChars {
		return ulid.ULID{}, false
	}
	for i := range len(rest) {
		if strings.IndexByte(crockford, rest[i]) < 0 {
			return ulid.ULID{}, false
		}
	}
	id, err := ulid.ParseStrict(rest[:idChars])
	return id, err == nil
}

// Hash is a token's Argon2id hash and what is needed to compute it again.
type Hash struct {
	Algorithm string `json:"algorithm"`
	// Time is the number of passes, MemoryKiB the memory of one evaluation.
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memory_kib"`
	Threads   uint8  `json:"threads"`
	Salt      []byte `json:"salt"`
	Sum       []byte `json:"sum"`
	// Check is 16 bits of a plain hash of the token. A wrong secret fails here
	// but for one in 65,536, so that a stranger who knows a token's id can make
	// the node neither burn its cores nor lock the owner out. It leaves 144 of
	// the secret's 160 bits unknown.
	Check uint16 `json:"check"`
}

const (
	algorithm      = "argon2id"
	hashTime       = 2
	hashMemoryKiB  = 19 << 10
	hashThreads    = 1
	saltBytes      = 16
	sumBytes       = 32
	maxHashTime    = 16
	maxHashMemory  = 256 << 10 // KiB
	maxHashThreads = 4
)

// newHash hashes a new token under a new salt.
func newHash(text string) Hash {
	h := Hash{Algorithm: algorithm, Time: hashTime, MemoryKiB: hashMemoryKiB, Threads: hashThreads,
		Salt: make([]byte, saltBytes), Check: checkOf(sumOf(text))}
	_, _ = rand.Read(h.Salt) // never fails; it ends the process instead
	h.Sum = h.compute(text)
	return h
}

// compute is the slow hash of a token.
func (h *Hash) compute(text string) []byte {
	return argon2.IDKey([]byte(text), h.Salt, h.Time, h.MemoryKiB, h.Threads, sumBytes)
}

// matches evaluates the slow hash and compares in constant time.
func (h *Hash) matches(text string) bool {
	return subtle.ConstantTimeCompare(h.compute(text), h.Sum) == 1
}

// checkOf is the quick check of a token's SHA-256.
func checkOf(sum [sha256.Size]byte) uint16 { return binary.BigEndian.Uint16(sum[:]) }

// validate bounds what a stored hash may ask of the node.
func (h *Hash) validate() error {
	switch {
	case h.Algorithm != algorithm:
		return fmt.Errorf("hash algorithm %q is not known to this server; it knows %s", h.Algorithm, algorithm)
	case h.Time < 1 || h.Time > maxHashTime, h.MemoryKiB < 8 || h.MemoryKiB > maxHashMemory, h.Threads < 1 || h.Threads > maxHashThreads:
		return fmt.Errorf("hash parameters time=%d memory_kib=%d threads=%d are out of bounds", h.Time, h.MemoryKiB, h.Threads)
	case len(h.Salt) != saltBytes || len(h.Sum) != sumBytes:
		return errors.New("hash has a salt or sum of another length")
	}
	return nil
}
