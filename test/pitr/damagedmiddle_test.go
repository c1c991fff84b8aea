package pitr

import (
	"errors"
	"testing"
	"time"

	"originchain/shared/archive"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
)

// TestADamagedObjectHidesNoMomentButItsOwn: to find a moment in the log, what stands
// elsewhere is looked at. One object of it that cannot be read keeps only what it holds,
// and what is replayed through it, from being restored.
func TestADamagedObjectHidesNoMomentButItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 25)
		h := w.Lines[3]
		last := w.Checkpoints[3][len(w.Checkpoints[3])-1]
		reached := 0
		for at := lsn.LSN(2); at < h.Last(); at += 9 {
			for name, how := range map[string]func([]byte) []byte{"headless": func(b []byte) []byte { b[0] ^= 1; return b }, "empty": func([]byte) []byte { return nil }} {
				holds := holding(t, w.Store, h.At(at).Pos)
				store := spoilt(t, w.Store, holds, how)
				for target := lsn.LSN(1); target <= h.Last(); target += 6 {
					stamp := h.At(target).Stamp
					want := h.Stamped(stamp)
					_, err := restore.Run(t.Context(), options(store, simdisk.New(), restore.Request{LSN: want}))
					if err != nil {
						continue // what is replayed is damaged
					}
					got, err := restore.Run(t.Context(), options(store, simdisk.New(), restore.Request{Time: time.UnixMicro(stamp), Clock: restore.Stamp}))
					if err != nil {
						// Where the cut is, its own object alone can tell.
						if next := holding(t, w.Store, h.At(min(want+1, h.Last())).Pos); errors.As(err, new(*archive.DamagedError)) && (next[0] == holds[0] || holding(t, w.Store, h.At(want).Pos)[0] == holds[0]) {
							continue
						}
						t.Fatalf("%s at LSN %d: the moment of LSN %d: %v", name, at, want, err)
					}
					sameState(t, h, want, got)
					if want > last && at < last {
						reached++
					}
				}
			}
		}
		if reached == 0 {
			t.Error("no moment behind a checkpoint was restored: nothing was tested")
		}
	})
}
