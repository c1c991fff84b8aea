package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/shared/object"
)

const (
	// restoreBytes is how much state a checkpoint holds; changedEach is the step between
	// two rows that are changed before the second one; restoreLogBytes is written behind it.
	restoreBytes         = 1 << 30
	restoreBytesQuick    = 16 << 20
	changedEach          = 100
	restoreLogBytes      = 256 << 20
	restoreLogBytesQuick = 4 << 20
	// The server ships a first checkpoint by itself so long after its start.
	firstCheckpointWithin = 32 * time.Second

	secondLimit   = 5.0 // % of what the first has uploaded
	fetchShare    = 0.9 // of what the disk gives
	estimateLimit = 20.0
	memoryLimit   = 1024 // MiB
)

// corpus is what is restored: rows, and the changes to them.
type corpus struct{ base, log int } // rows

func (b *bench) corpus() corpus {
	return corpus{b.pick(restoreBytes, restoreBytesQuick) / documentBytes, b.pick(restoreLogBytes, restoreLogBytesQuick) / documentBytes}
}

func (c corpus) rows() *documentReader    { return newDocuments(0, c.base, 1, 0) }
func (c corpus) changes() *documentReader { return newDocuments(0, c.base/changedEach, changedEach, 1) }
func (c corpus) more() *documentReader    { return newDocuments(int64(c.base), c.log, 1, 0) }

// benchRestore ships two checkpoints and log, restores them, and has the peers restore
// the same rows.
func benchRestore(ctx context.Context, b *bench) (err error) {
	dir := filepath.Join(b.work, "restore-archive")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c := b.corpus()
	if err := b.fillArchive(ctx, dir, c); err != nil {
		return err
	}
	if err := b.restoreOwn(ctx, dir); err != nil {
		return err
	}
	return b.restorePeers(ctx, c)
}

// fillArchive makes the archive, and measures what its second checkpoint takes.
func (b *bench) fillArchive(ctx context.Context, dir string, c corpus) (err error) {
	began := time.Now()
	n, err := b.serve(ctx, "restore-source", "--archive", folderDepot(dir).url(""), "--tail-ship")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if err := n.client.Register(ctx, n.tenant, []byte(documentsManifest)); err != nil {
		return err
	}
	if err := n.stream(ctx, "bench.documents", c.rows(), c.base); err != nil {
		return err
	}
	pauseUntil(ctx, began.Add(b.period(firstCheckpointWithin)))
	if err := n.shipCheckpoint(ctx); err != nil {
		return err
	}
	first, err := n.metric(ctx, uploadedBytes("checkpoint"))
	if err != nil {
		return err
	}
	held, err := b.newestCheckpoint(ctx, dir)
	if err != nil {
		return err
	}
	if err := n.stream(ctx, "bench.documents", c.changes(), c.base/changedEach); err != nil {
		return err
	}
	if err := n.shipCheckpoint(ctx); err != nil {
		return err
	}
	second, err := n.metric(ctx, uploadedBytes("checkpoint"))
	if err != nil {
		return err
	}
	b.add(figure{
		Name: "second-checkpoint", Unit: "%", AtMost: true, Limit: secondLimit, Target: "≤ 5 % of the first", Measured: percent(second-first, held),
		What: fmt.Sprintf("bytes that a second checkpoint uploads after a write to each %dth of %s rows of 1 KiB", changedEach, number(float64(c.base))),
		Note: fmt.Sprintf("%s of %s bytes", number(second-first), number(held)),
	})
	if err := n.stream(ctx, "bench.documents", c.more(), c.log); err != nil {
		return err
	}
	if err := n.awaitMetric(ctx, unrecoverableAge, isZero); err != nil {
		return err
	}
	return n.stop()
}

// newestCheckpoint is how many bytes the newest checkpoint of an archive has.
func (b *bench) newestCheckpoint(ctx context.Context, dir string) (float64, error) {
	var listed struct {
		Lines []struct {
			Checkpoints []struct {
				Bytes float64 `json:"bytes"`
			} `json:"checkpoints"`
		} `json:"lines"`
	}
	if _, err := b.pitrJSON(ctx, nil, &listed, "list", "--archive", folderDepot(dir).url("")); err != nil {
		return 0, err
	}
	if len(listed.Lines) == 0 || len(listed.Lines[0].Checkpoints) == 0 {
		return 0, errors.New("the archive has no checkpoint")
	}
	all := listed.Lines[0].Checkpoints
	return all[len(all)-1].Bytes, nil
}

// percent is a share in percent.
func percent(part, of float64) float64 { return 100 * part / of }

// apart is by how much an estimate misses what came of it, in percent of that.
func apart(estimate, took float64) float64 { return percent(math.Abs(estimate-took), took) }

func (n *node) shipCheckpoint(ctx context.Context) error {
	admin := call.Client{URL: n.server.URL(), Token: n.admin}
	var made api.ShippedCheckpoint
	return admin.JSON(ctx, http.MethodPost, "/v1/admin/checkpoint", nil, &made)
}

