package pitr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/scripts/oc-pitr/pitr"
	"originchain/shared/datadir"
	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
)

// TestListShowsEveryLine: the newest, and the one that it has left behind; of both the
// windows, to the microsecond, and every checkpoint.
func TestListShowsEveryLine(t *testing.T) {
	w, dir := folder(t, 25)
	var l restore.Listing
	c := &cli{t: t}
	c.document(pitr.ExitOK, &l, "list", "--archive", "file://"+dir)
	if len(l.Lines) != 2 || l.Lines[0].Epoch != 3 || !l.Lines[0].Newest || l.Lines[1].Epoch != 2 || l.Lines[1].Newest {
		t.Fatalf("lines %+v", l.Lines)
	}
	for _, line := range l.Lines {
		h := w.Lines[line.Epoch]
		if len(line.Windows) != 1 || len(line.Gaps) != 0 || line.Missing != "" {
			t.Fatalf("line of epoch %d: %+v", line.Epoch, line)
		}
		win := line.Windows[0]
		if win.From.LSN != 1 || win.Until.LSN != h.Last() || win.From.Time.UnixMicro() != h.At(1).Stamp || win.Until.Time.UnixMicro() != h.At(h.Last()).Stamp {
			t.Errorf("line of epoch %d: window %+v, it has %d frames", line.Epoch, win, h.Last())
		}
	}
	if len(l.Lines[0].Checkpoints) != 2 || len(l.Lines[1].Checkpoints) != 3 {
		t.Errorf("checkpoints %+v and %+v", l.Lines[0].Checkpoints, l.Lines[1].Checkpoints)
	}
	spoilLog(t, dir, os.Remove)
	c.document(pitr.ExitOK, &l, "list", "--archive", "file://"+dir, "--epoch", "1")
	line := l.Lines[0]
	if len(line.Gaps) != 1 || line.Gaps[0].From > 3 || line.Gaps[0].To < 10 || line.Gaps[0].Recorded || len(line.Windows) != 2 {
		t.Errorf("with objects removed: gaps %+v, windows %+v", line.Gaps, line.Windows)
	}
	_, out, _ := c.run("list", "--archive", "file://"+dir, "--epoch", "1")
	for _, want := range []string{"line of epoch 1", "GAP", "recoverable", "checkpoint"} {
		if !strings.Contains(out, want) {
			t.Errorf("the text lacks %q:\n%s", want, out)
		}
	}
}

// TestADryRunSaysWhatARestoreDoes, and writes nothing.
func TestADryRunSaysWhatARestoreDoes(t *testing.T) {
	w, dir := folder(t, 25)
	h := w.Lines[2]
	at := h.Last() - 2
	target := filepath.Join(t.TempDir(), "restored")
	args := []string{"restore", "--archive", "file://" + dir, "--data-dir", target, "--epoch", "2", "--target-lsn", fmt.Sprint(at)}
	var plan struct {
		DryRun     bool                     `json:"dry_run"`
		Target     restore.Point            `json:"target"`
		Checkpoint struct{ LSN lsn.LSN }    `json:"checkpoint"`
		Until      restore.Point            `json:"recoverable_until"`
		Segments   int                      `json:"segments"`
		Parts      int                      `json:"tail_parts"`
		Bytes      int64                    `json:"bytes"`
		Estimate   restore.Estimate         `json:"estimate"`
		Gaps       []struct{ From lsn.LSN } `json:"gaps"`
	}
	c := &cli{t: t}
	c.document(pitr.ExitOK, &plan, append(args, "--dry-run")...)
	if !plan.DryRun || plan.Target.LSN != at || plan.Target.Time.UnixMicro() != h.At(at).Stamp || plan.Checkpoint.LSN != w.Checkpoints[2][0] || plan.Until.LSN != h.Last() {
		t.Errorf("the plan is %+v", plan)
	}
	if plan.Estimate.FetchBytesPerSecond <= 0 || plan.Estimate.ReplayFramesPerSecond <= 0 || plan.Estimate.Seconds <= 0 {
		t.Errorf("the estimate is %+v", plan.Estimate)
	}
	if names, err := os.ReadDir(filepath.Dir(target)); err != nil || len(names) > 0 {
		t.Errorf("a dry run has left %v, %v", names, err)
	}
	var got restore.Result
	c.document(pitr.ExitOK, &got, args...)
	sameState(t, h, at, &got)
	if got.CheckpointLSN != plan.Checkpoint.LSN || got.Segments != plan.Segments+plan.Parts || got.BytesFetched < plan.Bytes/2 {
		t.Errorf("restored %+v, planned %+v", got, plan)
	}
}

