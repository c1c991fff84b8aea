package table

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/oklog/ulid/v2"
)

// purgedKey is node-local: how many purges of an instance's archive the state was built
// behind. It is a file's property and not a row's: it goes with every copy of the files,
// to followers and into the archive, and no frame says it.
var purgedKey = append([]byte{areaLocal}, "purged"...)

const purgedSize = 16 + 8

// Purges says how many purges of the archive of an instance the state was built behind:
// neither it nor the log that goes on from it holds what those have removed. It is 0
// for a state that no restore has made, or one of another instance's archive.
func (s *Store) Purges(instance ulid.ULID) (uint64, error) {
	b, ok, err := get(s.guard, s.db, purgedKey)
	if err != nil || !ok {
		return 0, err
	}
	if len(b) != purgedSize {
		return 0, fmt.Errorf("purges of the state: want %d bytes, got %d", purgedSize, len(b))
	}
	if ulid.ULID(b[:16]) != instance {
		return 0, nil
	}
	return binary.LittleEndian.Uint64(b[16:]), nil
}

// SetPurges notes it, for whoever builds a state out of an archive. It does not sync.
func (s *Store) SetPurges(instance ulid.ULID, n uint64) error {
	b := binary.LittleEndian.AppendUint64(append(make([]byte, 0, purgedSize), instance[:]...), n)
	return s.wait(func() error { return s.db.Set(purgedKey, b, pebble.NoSync) })
}
