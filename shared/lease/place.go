package lease

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// bootIDFile names this boot of this kernel, for its containers too.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// PlaceOf names a directory in this boot of this machine. Whoever holds the lock of
// the directory of that place knows that the process which held it before is gone;
// a copy of the directory, or the same disk on another machine, is another place.
// It is a hash: the record is read by others.
func PlaceOf(dir string) (string, error) {
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		return "", fmt.Errorf("tell this boot of the machine from others: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", fmt.Errorf("tell the directory %s from its copies: %w", dir, err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", strings.TrimSpace(string(boot)), st.Dev, st.Ino))
	return hex.EncodeToString(sum[:16]), nil
}

// maxPlaceBytes bounds Record.Place.
const maxPlaceBytes = 64

// SamePlace says whether a node that has the lock of the directory at place need
// not wait for the holder's lease: it is the holder's own, and what held it before
// is gone.
func (r Record) SamePlace(node, place string) bool {
	return place != "" && r.Holder == node && r.Place == place
}