// TestVerifyRestoresAndLooksAtEverything, and finds what is wrong.
func TestVerifyRestoresAndLooksAtEverything(t *testing.T) {
	w, dir := folder(t, 25)
	var got struct {
		OK       bool           `json:"ok"`
		Restore  restore.Result `json:"restore"`
		Contents struct {
			OK     bool                        `json:"ok"`
			State  struct{ Keys, Rows uint64 } `json:"state"`
			Faults []struct{ Check string }
		} `json:"contents"`
	}
	c := &cli{t: t}
	scratch := filepath.Join(t.TempDir(), "scratch")
	c.document(pitr.ExitFaults, &got, "verify", "--archive", "file://"+dir, "--data-dir", scratch)
	sameState(t, w.Lines[3], w.Lines[3].Last(), &got.Restore)
	// The workload has a table and no tenant's record, which a verification must see.
	if got.OK || got.Contents.State.Rows == 0 || len(got.Contents.Faults) == 0 || got.Contents.Faults[0].Check != "records" {
		t.Errorf("verified %+v", got)
	}
	if _, err := os.Stat(scratch); err == nil {
		t.Error("the scratch directory is still there")
	}
	for _, path := range objectsBelow(t, dir, "objects") {
		change(t, path, flip)
	}
	var failed struct{ Error string }
	c.document(pitr.ExitDamaged, &failed, "verify", "--archive", "file://"+dir)
}

// TestACopyWaitsToBeAccepted: with its archive at hand a copy opens read-only until the
// live epoch is named; then it goes on, and the writer before is fenced.
func TestACopyWaitsToBeAccepted(t *testing.T) {
	w, dir := folder(t, 15)
	target := filepath.Join(t.TempDir(), "restored")
	c := &cli{t: t}
	archive := "file://" + dir
	var got restore.Result
	c.document(pitr.ExitOK, &got, "restore", "--archive", archive, "--data-dir", target, "--latest", "--node-id", "node-r")
	_, err := openAt(vfs.Default, target, true)
	var waits *engine.NotAcceptedError
	if !errors.As(err, &waits) || waits.Restored.Base.LSN != got.LSN {
		t.Fatalf("opened with its archive: %v", err)
	}
	readOnly(t, target, w.Lines[3].At(got.LSN).Pos)
	var refused struct{ Error string }
	c.document(pitr.ExitLive, &refused, "accept", "--archive", archive, "--data-dir", target)
	c.document(pitr.ExitLive, &refused, "accept", "--archive", archive, "--data-dir", target, "--ends-epoch", "2")
	if !strings.Contains(refused.Error, "--ends-epoch 3") {
		t.Errorf("it says %q", refused.Error)
	}
	control := "file://" + filepath.Join(t.TempDir(), "control")
	var accepted struct {
		Epoch    lsn.Epoch `json:"epoch"`
		Ends     lsn.Epoch `json:"ends_epoch"`
		Instance string    `json:"instance_id"`
	}
	for range 2 { // again: it is accepted already
		c.document(pitr.ExitOK, &accepted, "accept", "--archive", archive, "--control", control, "--advertise", "http://127.0.0.1:7400", "--data-dir", target, "--ends-epoch", "3")
		if accepted.Epoch != 4 || accepted.Ends != 3 || accepted.Instance != got.Instance.String() {
			t.Errorf("accepted %+v", accepted)
		}
	}
	record, err := lease.OpenFile(vfs.Default, strings.TrimPrefix(control, "file://"))
	must(t, err)
	rec, ok, err := record.Load(t.Context())
	must(t, err)
	last := w.Lines[3].At(got.LSN).Pos
	if v := rec.MayOpen("node-r", last); !ok || v.Decision != lease.Open {
		t.Errorf("the record is %+v: %+v", rec, v)
	}
	e, err := openAt(vfs.Default, target, true)
	must(t, err)
	if e.Epoch() <= 4 || e.Visible().LSN != got.LSN+1 || e.Identity().InstanceID != got.Instance {
		t.Errorf("it goes on as %+v at %v", e.Identity(), e.Visible())
	}
	stopEngine(t, e)
}

func stopEngine(t testing.TB, e *engine.Engine) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	must(t, errors.Join(e.Run(ctx), e.Close()))
}

