package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// group is a set of figures that are measured together.
type group struct {
	name string
	run  func(context.Context, *bench) error
}

// groups lists the benchmarks in the order they run.
func groups() []group {
	return []group{
		{"commit", benchCommit},
		{"http", benchHTTP},
		{"batch", benchBatch},
		{"recovery", benchRecovery},
		{"reads", benchReads},
		{"replication-lag", benchLag},
		{"replication-sync", benchSync},
		{"replication-copy", benchCopy},
		{"archive-loss", benchLoss},
		{"archive-ship", benchShip},
		{"archive-cost", benchCost},
		{"archive-replay", benchReplay},
		{"archive-restore", benchRestore},
	}
}

// figure is one measured number. Durations are in milliseconds.
type figure struct {
	Name   string `json:"name"`
	What   string `json:"what"`
	Unit   string `json:"unit"`
	Target string `json:"target"` // in words
	// Limit is the target as a number; 0 for a figure without one.
	Limit    float64 `json:"limit"`
	Measured float64 `json:"measured"`
	// AtMost says that less is better.
	AtMost  bool    `json:"at_most"`
	Ratio   float64 `json:"ratio"` // Measured / Limit
	Verdict verdict `json:"verdict"`
	Note    string  `json:"note,omitempty"`
	// Fsync is what the disk did right before.
	Fsync fsyncs `json:"fsync"`
}

// verdict is what became of a figure.
type verdict string

const (
	met     verdict = "met"
	missed  verdict = "missed"
	noLimit verdict = "-"
	failed  verdict = "FAILED"
	absent  verdict = "not here"
)

// bench is one run.
type bench struct {
	options
	work    string // temporary directory
	pitr    string
	self    string // this program, to be run as the load client
	out     io.Writer
	fsync   fsyncs
	figures []figure
}

// measure runs the chosen groups and reports. One that fails does not stop the others.
func measure(ctx context.Context, o options, out io.Writer) (err error) {
	chosen, err := o.chosen()
	if err != nil {
		return err
	}
	if err := o.binaryThere(); err != nil {
		return err
	}
	b := &bench{options: o, out: out}
	if b.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	if b.pitr, err = filepath.Abs(o.pitr); err != nil {
		return err
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return fmt.Errorf("%w; choose another directory with --dir", err)
	}
	if b.work, err = os.MkdirTemp(o.dir, "bench-"); err != nil {
		return fmt.Errorf("%w; choose another directory with --dir", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()
	if b.work, err = filepath.Abs(b.work); err != nil {
		return err
	}
	for _, g := range chosen {
		if err := b.runGroup(ctx, g); err != nil {
			b.sayf("\n%s", b.table()) // what there is so far
			return err
		}
	}
	return b.report()
}

func (b *bench) runGroup(ctx context.Context, g group) error {
	began := time.Now()
	if err := b.probe(); err != nil {
		return err
	}
	b.sayf("%-16s running (fsync here: p50 %s, p99 %s) …\n", g.name, b.fsync.P50, b.fsync.P99)
	err := g.run(ctx, b)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		b.sayf("%-16s FAILED: %v\n", g.name, err)
		b.add(figure{Name: g.name, What: "could not be measured", Verdict: failed, Note: err.Error()})
		return nil
	}
	b.sayf("%-16s done in %s\n", g.name, time.Since(began).Round(100*time.Millisecond))
	return nil
}

// probe measures the disk, for the figures that follow.
func (b *bench) probe() (err error) {
	b.fsync, err = probeFsync(b.work, b.pick(1000, 50))
	return err
}

// add judges a figure and keeps it.
func (b *bench) add(f figure) {
	f.Fsync = b.fsync
	if f.Limit > 0 {
		f.Ratio = f.Measured / f.Limit
		f.Verdict = missed
		if f.AtMost == (f.Measured <= f.Limit) || f.Measured == f.Limit {
			f.Verdict = met
		}
	} else if f.Verdict == "" {
		f.Verdict = noLimit
	}
	b.figures = append(b.figures, f)
}

// pick returns full, or quick under --quick.
func (b *bench) pick(full, quick int) int {
	if b.quick {
		return quick
	}
	return full
}

// period is a duration that --quick shortens.
func (b *bench) period(full time.Duration) time.Duration {
	if b.quick {
		return min(full, 300*time.Millisecond)
	}
	return full
}

func (b *bench) report() error {
	b.sayf("\n%s", b.table())
	if b.json != "" {
		text, err := json.MarshalIndent(b.figures, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(b.json, append(text, '\n'), 0o644); err != nil {
			return fmt.Errorf("write the figures: %w", err)
		}
	}
	if b.readme != "" {
		if err := b.writeReadme(); err != nil {
			return err
		}
	}
	var faults []error
	for _, f := range b.figures {
		if f.Verdict == failed || b.strict && f.Verdict == missed {
			faults = append(faults, fmt.Errorf("%s: %s %s", f.Name, f.Verdict, f.Note))
		}
	}
	return errors.Join(faults...)
}

// sayf prints for the person in front of the terminal; a closed stdout does not
// make a measurement fail.
func (b *bench) sayf(format string, args ...any) { _, _ = fmt.Fprintf(b.out, format, args...) }

// millis is a duration in milliseconds.
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
