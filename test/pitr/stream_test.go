package pitr

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"originchain/scripts/oc-pitr/pitr"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/objecttest"
	"originchain/shared/purge"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
	"originchain/shared/table"
	"originchain/shared/verification"
)

// streamPoints is how many random LSNs of each line are streamed.
const streamPoints = 8

// streamed verifies a point as verify --mode streaming does.
func streamed(t testing.TB, store object.Store, req restore.Request) (*restore.Streamed, *verification.Report) {
	t.Helper()
	s, err := restore.Stream(t.Context(), restore.StreamOptions{Store: store, Request: req, FS: vfs.NewMem(), Scratch: "scratch"})
	must(t, err)
	r, err := verification.RunView(t.Context(), verification.ViewOptions{View: s, At: s.At})
	must(t, errors.Join(err, s.Failed()))
	must(t, s.Close())
	return s, r
}

func hasFault(r *verification.Report, check string) bool {
	return slices.ContainsFunc(r.Faults, func(f verification.Fault) bool { return f.Check == check })
}

// TestEveryPointOfEveryLineIsStreamed: with and without a checkpoint, a state that is
// read where it is has the pairs and the digest that a restored one has.
func TestEveryPointOfEveryLineIsStreamed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 40)
		rng := rand.New(rand.NewPCG(5, 2))
		based := 0
		for epoch, h := range w.Lines {
			points := append([]lsn.LSN{h.Last(), 1, 2}, w.Checkpoints[epoch]...)
			for range streamPoints {
				points = append(points, 1+lsn.LSN(rng.Int64N(int64(h.Last()))))
			}
			for _, at := range points {
				s, r := streamed(t, w.Store, restore.Request{Epoch: epoch, LSN: at})
				if s.At != h.At(at) || !r.Complete || hasFault(r, verification.CheckDigest) || hasFault(r, verification.CheckIndexes) || hasFault(r, verification.CheckCounters) {
					t.Fatalf("epoch %d, LSN %d: streamed %+v, the line had %+v; %+v", epoch, at, s.At, h.At(at), r)
				}
				got, err := restore.Run(t.Context(), options(w.Store, simdisk.New(), restore.Request{Epoch: epoch, LSN: at}))
				must(t, err)
				if res := s.Result(time.Now()); r.State.Keys != got.Keys || res.CheckpointLSN != got.CheckpointLSN || res.Digest != got.Digest {
					t.Fatalf("epoch %d, LSN %d: streamed %+v with %d keys, restored %+v", epoch, at, res, r.State.Keys, got)
				}
				if got.CheckpointLSN > 0 {
					based++
				}
			}
		}
		if based == 0 {
			t.Error("no point had a checkpoint")
		}
	})
}

// TestAStreamedStateThatAPurgeHasLeft has what a restored one has.
func TestAStreamedStateThatAPurgeHasLeft(t *testing.T) {
	dir := t.TempDir()
	var w *Workload
	bubble(t, func(t *testing.T) { w = Subjects(t, object.NewFolder(dir)) })
	c := &cli{t: t}
	args := []string{"purge", "--archive", "file://" + dir, "--tenant", tenant.String(), "--schema", "shop.items", "--pk", "1000"}
	var plan purge.Plan
	c.document(pitr.ExitOK, &plan, append(slices.Clone(args), "--dry-run")...)
	var done struct{}
	c.document(pitr.ExitOK, &done, append(slices.Clone(args), "--confirm", plan.ID, "--actor", "jane", "--audit-log", filepath.Join(t.TempDir(), "audit.log"), "--reason", "asked for")...)
	purged := 0
	for epoch, h := range w.Lines {
		for at := h.Last(); at > 0 && at+30 > h.Last(); at -= 3 {
			req := restore.Request{Epoch: epoch, LSN: at}
			s, r := streamed(t, object.NewFolder(dir), req)
			got, err := restore.Run(t.Context(), options(object.NewFolder(dir), vfs.NewMem(), req))
			must(t, err)
			if s.At.Digest != got.Digest || r.State.Keys != got.Keys || hasFault(r, verification.CheckDigest) || hasFault(r, verification.CheckCounters) || s.Result(time.Now()).Purged != got.Purged {
				t.Fatalf("epoch %d, LSN %d: streamed %+v, %+v; restored %+v", epoch, at, s.At, r, got)
			}
			if got.Purged {
				purged++
			}
		}
	}
	if purged == 0 {
		t.Error("no state was one that a purge has left")
	}
}

// streamDocument is what verify says.
type streamDocument struct {
	OK       bool                 `json:"ok"`
	Mode     string               `json:"mode"`
	Restore  *restore.Result      `json:"restore"`
	Contents *verification.Report `json:"contents"`
	Scratch  int64                `json:"scratch_bytes"`
	Error    string               `json:"error"`
}

