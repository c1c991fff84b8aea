package tenant

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// AdminToken is the token of /v1/admin, which may change, and the one before it, which is
// taken for AdminOverlap: those who use it do not all learn of a change at once. Only
// hashes are in memory. It is safe for concurrent use.
type AdminToken struct{ keys atomic.Pointer[adminKeys] }

// AdminOverlap is for how long the token before the current one is taken.
const AdminOverlap = time.Hour

type adminKeys struct {
	current adminKey
	// before is taken until the end, on the monotonic clock; its actor is "" for none.
	before adminKey
	end    time.Time
}

type adminKey struct {
	sum   [sha256.Size]byte
	actor string
}

// Bounds of an admin token's text. The lower one keeps a forgotten placeholder
// from opening a node; a token made here has 160 bits of secret.
const (
	minAdminTokenBytes = 24
	maxAdminTokenBytes = 256
)

const adminPrefix = "oc_admin_"

// NewAdminToken makes an AdminToken of its text.
func NewAdminToken(text string) (*AdminToken, error) {
	if len(text) < minAdminTokenBytes || len(text) > maxAdminTokenBytes {
		return nil, fmt.Errorf("an admin token has %d to %d characters, this one has %d", minAdminTokenBytes, maxAdminTokenBytes, len(text))
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return nil, errors.New("an admin token is one line of printable ASCII without spaces")
		}
	}
	key := adminKey{sum: sha256.Sum256([]byte(text))}
	fingerprint := sha256.Sum256(append([]byte("originchain admin actor\x00"), key.sum[:]...))
	key.actor = "admin-" + hex.EncodeToString(fingerprint[:4])
	t := &AdminToken{}
	t.keys.Store(&adminKeys{current: key})
	return t, nil
}

// Matches compares in constant time: hashes of equal length, so that neither
// the length nor a common prefix of the token shows in the time taken. The actor names the
// token in logs and audit lines; the token cannot be found from it.
func (t *AdminToken) Matches(text string) (actor string, ok bool) {
	sum := sha256.Sum256([]byte(text))
	keys := t.keys.Load()
	current := subtle.ConstantTimeCompare(sum[:], keys.current.sum[:])
	before := subtle.ConstantTimeCompare(sum[:], keys.before.sum[:])
	switch {
	case current == 1:
		return keys.current.actor, true
	case before == 1 && keys.before.actor != "" && time.Now().Before(keys.end):
		return keys.before.actor, true
	}
	return "", false
}

// Take has another token in place of the current one, which is the one before it then.
func (t *AdminToken) Take(next *AdminToken) {
	for {
		now, current := t.keys.Load(), next.keys.Load().current
		if now.current == current {
			return
		}
		if t.keys.CompareAndSwap(now, &adminKeys{current: current, before: now.current, end: time.Now().Add(AdminOverlap)}) {
			return
		}
	}
}

// AdminTokenFile is a file of the token, for a watch of it: what it holds is read as at the
// start, and is not made anew where it is gone.
type AdminTokenFile string

// Read returns what the file holds.
func (f AdminTokenFile) Read() ([][]byte, error) {
	text, err := readAdminToken(string(f))
	if err != nil {
		return nil, fmt.Errorf("admin token: %w", err)
	}
	return [][]byte{[]byte(text)}, nil
}

// Parse makes a token of that.
func (f AdminTokenFile) Parse(contents [][]byte) (*AdminToken, error) {
	t, err := NewAdminToken(string(contents[0]))
	if err != nil {
		return nil, fmt.Errorf("admin token file %s: %w", string(f), err)
	}
	return t, nil
}

// LoadOrCreateAdminToken reads the admin token at path, or creates it (mode
// 0600, file and directory synced) where nothing is. A file that its group or
// others may read, or that is not a regular file, is refused.
func LoadOrCreateAdminToken(path string) (*AdminToken, error) {
	text, err := readAdminToken(path)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = createAdminToken(path)
		if errors.Is(err, fs.ErrExist) { // another process was first
			text, err = readAdminToken(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("admin token: %w", err)
	}
	t, err := NewAdminToken(text)
	if err != nil {
		return nil, fmt.Errorf("admin token file %s: %w; remove the file to have a new token made", path, err)
	}
	return t, nil
}

// readAdminToken reads the text of an existing file.
func readAdminToken(path string) (text string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat() // of the open file: the name could change under us
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file; name a file that holds the token", path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return "", fmt.Errorf("%s has mode %04o, so that others than its owner can use the token; run: chmod 600 %s", path, perm, path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxAdminTokenBytes+2))
	if err != nil {
		return "", err
	}
	return string(bytes.TrimRight(raw, "\r\n")), nil
}

// createAdminToken writes a new token to path, which must not exist. The text
// goes to a file beside it first: a crash must not leave half a token under the name.
func createAdminToken(path string) (text string, err error) {
	text = adminPrefix + randomText(secretChars)
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".admin-token-*") // CreateTemp uses O_EXCL and mode 0600
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, removeIfThere(tmp.Name())) }()
	_, err = io.WriteString(tmp, text+"\n")
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return "", err
	}
	if err := os.Link(tmp.Name(), path); err != nil { // fails if path exists, as O_EXCL would
		return "", err
	}
	return text, syncDir(dir)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// secretChars is the length of a secret: 32 characters of 5 bits are 160 bits.
const secretChars = 32

// crockford is the alphabet of ULIDs and secrets: no I, L, O, U.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// randomText returns n characters of 5 random bits each.
func randomText(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // crypto/rand.Read never fails; it ends the process instead
	for i := range raw {
		raw[i] = crockford[raw[i]&31]
	}
	return string(raw)
}
