package pitr

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"originchain/scripts/oc-pitr/pitr"
	"originchain/shared/archive"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
)

// holding are the objects that hold a frame of an epoch.
func holding(t testing.TB, store object.Store, at lsn.Pos) (out []string) {
	t.Helper()
	s, err := archive.New(store).Survey(t.Context())
	must(t, err)
	for _, k := range s.Segments {
		if k.Key.Epoch == at.Epoch && k.Key.First <= at.LSN && at.LSN <= k.Key.Last {
			out = append(out, k.Key.String())
		}
	}
	for _, k := range s.Parts {
		if k.Key.Epoch == at.Epoch && k.Key.From <= at.LSN && at.LSN <= k.Key.To {
			out = append(out, k.Key.String())
		}
	}
	if len(out) == 0 {
		t.Fatalf("nothing holds %v", at)
	}
	return out
}

// spoilt is another store with the same objects, some of them changed.
func spoilt(t testing.TB, store object.Store, names []string, how func([]byte) []byte) object.Store {
	t.Helper()
	out := object.NewMemory("archive")
	all, err := archive.New(store).Names(t.Context(), "")
	must(t, err)
	for _, info := range all {
		b := bytes.Clone(read(t, store, info.Key))
		if slices.Contains(names, info.Key) {
			b = how(b)
		}
		must(t, out.Put(t.Context(), info.Key, object.Bytes(b)))
	}
	return out
}

// TestADamagedEndHidesNothingElse: what the newest object of the log, or the oldest one,
// holds cannot be restored to, and says so; every other point can, and is listed.
func TestADamagedEndHidesNothingElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 25)
		h := w.Lines[3]
		var damaged *archive.DamagedError
		for name, how := range map[string]func([]byte) []byte{"cut": cut, "headless": func(b []byte) []byte { b[0] ^= 1; return b }, "empty": func([]byte) []byte { return nil }} {
			// The newest end.
			store := spoilt(t, w.Store, holding(t, w.Store, h.At(h.Last()).Pos), how)
			list, err := restore.List(t.Context(), store, restore.Request{})
			if err != nil {
				t.Fatalf("%s: listed: %v", name, err)
			}
			until := list.Until.LSN
			if until >= h.Last() || until < h.Last()/2 || len(list.Faults) == 0 {
				t.Fatalf("%s: until %d of %d, faults %v", name, until, h.Last(), list.Faults)
			}
			for _, at := range []lsn.LSN{2, w.Checkpoints[3][0] + 1, until} {
				got, err := restore.Run(t.Context(), options(store, simdisk.New(), restore.Request{LSN: at}))
				if err != nil {
					t.Fatalf("%s: LSN %d: %v", name, at, err)
				}
				sameState(t, h, at, got)
			}
			before := time.UnixMicro(h.At(until).Stamp - 1)
			got, err := restore.Run(t.Context(), options(store, simdisk.New(), restore.Request{Time: before}))
			must(t, err)
			sameState(t, h, h.Stamped(before.UnixMicro()), got)
			// What would lose frames without a word is refused.
			for _, req := range []restore.Request{{Latest: true}, {LSN: h.Last()}, {Time: time.UnixMicro(h.At(until).Stamp)}, {Time: time.UnixMicro(h.At(h.Last()).Stamp)}, {Time: time.UnixMicro(h.At(h.Last()).Stamp), Clock: restore.Wall}} {
				disk := simdisk.New()
				if _, err := restore.Run(t.Context(), options(store, disk, req)); !errors.As(err, &damaged) {
					t.Errorf("%s: %+v: %v", name, req, err)
				}
			}
			// The oldest end.
			store = spoilt(t, w.Store, holding(t, w.Store, h.At(1).Pos), how)
			got, err = restore.Run(t.Context(), options(store, simdisk.New(), restore.Request{Latest: true}))
			if err != nil {
				t.Fatalf("%s: behind the damaged beginning: %v", name, err)
			}
			sameState(t, h, h.Last(), got)
			_, err = restore.Run(t.Context(), options(store, simdisk.New(), restore.Request{LSN: 1}))
			if !errors.As(err, &damaged) || !strings.Contains(err.Error(), "LSN 1") {
				t.Errorf("%s: LSN 1: %v", name, err)
			}
			// All of it: nothing is there to restore to, and why is said.
			s, err := archive.New(w.Store).Survey(t.Context())
			must(t, err)
			names := holding(t, w.Store, h.At(1).Pos)
			for i := range s.Checkpoints {
				names = append(names, s.Checkpoints[i].Key().String())
			}
			_, err = restore.Run(t.Context(), options(spoilt(t, w.Store, names, how), simdisk.New(), restore.Request{Latest: true}))
			if !errors.As(err, &damaged) || errors.As(err, new(*restore.TargetError)) {
				t.Errorf("%s: with no checkpoint: %v", name, err)
			}
		}
	})
}

// TestAVerificationIsNotGreenWithoutADocument: a newest checkpoint whose manifest is
// damaged is done without, and so was not verified.
func TestAVerificationIsNotGreenWithoutADocument(t *testing.T) {
	dir := t.TempDir()
	bubble(t, func(t *testing.T) { // without a table, which would need its tenant's record
		n := Begin(t, simdisk.New(), object.NewFolder(dir), "data", 1, nil, Straight)
		n.settle()
		n.Checkpoint()
		n.End()
	})
	must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("none of an archive's"), 0o600))
	c := &cli{t: t}
	var got struct {
		OK       bool
		Unread   []string
		Restore  restore.Result
		Contents struct{ OK bool }
	}
	for _, mode := range []string{"full", "streaming"} {
		c.document(pitr.ExitOK, &got, "verify", "--archive", "file://"+dir, "--mode", mode)
		if !got.OK || len(got.Unread) != 0 {
			t.Errorf("%s: %+v", mode, got)
		}
	}
	manifests := objectsBelow(t, dir, "checkpoints")
	change(t, manifests[len(manifests)-1], func(b []byte) []byte { b[0] ^= 1; return b })
	for _, mode := range []string{"full", "streaming"} {
		c.document(pitr.ExitFaults, &got, "verify", "--archive", "file://"+dir, "--mode", mode)
		if got.OK || !got.Restore.Verified || !got.Contents.OK || len(got.Unread) != 1 || !strings.Contains(got.Unread[0], "checkpoints/") {
			t.Errorf("%s: %+v", mode, got)
		}
		if _, out, _ := c.run("verify", "--archive", "file://"+dir, "--mode", mode); !strings.Contains(out, "checkpoints/") || strings.Contains(out, "OK:") {
			t.Errorf("%s: it says %s", mode, out)
		}
	}
}