// TestBothModesFindTheSame, and leave nothing.
func TestBothModesFindTheSame(t *testing.T) {
	w, dir := folder(t, 25)
	c := &cli{t: t}
	scratch := filepath.Join(t.TempDir(), "scratch")
	args := []string{"verify", "--archive", "file://" + dir, "--data-dir", scratch}
	var full, stream streamDocument
	// The workload has a table and no tenant's record, which either must see.
	c.document(pitr.ExitFaults, &full, append(slices.Clone(args), "--mode", "full")...)
	c.document(pitr.ExitFaults, &stream, append(slices.Clone(args), "--mode", "streaming")...)
	sameState(t, w.Lines[3], w.Lines[3].Last(), stream.Restore)
	if stream.OK || stream.Mode != "streaming" || full.Mode != "full" || stream.Scratch == 0 {
		t.Errorf("streaming %+v, full %+v", stream, full)
	}
	if diff := cmp.Diff(full.Contents.State, stream.Contents.State); diff != "" {
		t.Errorf("the state in full (-), streaming (+):\n%s", diff)
	}
	if diff := cmp.Diff(full.Contents.Faults, stream.Contents.Faults); diff != "" {
		t.Errorf("faults in full (-), streaming (+):\n%s", diff)
	}
	if _, err := os.Stat(scratch); err == nil {
		t.Error("the scratch directory is still there")
	}
}

// TestAStreamingVerificationIsNeverGreenInPart: what bounds it, ends it, damages what it
// reads or is not what the log makes.
func TestAStreamingVerificationIsNeverGreenInPart(t *testing.T) {
	_, dir := folder(t, 25)
	c := &cli{t: t}
	verify := func(code int, archive string, more ...string) streamDocument {
		t.Helper()
		scratch := filepath.Join(t.TempDir(), "scratch")
		var doc streamDocument
		c.document(code, &doc, append([]string{"verify", "--mode", "streaming", "--archive", archive, "--data-dir", scratch}, more...)...)
		if _, err := os.Stat(scratch); err == nil || doc.OK || doc.Restore != nil && doc.Restore.Verified && code != pitr.ExitFaults {
			t.Errorf("exit code %d: %+v, %v", code, doc, err)
		}
		return doc
	}
	if doc := verify(pitr.ExitScratch, "file://"+dir, "--scratch-bytes", "1"); doc.Contents != nil || doc.Error == "" {
		t.Errorf("with too little scratch it says %+v", doc)
	}
	verify(pitr.ExitUsage, "file://"+dir, "--keep")
	verify(pitr.ExitFuture, "file://"+dir, "--target", "2999-01-01T00:00:00Z")
	for _, path := range objectsBelow(t, dir, "objects") {
		change(t, path, flip)
	}
	verify(pitr.ExitDamaged, "file://"+dir)
	for _, path := range objectsBelow(t, dir, "objects") {
		must(t, os.Remove(path))
	}
	verify(pitr.ExitMissing, "file://"+dir)
}

// TestAStoreThatEndsAStream: denied at each call in turn, a verification is an error,
// and never a state with faults or without.
func TestAStoreThatEndsAStream(t *testing.T) {
	memory := object.NewMemory("archive")
	bubble(t, func(t *testing.T) { Record(t, memory, 20) })
	late := false
	for at := 1; ; at++ {
		store := objecttest.NewFaulty(memory, 1)
		var calls atomic.Int64
		store.SetHook(objecttest.Hook{Before: func(context.Context, objecttest.Call) error {
			if calls.Add(1) >= int64(at) {
				return object.ErrDenied
			}
			return nil
		}})
		s, err := restore.Stream(t.Context(), restore.StreamOptions{Store: store, Request: restore.Request{Latest: true}, FS: vfs.NewMem(), Scratch: "scratch"})
		if err != nil {
			if !errors.Is(err, object.ErrDenied) {
				t.Fatalf("call %d: %v", at, err)
			}
			continue
		}
		_, err = verification.RunView(t.Context(), verification.ViewOptions{View: s, At: s.At})
		failed := s.Failed()
		must(t, errors.Join(err, s.Close()))
		if failed == nil {
			break
		}
		if !errors.Is(failed, object.ErrDenied) {
			t.Fatalf("call %d: %v", at, failed)
		}
		late = true
	}
	if !late {
		t.Error("no call failed while the state was read: nothing was tested")
	}
}

// TestAWrongStateIsNotStreamedAsSound: a checkpoint whose files are as its manifest
// says, and whose pairs are not what the log makes.
func TestAWrongStateIsNotStreamedAsSound(t *testing.T) {
	dir := t.TempDir()
	bubble(t, func(t *testing.T) {
		disk := simdisk.New()
		n := Begin(t, disk, object.NewFolder(dir), "data", 1, nil, Straight)
		n.Create()
		n.Write(10)
		n.checkpoint(func(copied string) { stray(t, disk, copied) })
		n.Write(10)
		n.End()
	})
	var doc streamDocument
	(&cli{t: t}).document(pitr.ExitFaults, &doc, "verify", "--mode", "streaming", "--archive", "file://"+dir)
	if doc.OK || doc.Restore.Verified || !hasFault(doc.Contents, verification.CheckDigest) {
		t.Errorf("verified %+v", doc)
	}
}

// stray puts a pair into a copy of the state behind the log's back.
func stray(t testing.TB, fs vfs.FS, dir string) {
	t.Helper()
	s, err := table.Open(table.Options{FS: fs, Dir: dir, Log: quiet()})
	must(t, err)
	at, err := s.Applied()
	must(t, err)
	b := s.NewBatch()
	must(t, b.Add(&frame.Op{Type: frame.Put, Key: table.RecordKey(tenant, table.SpaceIdem, []byte("stray")), Value: []byte("stray")}))
	must(t, errors.Join(b.Commit(at), b.Close(), s.Flush(), s.Close()))
}
