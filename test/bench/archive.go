package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"originchain/shared/aws/s3object/s3test/gateway"
)

const (
	// pitrWithin bounds one run of oc-pitr, archivePoll is the pause between two looks
	// at a node's metrics, archiveWithin bounds a wait for one.
	pitrWithin    = 5 * time.Minute
	archivePoll   = 20 * time.Millisecond
	archiveWithin = 2 * time.Minute
	// tailWindow is the server's default.
	tailWindow = 500 * time.Millisecond
)

// The server's metrics of its archive.
const (
	unrecoverableAge = "oc_recoverable_until_age_s"
	recoverableLSN   = "oc_recoverable_lsn"
	shippedLSN       = "oc_archive_shipped_lsn"
	tailState        = "oc_archive_tail_state"
	logBytes         = "oc_log_bytes"
)

// uploadedBytes is the server's count of bytes of objects of a kind.
func uploadedBytes(kind string) string {
	return `oc_archive_uploaded_bytes_total{kind="` + kind + `"}`
}

// depot is a place for archives.
type depot struct {
	name string
	// url is that of an archive of a name of its own.
	url func(name string) string
	env []string // of who goes there
}

// folderDepot has archives in a directory.
func folderDepot(dir string) depot {
	return depot{name: "a folder", url: func(name string) string {
		return (&url.URL{Scheme: "file", Path: filepath.Join(dir, name)}).String()
	}}
}

// startGateway runs an S3 on a directory, which stop removes.
func (b *bench) startGateway(ctx context.Context) (d depot, stop func() error, err error) {
	dir := filepath.Join(b.work, "s3")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return d, nil, err
	}
	endpoint, end, err := gateway.Start(exec.Command(b.self, "gateway", dir), dir)
	if err != nil {
		return d, nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop = func() error { return errors.Join(end(), os.RemoveAll(dir)) }
	bucket, err := gateway.MakeBucket(ctx, endpoint, true)
	if err != nil {
		return d, nil, errors.Join(err, stop())
	}
	d = depot{name: "versitygw", env: gateway.Environment(), url: func(name string) string { return gateway.URL(endpoint, bucket, name) }}
	return d, stop, nil
}

// ran is what a run of another program took.
type ran struct {
	out  []byte
	took time.Duration
	rss  int64 // bytes at the most, of the program itself
}

// runProgram runs a program to its end.
func runProgram(ctx context.Context, env []string, path string, args ...string) (r ran, err error) {
	ctx, cancel := context.WithTimeout(ctx, pitrWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var out, problem bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), &out, &problem
	if err := forgetPeak(); err != nil {
		return r, err
	}
	start := time.Now()
	err = cmd.Run()
	r.took, r.out = time.Since(start), out.Bytes()
	if err != nil {
		return r, fmt.Errorf("%s: %w: %s", filepath.Base(path), err, lastBytes(problem.Bytes()))
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.rss = usage.Maxrss << 10
	}
	return r, nil
}

// forgetPeak forgets the most memory that this process had resident. The kernel counts it
// to a program that is started from here, since that begins in this one's memory.
func forgetPeak() error {
	debug.FreeOSMemory()
	const resetPeak = "5" // proc(5), clear_refs
	if err := os.WriteFile("/proc/self/clear_refs", []byte(resetPeak), 0); err != nil {
		return fmt.Errorf("measure the memory of another program: %w", err)
	}
	return nil
}

// lastBytes is the end of what a program said.
func lastBytes(b []byte) []byte { return bytes.TrimSpace(b[max(0, len(b)-2048):]) }

// pitrJSON runs oc-pitr and reads the document that it prints.
func (b *bench) pitrJSON(ctx context.Context, env []string, document any, args ...string) (r ran, err error) {
	if r, err = runProgram(ctx, env, b.pitr, append(args, "--json")...); err != nil {
		return r, err
	}
	if err := json.Unmarshal(r.out, document); err != nil {
		return r, fmt.Errorf("what oc-pitr printed: %w", err)
	}
	return r, nil
}

// awaitMetric looks at a metric of a node until it is as it should be.
func (n *node) awaitMetric(ctx context.Context, name string, ready func(float64) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, archiveWithin, fmt.Errorf("not within %s", archiveWithin))
	defer cancel()
	for {
		v, err := n.metric(ctx, name)
		if err == nil && ready(v) {
			return nil
		}
		pauseUntil(ctx, time.Now().Add(archivePoll))
		if ctx.Err() != nil {
			return fmt.Errorf("wait for %s: %w (last %g, %w)", name, context.Cause(ctx), v, err)
		}
	}
}

// metrics are several metrics of a node.
func (n *node) metrics(ctx context.Context, names ...string) (out map[string]float64, err error) {
	out = make(map[string]float64, len(names))
	for _, name := range names {
		if out[name], err = n.metric(ctx, name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func isZero(v float64) bool { return v == 0 }

// objects counts the files below a directory, and their bytes.
func objects(dir string) (n int, bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		n++
		bytes += info.Size()
		return nil
	})
	return n, bytes, err
}