// readOnly opens a copy for reading.
func readOnly(t testing.TB, dir string, want lsn.Pos) {
	t.Helper()
	e, err := engine.OpenReader(engineConfig(dir, true), engineDeps(vfs.Default))
	must(t, err)
	if e.Visible() != want {
		t.Errorf("it shows %v, want %v", e.Visible(), want)
	}
	_, err = e.Commit(t.Context(), engine.Proposal{Tenant: tenant})
	var refused *fault.Error
	if !errors.As(err, &refused) || refused.Code != fault.ReadOnly || !strings.Contains(refused.Error(), "oc-pitr accept") {
		t.Errorf("a write: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	must(t, errors.Join(e.RunFollower(ctx), e.Close()))
}

// TestRestoreAcceptsWhereNothingIsLive: the archive alone cannot say so, and who knows it
// names the epoch. What is refused leaves nothing.
func TestRestoreAcceptsWhereNothingIsLive(t *testing.T) {
	_, dir := folder(t, 15)
	c := &cli{t: t}
	var refused struct{ Error string }
	target := filepath.Join(t.TempDir(), "a")
	args := []string{"restore", "--archive", "file://" + dir, "--data-dir", target, "--latest"}
	c.document(pitr.ExitUsage, &refused, append(args, "--ends-epoch", "3")...)
	args = append(args, "--accept")
	for _, more := range [][]string{nil, {"--dry-run"}, {"--ends-epoch", "2"}, {"--ends-epoch", "4"}} {
		c.document(pitr.ExitLive, &refused, append(args, more...)...)
		if !strings.Contains(refused.Error, "--ends-epoch 3") || !strings.Contains(refused.Error, "only the archive was looked at") {
			t.Errorf("%v: it says %q", more, refused.Error)
		}
		if left, err := os.ReadDir(filepath.Dir(target)); err != nil || len(left) > 0 {
			t.Errorf("%v: it left %v, %v", more, left, err)
		}
	}
	var got restore.Result
	c.document(pitr.ExitOK, &got, append(args, "--ends-epoch", "3")...)
	if got.AcceptedEpoch != 4 {
		t.Errorf("restored %+v", got)
	}
}

// TestRestoreAcceptsWhatTheRecordSays: an epoch that it holds is the one to name, and one
// that it has released need not be.
func TestRestoreAcceptsWhatTheRecordSays(t *testing.T) {
	_, dir := folder(t, 15)
	c := &cli{t: t}
	control := t.TempDir()
	record, err := lease.OpenFile(vfs.Default, control)
	must(t, err)
	plan, err := restore.MakePlan(t.Context(), object.NewFolder(dir), restore.Request{Latest: true})
	must(t, err)
	live, err := lease.Record{}.Take(lease.Candidate{Instance: plan.Instance.String(), Node: "alive", URL: "http://127.0.0.1:1", AtLeast: 8})
	must(t, err)
	live, err = record.CompareAndSet(t.Context(), 0, live)
	must(t, err)
	target := filepath.Join(t.TempDir(), "b")
	args := []string{"restore", "--archive", "file://" + dir, "--data-dir", target, "--latest", "--accept", "--control", "file://" + control, "--advertise", "http://127.0.0.1:2"}
	var refused struct{ Error string }
	c.document(pitr.ExitLive, &refused, append(args, "--ends-epoch", "3")...)
	if _, err := os.Stat(target); err == nil || !strings.Contains(refused.Error, "epoch 9 of node alive") || !strings.Contains(refused.Error, "--ends-epoch 9") {
		t.Errorf("it says %q, %v", refused.Error, err)
	}
	must(t, lease.NewHolder(record, live).Release(t.Context(), 0))
	var got restore.Result
	c.document(pitr.ExitOK, &got, args...)
	if got.AcceptedEpoch != 10 {
		t.Errorf("restored %+v", got)
	}
}

// TestAPausedCopyIsReadOnlyEverywhere, until it is told what it is.
func TestAPausedCopyIsReadOnlyEverywhere(t *testing.T) {
	w, dir := folder(t, 15)
	target := filepath.Join(t.TempDir(), "restored")
	c := &cli{t: t}
	var got restore.Result
	c.document(pitr.ExitOK, &got, "restore", "--archive", "file://"+dir, "--data-dir", target, "--latest", "--pause-at-target")
	if _, err := openAt(vfs.Default, target, false); !errors.As(err, new(*engine.NotAcceptedError)) {
		t.Fatalf("opened alone: %v", err)
	}
	readOnly(t, target, w.Lines[3].At(got.LSN).Pos)
	var made struct {
		Instance string  `json:"instance_id"`
		Parent   *string `json:"parent_id"`
	}
	c.document(pitr.ExitOK, &made, "accept", "--data-dir", target, "--new-instance")
	if made.Parent == nil || *made.Parent != got.Instance.String() || made.Instance == *made.Parent {
		t.Fatalf("made %+v", made)
	}
	e, err := openAt(vfs.Default, target, true)
	must(t, err)
	stopEngine(t, e)
	c.document(pitr.ExitNoCopy, &struct{}{}, "accept", "--data-dir", target, "--new-instance")
}

// TestASteppedClockIsNotGuessed: where stamps and the writer's clock are apart, a
// moment means two frames, and the operator says which.
func TestASteppedClockIsNotGuessed(t *testing.T) {
	dir := t.TempDir()
	var h History
	bubble(t, func(t *testing.T) {
		offset := time.Duration(0)
		n := Begin(t, simdisk.New(), object.NewFolder(dir), "data", 1, nil, func() time.Duration { return offset })
		n.Create()
		n.Write(10)
		offset = 20 * time.Second
		n.Write(10) // within the 60 s that a step has to hold for
		n.End()
		h = n.Lived
	})
	c := &cli{t: t}
	at := h.At(16)
	asked := time.UnixMicro(at.Stamp).UTC().Format(time.RFC3339Nano)
	target := filepath.Join(t.TempDir(), "restored")
	args := []string{"restore", "--archive", "file://" + dir, "--data-dir", target, "--target", asked}
	var doc struct {
		Error  string
		Detail restore.ClockError
	}
	c.document(pitr.ExitClock, &doc, args...)
	if d := doc.Detail; d.Stamp == nil || d.Stamp.LSN != 16 || d.Wall == nil || d.Wall.LSN >= 16 || d.Frame.Wall.Sub(d.Frame.Time) < time.Second {
		t.Fatalf("the candidates are %+v", doc)
	}
	var got restore.Result
	c.document(pitr.ExitOK, &got, append(args, "--clock", "stamp")...)
	sameState(t, h, 16, &got)
	args[4] = filepath.Join(t.TempDir(), "by-wall")
	c.document(pitr.ExitOK, &got, append(args, "--clock", "wall")...)
	sameState(t, h, doc.Detail.Wall.LSN, &got)
}

// TestTheCommandLine says what it can.
func TestTheCommandLine(t *testing.T) {
	c := &cli{t: t}
	for _, x := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--help"}, pitr.ExitOK, "70  another epoch may be live"},
		{[]string{"--version"}, pitr.ExitOK, "test"},
		{[]string{"restore", "--help"}, pitr.ExitOK, "--pause-at-target"},
		{[]string{"completion", "bash"}, pitr.ExitOK, "oc-pitr"},
		{[]string{}, pitr.ExitUsage, "name a command"},
		{[]string{"restore", "--latest", "--data-dir", "d"}, pitr.ExitUsage, "--archive"},
		{[]string{"restore", "--latest", "--data-dir", "d", "--archive", "ftp://x"}, pitr.ExitUsage, "file:///directory"},
		{[]string{"restore", "--nonsense"}, pitr.ExitUsage, "nonsense"},
		{[]string{"list", "extra"}, pitr.ExitUsage, "extra"},
		{[]string{"accept", "--data-dir", "d"}, pitr.ExitUsage, "--new-instance"},
		{[]string{"accept", "--data-dir", filepath.Join(t.TempDir(), "none"), "--new-instance"}, pitr.ExitNoCopy, "instance.json"},
	} {
		if code, out, errs := c.run(x.args...); code != x.code || !strings.Contains(out+errs, x.says) {
			t.Errorf("oc-pitr %v: exit code %d, want %d and %q:\n%s%s", x.args, code, x.code, x.says, out, errs)
		}
	}
}

// TestAStoppedRestoreGoesOn: by its signal, and with other arguments it is refused.
func TestAStoppedRestoreGoesOn(t *testing.T) {
	w, dir := folder(t, 25)
	target := filepath.Join(t.TempDir(), "restored")
	stopped, cancel := context.WithCancel(t.Context())
	_, err := restore.Run(stopped, restore.Options{
		Store: object.NewFolder(dir), Request: restore.Request{Latest: true}, FS: vfs.Default, DataDir: target,
		Begin: func(name, _ string, _ int64) (func(int64), func()) {
			if name == "replay" {
				cancel()
			}
			return func(int64) {}, func() {}
		},
	})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "run it again") {
		t.Fatalf("stopped: %v", err)
	}
	c := &cli{t: t}
	var refused struct{ Error string }
	c.document(pitr.ExitBusy, &refused, "restore", "--archive", "file://"+dir, "--data-dir", target, "--target-lsn", "4")
	var got restore.Result
	c.document(pitr.ExitOK, &got, "restore", "--archive", "file://"+dir, "--data-dir", target, "--latest")
	sameState(t, w.Lines[3], w.Lines[3].Last(), &got)
	if _, err := datadir.OpenExisting(vfs.Default, target); err != nil {
		t.Error(err)
	}
}