// dryRun is what oc-pitr says of a restore before it is one.
type dryRun struct {
	CheckpointBytes int64 `json:"checkpoint_bytes"`
	LogBytes        int64 `json:"log_bytes"`
	Estimate        struct {
		Seconds float64 `json:"seconds"`
	} `json:"estimate"`
}

// restored is what oc-pitr says of a restore.
type restored struct {
	Verified bool    `json:"verified"`
	Seconds  float64 `json:"seconds"`
}

// restoreOwn restores with the program, for its time and memory, and in this process,
// for its phases.
func (b *bench) restoreOwn(ctx context.Context, dir string) (err error) {
	if err := b.probe(); err != nil {
		return err
	}
	archive, to := folderDepot(dir).url(""), filepath.Join(b.work, "restored")
	defer func() { err = errors.Join(err, os.RemoveAll(to)) }()
	var plan dryRun
	if _, err := b.pitrJSON(ctx, nil, &plan, "restore", "--archive", archive, "--latest", "--dry-run", "--data-dir", to); err != nil {
		return err
	}
	unix.Sync()
	var got restored
	r, err := b.pitrJSON(ctx, nil, &got, "restore", "--archive", archive, "--latest", "--data-dir", to)
	if err != nil {
		return err
	}
	if !got.Verified {
		return errors.New("the restore was not verified")
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	what := fmt.Sprintf("a checkpoint of %d MiB and %d MiB of log, rows of 1 KiB that do not compress, archive in a folder on the same disk", plan.CheckpointBytes>>20, plan.LogBytes>>20)
	b.add(figure{
		Name: "restore", Unit: "s", AtMost: true, Target: "-", Measured: r.took.Seconds(),
		What: "oc-pitr restore --latest, every key read back and held against the digest: " + what,
	})
	b.add(figure{
		Name: "restore-estimate", Unit: "%", AtMost: true, Limit: estimateLimit, Target: "≤ 20 % off", Measured: apart(plan.Estimate.Seconds, r.took.Seconds()),
		What: "what --dry-run says that it takes, against what it took", Note: fmt.Sprintf("%.2f s said, %.2f s taken", plan.Estimate.Seconds, r.took.Seconds()),
	})
	b.add(figure{
		Name: "restore-memory", Unit: "MiB", AtMost: true, Limit: memoryLimit, Target: "< 1024 MiB", Measured: float64(r.rss) / (1 << 20),
		What: "the most memory that the same restore had resident",
	})
	return b.fetch(ctx, dir, to)
}

// fetch compares the fetching of a checkpoint with dd, before and after.
func (b *bench) fetch(ctx context.Context, dir, to string) error {
	unix.Sync() // what was written before is not this figure's
	first, err := b.dd(ctx, filepath.Join(dir, "objects"))
	if err != nil {
		return err
	}
	unix.Sync()
	p, err := restoreInto(ctx, object.NewFolder(dir), to)
	if err != nil {
		return err
	}
	unix.Sync()
	second, err := b.dd(ctx, filepath.Join(dir, "objects"))
	if err != nil {
		return err
	}
	disk := (first + second) / 2
	own := megabytes(p.plan.CheckpointBytes, p.phases["checkpoint"])
	b.add(figure{
		Name: "restore-fetch", Unit: "× dd", Limit: fetchShare, Target: "≥ 0.9 of dd", Measured: own / disk,
		What: fmt.Sprintf("fetching of the checkpoint's %d MiB, each file verified and synced, against dd of the archive's objects into one file with one fsync, before and after", p.plan.CheckpointBytes>>20),
		Note: fmt.Sprintf("%s MB/s, dd %s MB/s before and %s after; phases of this restore: checkpoint %.2f s, replay %.2f s, scan %.2f s, in all %.2f s",
			number(own), number(first), number(second), p.phases["checkpoint"].Seconds(), p.phases["replay"].Seconds(), p.phases["scan"].Seconds(), p.result.Seconds),
	})
	return nil
}

// dd copies the files below a directory into one, syncs that, and returns the MB/s that
// it reached.
func (b *bench) dd(ctx context.Context, dir string) (rate float64, err error) {
	to := filepath.Join(b.work, "dd")
	defer func() { err = errors.Join(err, os.Remove(to)) }()
	var files []string
	var total int64
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		files, total = append(files, path), total+info.Size()
		return nil
	})
	if err != nil {
		return 0, err
	}
	start := time.Now()
	for i, f := range files {
		conv := "conv=notrunc"
		if i == len(files)-1 {
			conv += ",fsync"
		}
		cmd := exec.CommandContext(ctx, "dd", "if="+f, "of="+to, "bs=1M", "oflag=append", conv, "status=none")
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("dd: %w: %s", err, out)
		}
	}
	return megabytes(total, time.Since(start)), nil
}
