package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"originchain/shared/api"
	"originchain/shared/wal"
)

const (
	// copyBytes is how much log, and so about how much state, is copied.
	copyBytes      = 1300 << 20 // the log has about three quarters of it
	copyBytesQuick = 24 << 20
	// documentBytes is the size of a row; its text does not compress.
	documentBytes = 1 << 10
	// catchUpLimit is in MB/s.
	catchUpLimit = 100
	// bootstrapShare of what the disk writes must be reached.
	bootstrapShare = 0.7
	// trimBytes is the size of segments that are filled to have the log trimmed.
	trimBytes = 1 << 20
	// writeBytes is one write of the plain writing that copies are compared with.
	writeBytes = 1 << 20
)

const documentsManifest = `namespace = "bench"
table = "documents"
primary_key = ["id"]

[[columns]]
name = "id"
ty = "i64"
required = true

[[columns]]
name = "text"
ty = "str"
required = true
`

// copyInstance is the instance whose log is looked into.
var copyInstance = ulid.MustParse("01J00000000000000000000001")

// benchCopy measures a follower that was away, then one that begins with nothing.
func benchCopy(ctx context.Context, b *bench) (err error) {
	p, err := b.servePair(ctx, "copy", documentsManifest, "--instance-id", copyInstance.String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := await(ctx, p.writer, attached); err != nil {
		return err
	}
	if err := b.catchUp(ctx, p); err != nil {
		return fmt.Errorf("catch up: %w", err)
	}
	return b.bootstrap(ctx, p)
}

// catchUp stops the follower, fills the log and starts the follower again.
func (b *bench) catchUp(ctx context.Context, p *pair) error {
	if err := p.follower.stop(); err != nil {
		return err
	}
	before, err := p.writer.logBytes()
	if err != nil {
		return err
	}
	if err := b.fillDocuments(ctx, p.writer, b.pick(copyBytes, copyBytesQuick)); err != nil {
		return err
	}
	after, err := p.writer.logBytes()
	if err != nil {
		return err
	}
	w, err := p.writer.replication(ctx)
	if err != nil {
		return err
	}
	if err := b.probe(); err != nil {
		return err
	}
	logged := after - before
	unix.Sync() // what was written before is not this figure's
	plain, err := b.writePlain(sizes(logged, wal.DefaultSegmentBytes), unix.Fdatasync)
	if err != nil {
		return err
	}
	unix.Sync()
	start := time.Now()
	if err := p.startFollower(ctx); err != nil {
		return err
	}
	if err := await(ctx, p.follower, func(r *api.Replication) bool { return r.DurableLSN >= w.DurableLSN }); err != nil {
		return err
	}
	took := time.Since(start)
	applied := func(r *api.Replication) bool { return r.AppliedLSN >= w.DurableLSN }
	if err := await(ctx, p.follower, applied); err != nil {
		return err
	}
	b.add(figure{
		Name: "catch-up", Unit: "MB/s", Limit: catchUpLimit, Target: "≥ 100 MB/s", Measured: megabytes(logged, took),
		What: fmt.Sprintf("%d MiB of log, rows of 1 KiB that do not compress, from the start of a follower that was away until its durable_lsn is the writer's", logged>>20),
		Note: fmt.Sprintf("%.2f s, applied after %.2f s; the disk writes and syncs as many bytes at %s MB/s", took.Seconds(), time.Since(start).Seconds(), number(megabytes(logged, plain))),
	})
	return nil
}

// bootstrap takes the log away that a follower without anything would begin
// with, and starts one.
func (b *bench) bootstrap(ctx context.Context, p *pair) error {
	if err := errors.Join(p.follower.stop(), os.RemoveAll(p.follower.dir)); err != nil {
		return err
	}
	always := func(*api.Replication) bool { return true }
	if err := p.restartWriter(ctx, always, "--follower-retain-bytes", "1", "--segment-bytes", strconv.Itoa(trimBytes)); err != nil {
		return err
	}
	// Each roll makes a checkpoint, and two of them let go of the log before.
	if err := b.fillDocuments(ctx, p.writer, 8*trimBytes); err != nil {
		return err
	}
	if err := b.awaitTrim(ctx, p.writer); err != nil {
		return err
	}
	w, err := p.writer.replication(ctx)
	if err != nil {
		return err
	}
	if err := b.probe(); err != nil {
		return err
	}
	expected, err := fileSizes(filepath.Join(p.writer.dir, "state"), math.MaxInt64)
	if err != nil {
		return err
	}
	// The disk is measured before and after: it is faster for some seconds than
	// for others.
	before, err := b.writePlain(expected, unix.Fsync)
	if err != nil {
		return err
	}
	unix.Sync()
	start := time.Now()
	if err := p.startFollower(ctx); err != nil {
		return err
	}
	caught := func(r *api.Replication) bool { return r.AppliedLSN >= w.DurableLSN }
	if err := await(ctx, p.follower, caught); err != nil {
		return err
	}
	took := time.Since(start)
	total, err := p.follower.metric(ctx, "oc_replication_bootstrap_total_bytes")
	if err != nil {
		return err
	}
	if total == 0 {
		return errors.New("the follower took no checkpoint")
	}
	files, err := fileSizes(filepath.Join(p.follower.dir, "state"), int64(total))
	if err != nil {
		return err
	}
	unix.Sync()
	after, err := b.writePlain(files, unix.Fsync)
	if err != nil {
		return err
	}
	first, second, got := megabytes(sum(expected), before), megabytes(int64(total), after), megabytes(int64(total), took)
	disk := (first + second) / 2
	b.add(figure{
		Name: "bootstrap", Unit: "MB/s", Limit: bootstrapShare * disk, Measured: got,
		Target: fmt.Sprintf("≥ 0.7 × the disk's %s MB/s = %s MB/s", number(disk), number(bootstrapShare*disk)),
		What:   fmt.Sprintf("%d MiB of state to a follower with an empty directory, from the start of its process until it serves what the writer does; the disk writes and syncs the same bytes in %d files", int64(total)>>20, len(files)),
		Note:   fmt.Sprintf("%.2f s; the disk at %s MB/s before and %s MB/s after", took.Seconds(), number(first), number(second)),
	})
	return nil
}

// awaitTrim waits until the log no longer begins with its first frame.
func (b *bench) awaitTrim(ctx context.Context, n *node) error {
	first := filepath.Join(n.dir, "log", fmt.Sprintf("%016x.log", 1))
	for range 400 {
		if _, err := os.Stat(first); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		pauseUntil(ctx, time.Now().Add(pairPoll*5))
	}
	return errors.New("the writer kept its whole log, so that no checkpoint is needed")
}

// fillDocuments streams rows until about so many bytes are in the log.
func (b *bench) fillDocuments(ctx context.Context, n *node, size int) error {
	g, gctx := errgroup.WithContext(ctx)
	for range batchStreams {
		part := size / documentBytes / batchStreams
		n.nextID += int64(part)
		body := newDocuments(n.nextID-int64(part), part, 1, 0)
		g.Go(func() error { return n.stream(gctx, "bench.documents", body, part) })
	}
	return g.Wait()
}

// documentReader makes rows of random text as they are read.
type documentReader struct {
	id   int64
	left int
	// step is between two ids; 0 is 1.
	step int64
	rng  *rand.ChaCha8
	raw  [3 * documentBytes / 4]byte
	line bytes.Buffer
}

// newDocuments makes so many rows behind an id, the same each time.
func newDocuments(behind int64, rows int, step int64, salt byte) *documentReader {
	seed := [32]byte{byte(behind), byte(behind >> 8), byte(behind >> 16), byte(behind >> 24), salt}
	return &documentReader{id: behind, left: rows, step: step, rng: rand.NewChaCha8(seed)}
}

// row makes the next row; false at the end.
func (r *documentReader) row() (id int64, text string, ok bool) {
	if r.left == 0 {
		return 0, "", false
	}
	r.left--
	r.id += max(r.step, 1)
	_, _ = r.rng.Read(r.raw[:]) // never fails
	return r.id, base64.StdEncoding.EncodeToString(r.raw[:]), true
}

// Read implements io.Reader.
func (r *documentReader) Read(p []byte) (int, error) {
	if r.line.Len() == 0 {
		id, text, ok := r.row()
		if !ok {
			return 0, io.EOF
		}
		r.line.Reset()
		r.line.WriteString(`{"id":` + strconv.FormatInt(id, 10) + `,"text":"`)
		r.line.WriteString(text)
		r.line.WriteString("\"}\n")
	}
	return r.line.Read(p)
}

// logBytes is how many bytes of frames the log has; the node is at rest.
func (n *node) logBytes() (total int64, err error) {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	log, err := wal.Open(wal.Options{FS: vfs.Default, Dir: filepath.Join(n.dir, "log"), Instance: [16]byte(copyInstance), ReadOnly: true, Log: quiet})
	if err != nil {
		return 0, err
	}
	for _, s := range log.Segments() {
		total += s.Bytes
	}
	return total, log.Close()
}

func megabytes(n int64, took time.Duration) float64 { return float64(n) / 1e6 / took.Seconds() }

// sizes splits a total into files of one size and a rest.
func sizes(total, each int64) (out []int64) {
	for ; total > each; total -= each {
		out = append(out, each)
	}
	return append(out, total)
}

// fileSizes lists the files of a directory, as far as they are a part of total:
// what came as a checkpoint.
func fileSizes(dir string, total int64) (out []int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		if n := min(info.Size(), total); n > 0 {
			out = append(out, n)
			total -= n
		}
	}
	return out, nil
}

func sum(files []int64) (total int64) {
	for _, n := range files {
		total += n
	}
	return total
}

// writePlain writes files of these sizes one after the other, and syncs each.
func (b *bench) writePlain(files []int64, sync func(int) error) (took time.Duration, err error) {
	block := make([]byte, writeBytes)
	_, _ = rand.NewChaCha8([32]byte{}).Read(block) // never fails
	dir := filepath.Join(b.work, "plain")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	start := time.Now()
	for i, size := range files {
		f, err := os.Create(filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			return 0, err
		}
		for left := size; left > 0 && err == nil; left -= writeBytes {
			_, err = f.Write(block[:min(left, writeBytes)])
		}
		if err == nil {
			err = sync(int(f.Fd()))
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}
