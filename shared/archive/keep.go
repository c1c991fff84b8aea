package archive

import (
	"bytes"
	"io"
	"sync/atomic"
)

const (
	// keepBytes bounds what compressed segments hold in memory until they are uploaded.
	keepBytes = 48 << 20
	// pieceBytes is in how large pieces they do.
	pieceBytes = 256 << 10
)

// room is an amount of memory that several share.
type room struct{ left atomic.Int64 }

func newRoom(n int64) *room {
	r := new(room)
	r.left.Store(n)
	return r
}

// take reports whether n bytes were left; they are then the caller's.
func (r *room) take(n int64) bool {
	if r.left.Add(-n) >= 0 {
		return true
	}
	r.left.Add(n)
	return false
}

// pieces keeps what is written to it, or nothing where there is no room for all of it.
type pieces struct {
	room *room
	all  [][]byte
	over bool
}

// Write implements io.Writer. It does not fail.
func (k *pieces) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && !k.over; {
		last := len(k.all) - 1
		if last < 0 || len(k.all[last]) == pieceBytes {
			if !k.room.take(pieceBytes) {
				k.drop()
				k.over = true
				break
			}
			k.all = append(k.all, make([]byte, 0, pieceBytes))
			last++
		}
		n := min(len(rest), pieceBytes-len(k.all[last]))
		k.all[last] = append(k.all[last], rest[:n]...)
		rest = rest[n:]
	}
	return len(p), nil
}

// drop gives the room back. What was opened before must not be read any more.
func (k *pieces) drop() {
	k.room.left.Add(int64(len(k.all)) * pieceBytes)
	k.all = nil
}

// open reads them from the beginning.
func (k *pieces) open() (io.ReadCloser, error) {
	readers := make([]io.Reader, len(k.all))
	for i, b := range k.all {
		readers[i] = bytes.NewReader(b)
	}
	return io.NopCloser(io.MultiReader(readers...)), nil
}
