package pitr

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/scripts/oc-pitr/pitr"
	"originchain/shared/archive"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
)

// newest gives the newest checkpoint of the line of epoch 3, and its files that no other
// one has.
func newest(t testing.TB, store object.Store) (c archive.Checkpoint, others []archive.Checkpoint, files []string) {
	t.Helper()
	a := archive.New(store)
	s, err := a.Survey(t.Context())
	must(t, err)
	line, _ := s.Line(3)
	n := len(line.Checkpoints) - 1
	c, others = line.Checkpoints[n], line.Checkpoints[:n]
	shared := map[string]bool{}
	for i := range others {
		m, err := a.Manifest(t.Context(), others[i].Key())
		must(t, err)
		for j := range m.Files {
			shared[m.Files[j].Key().String()] = true
		}
	}
	m, err := a.Manifest(t.Context(), c.Key())
	must(t, err)
	for i := range m.Files {
		if k := m.Files[i].Key().String(); !shared[k] {
			files = append(files, k)
		}
	}
	if len(files) == 0 || len(others) == 0 {
		t.Fatalf("%d files are the newest checkpoint's own, and %d others are there: nothing is tested", len(files), len(others))
	}
	return c, others, files
}

// ways to spoil an object; nil removes it.
func spoilings() map[string]func([]byte) []byte {
	return map[string]func([]byte) []byte{
		"cut":     cut,
		"flipped": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"missing": nil,
	}
}

func spoiltOrGone(t testing.TB, store object.Store, names []string, how func([]byte) []byte) object.Store {
	t.Helper()
	if how != nil {
		return spoilt(t, store, names, how)
	}
	out := spoilt(t, store, nil, nil)
	must(t, out.Delete(t.Context(), names...))
	return out
}

// TestADamagedCheckpointIsLeftByNameAlone: what its files are is told, no other one is
// taken in silence, and each that is named gives the same state, also in the directory
// where the first try ended.
func TestADamagedCheckpointIsLeftByNameAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 25)
		h := w.Lines[3]
		c, others, files := newest(t, w.Store)
		for name, how := range spoilings() {
			for _, file := range []string{files[0], files[len(files)-1]} {
				store := spoiltOrGone(t, w.Store, []string{file}, how)
				disk := simdisk.New()
				req := restore.Request{Latest: true}
				_, err := restore.Run(t.Context(), options(store, disk, req))
				var begin *restore.BeginError
				if !errors.As(err, &begin) || begin.LSN != c.LSN || !errors.As(err, new(*archive.DamagedError)) && !errors.As(err, new(*archive.MissingError)) {
					t.Fatalf("%s %s: %v", file, name, err)
				}
				var want []restore.Begin
				for _, o := range slices.Backward(others) {
					want = append(want, restore.Begin{LSN: o.LSN, Epoch: o.Epoch})
				}
				want = append(want, restore.Begin{})
				if diff := cmp.Diff(want, begin.Begins); diff != "" {
					t.Errorf("%s %s: places to begin at (-want +got):\n%s", file, name, diff)
				}
				_, err = restore.Stream(t.Context(), restore.StreamOptions{Store: store, Request: req, FS: simdisk.New(), Scratch: "/scratch"})
				if !errors.As(err, &begin) {
					t.Errorf("%s %s: a stream: %v", file, name, err)
				}
				// The same directory, then a new one for each.
				for i, at := range begin.Begins {
					o := options(store, disk, restore.Request{Latest: true, Checkpoint: &at.LSN})
					got, err := restore.Run(t.Context(), o)
					if err != nil {
						t.Fatalf("%s %s: from LSN %d: %v", file, name, at.LSN, err)
					}
					if sameState(t, h, h.Last(), got); got.CheckpointLSN != at.LSN {
						t.Errorf("%s %s: from LSN %d: the result says %d", file, name, at.LSN, got.CheckpointLSN)
					}
					if disk = simdisk.New(); i == len(begin.Begins)-1 {
						break
					}
				}
			}
		}
	})
}

