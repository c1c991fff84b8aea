package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"originchain/test/bench/load"
)

// fsyncs sums up how long syncs took.
type fsyncs struct {
	N    int           `json:"n"`
	Mean time.Duration `json:"mean_ns"`
	P50  time.Duration `json:"p50_ns"`
	P99  time.Duration `json:"p99_ns"`
}

func sumFsyncs(took []time.Duration) fsyncs {
	if len(took) == 0 {
		return fsyncs{}
	}
	slices.Sort(took)
	var total time.Duration
	for _, d := range took {
		total += d
	}
	return fsyncs{
		N: len(took), Mean: (total / time.Duration(len(took))).Round(time.Microsecond),
		P50: load.Quantile(took, 0.5).Round(time.Microsecond), P99: load.Quantile(took, 0.99).Round(time.Microsecond),
	}
}

const (
	probeBlock = 4 << 10
	probeFile  = 4 << 20
)

// probeFsync overwrites 4 KiB blocks of a preallocated, zeroed file, one
// fdatasync each: what a commit costs on this disk at the least.
func probeFsync(dir string, n int) (sum fsyncs, err error) {
	path := filepath.Join(dir, "fsync-probe")
	f, err := os.Create(path)
	if err != nil {
		return fsyncs{}, fmt.Errorf("probe the disk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
	if _, err := f.Write(make([]byte, probeFile)); err != nil {
		return fsyncs{}, fmt.Errorf("probe the disk: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fsyncs{}, fmt.Errorf("probe the disk: %w", err)
	}
	block := make([]byte, probeBlock)
	took := make([]time.Duration, n)
	for i := range took {
		block[0] = byte(i)
		start := time.Now()
		if _, err := f.WriteAt(block, int64(i)*probeBlock%probeFile); err != nil {
			return fsyncs{}, fmt.Errorf("probe the disk: %w", err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return fsyncs{}, fmt.Errorf("probe the disk: %w", err)
		}
		took[i] = time.Since(start)
	}
	return sumFsyncs(took), nil
}