// TestANamedCheckpointIsOne: what leads nowhere, or is none, is refused, with those that
// are; and an unreadable manifest is told in the plan and in the result.
func TestANamedCheckpointIsOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 25)
		h := w.Lines[3]
		c, others, _ := newest(t, w.Store)
		older := others[len(others)-1]
		for _, x := range []struct{ checkpoint, target lsn.LSN }{{c.LSN - 1, h.Last()}, {c.LSN + 1, h.Last()}, {h.Last() + 9, h.Last()}, {c.LSN, c.LSN - 1}} {
			_, err := restore.MakePlan(t.Context(), w.Store, restore.Request{LSN: x.target, Checkpoint: &x.checkpoint})
			var refused *restore.CheckpointError
			if !errors.As(err, &refused) || refused.Named != x.checkpoint || !strings.Contains(err.Error(), fmt.Sprintf("--checkpoint %d", older.LSN)) {
				t.Errorf("checkpoint %d for LSN %d: %v", x.checkpoint, x.target, err)
			}
		}
		manifest := c.Key().String()
		// Its head is read with the archive, so the plan knows.
		store := spoilt(t, w.Store, []string{manifest}, func(b []byte) []byte { b[0] ^= 1; return b })
		got, err := restore.Run(t.Context(), options(store, simdisk.New(), restore.Request{Latest: true}))
		must(t, err)
		sameState(t, h, h.Last(), got)
		if got.CheckpointLSN != older.LSN || len(got.Unread) != 1 || !strings.Contains(got.Unread[0], manifest) {
			t.Errorf("from LSN %d, told: %v", got.CheckpointLSN, got.Unread)
		}
		_, err = restore.MakePlan(t.Context(), store, restore.Request{Latest: true, Checkpoint: &c.LSN})
		if !errors.As(err, new(*restore.CheckpointError)) {
			t.Errorf("named all the same: %v", err)
		}
		// The rest of it is read when its files are to be fetched.
		store = spoilt(t, w.Store, []string{manifest}, cut)
		disk := simdisk.New()
		_, err = restore.Run(t.Context(), options(store, disk, restore.Request{Latest: true}))
		if !errors.As(err, new(*restore.BeginError)) || !errors.As(err, new(*archive.DamagedError)) {
			t.Errorf("cut: %v", err)
		}
		got, err = restore.Run(t.Context(), options(store, disk, restore.Request{Latest: true, Checkpoint: &older.LSN}))
		must(t, err)
		if sameState(t, h, h.Last(), got); got.CheckpointLSN != older.LSN {
			t.Errorf("from LSN %d", got.CheckpointLSN)
		}
	})
}

// TestAnotherCheckpointOverrulesWhatWasBegun: a restore that was killed while it replayed
// begins anew where it is told to, and goes on there without being told again.
func TestAnotherCheckpointOverrulesWhatWasBegun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 25)
		h := w.Lines[3]
		_, others, _ := newest(t, w.Store)
		for _, at := range []lsn.LSN{0, others[0].LSN} {
			o := options(w.Store, nil, restore.Request{Latest: true})
			disk := killedAt(t, o, delivers)
			o.FS, o.Request.Checkpoint = disk, &at
			got, err := restore.Run(t.Context(), o)
			must(t, err)
			if sameState(t, h, h.Last(), got); got.CheckpointLSN != at || got.BytesFetched == 0 {
				t.Errorf("from LSN %d with %d bytes fetched, named was %d", got.CheckpointLSN, got.BytesFetched, at)
			}
			disk = killedAt(t, o, delivers)
			o.FS, o.Request.Checkpoint = disk, nil
			got, err = restore.Run(t.Context(), o)
			must(t, err)
			if sameState(t, h, h.Last(), got); got.CheckpointLSN != at {
				t.Errorf("it went on from LSN %d, begun was %d", got.CheckpointLSN, at)
			}
		}
	})
}

// TestTheCommandNamesTheCheckpoints with its exit code, in the text and in the document.
func TestTheCommandNamesTheCheckpoints(t *testing.T) {
	_, dir := folder(t, 25)
	c, others, files := newest(t, object.NewFolder(dir))
	older := others[len(others)-1].LSN
	change(t, dir+"/"+files[0], cut)
	at := "file://" + dir
	cl := &cli{t: t}
	var failed struct {
		Detail struct {
			Checkpoint  lsn.LSN `json:"checkpoint_lsn"`
			Checkpoints []restore.Begin
		}
	}
	to := t.TempDir() + "/restored"
	cl.document(pitr.ExitDamaged, &failed, "restore", "--archive", at, "--data-dir", to, "--latest")
	if failed.Detail.Checkpoint != c.LSN || len(failed.Detail.Checkpoints) != len(others)+1 {
		t.Errorf("%+v", failed.Detail)
	}
	for _, wrong := range []string{"x", "-1"} {
		if code, _, _ := cl.run("restore", "--archive", at, "--data-dir", to, "--latest", "--checkpoint", wrong); code != pitr.ExitUsage {
			t.Errorf("--checkpoint %s: exit code %d", wrong, code)
		}
	}
	cl.document(pitr.ExitNoBegin, &failed, "restore", "--archive", at, "--data-dir", to, "--latest", "--checkpoint", fmt.Sprint(older+1))
	var got restore.Result
	cl.document(pitr.ExitOK, &got, "restore", "--archive", at, "--data-dir", to, "--latest", "--checkpoint", fmt.Sprint(older))
	if got.CheckpointLSN != older || !got.Verified {
		t.Errorf("%+v", got)
	}
}
