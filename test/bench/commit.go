package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"originchain/scripts/demo/data"
	"originchain/shared/clock"
	"originchain/shared/engine"
	"originchain/shared/rows"
	"originchain/shared/table"
	"originchain/test/bench/load"
)

const (
	commitPeriod = 5 * time.Second
	// commitShare is the share of 64 commits per mean fsync that must be
	// reached; a bare loop of appends and fsyncs reaches 0.43.
	commitShare = 0.35
)

// benchTenant owns the tables of benchmarks in process.
var benchTenant = ulid.MustParse("01J00000000000000000000000")

// inProcess is an engine in this process.
type inProcess struct {
	engine *engine.Engine
	table  *table.Table
	stop   context.CancelFunc
	ended  chan error
	mu     sync.Mutex
	syncs  []time.Duration
}

// openEngine opens an engine on an empty directory with one table.
func openEngine(ctx context.Context, cfg engine.Config, manifest string) (p *inProcess, err error) {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	p = &inProcess{ended: make(chan error, 1)}
	p.engine, err = engine.Open(ctx, cfg, engine.Deps{FS: vfs.Default, Log: quiet, Clock: clock.New(clock.Config{}), ObserveSync: p.observe})
	if err != nil {
		return nil, err
	}
	var running context.Context
	running, p.stop = context.WithCancel(ctx)
	go func() { p.ended <- p.engine.Run(running) }()
	if _, _, err := p.engine.CreateTable(ctx, benchTenant, []byte(manifest)); err != nil {
		return nil, errors.Join(err, p.close())
	}
	catalog, err := p.engine.Catalog(benchTenant)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	if p.table, err = catalog.Table(tableID); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *inProcess) observe(took time.Duration) {
	p.mu.Lock()
	p.syncs = append(p.syncs, took)
	p.mu.Unlock()
}

// takeSyncs returns the fsyncs since it was last called.
func (p *inProcess) takeSyncs() fsyncs {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.syncs
	p.syncs = nil
	return sumFsyncs(taken)
}

func (p *inProcess) close() error {
	p.stop()
	return errors.Join(<-p.ended, p.engine.Close())
}

// benchCommit runs writers in closed loop through the commit pipeline alone: no
// HTTP, no SQL, one row of a table without further index each.
func benchCommit(ctx context.Context, b *bench) (err error) {
	flights, err := data.Flights()
	if err != nil {
		return err
	}
	dir := filepath.Join(b.work, "commit")
	p, err := openEngine(ctx, engine.Config{DataDir: dir}, plainManifest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close(), os.RemoveAll(dir)) }()
	var nextID atomic.Int64
	if _, err := p.insert(ctx, clients, b.period(time.Second), flights, &nextID); err != nil {
		return err // a warm-up: the log's next segment is zeroed meanwhile
	}
	p.takeSyncs()
	took, err := p.insert(ctx, clients, b.period(commitPeriod), flights, &nextID)
	if err != nil {
		return err
	}
	own := p.takeSyncs()
	rate := float64(len(took.all)) / took.elapsed.Seconds()
	limit := commitShare * clients / own.Mean.Seconds()
	b.add(figure{
		Name: "group-commit", Unit: "commits/s", Limit: limit, Measured: rate,
		Target: fmt.Sprintf("≥ 0.35 × 64 / mean fsync = %s/s", number(limit)),
		What:   "single-row commits in process, 64 writers in closed loop",
		Note: fmt.Sprintf("mean of the engine's own %d fsyncs %.2f ms (p99 %.2f), that is %.2f × 64 / mean; by the probe's mean %.2f ms it would be %.2f; %.1f commits a sync",
			own.N, millis(own.Mean), millis(own.P99), rate*own.Mean.Seconds()/clients, millis(b.fsync.Mean), rate*b.fsync.Mean.Seconds()/clients, float64(len(took.all))/float64(own.N)),
	})
	one, err := p.insert(ctx, 1, b.period(2*time.Second), flights, &nextID)
	if err != nil {
		return err
	}
	slices.Sort(one.all)
	b.add(figure{
		Name: "one-writer", Unit: "ms", AtMost: true, Measured: millis(load.Quantile(one.all, 0.5)), Target: "-",
		What: "p50 of single-row commits in process, one writer",
		Note: fmt.Sprintf("p99 %.2f ms, %s commits/s", millis(load.Quantile(one.all, 0.99)), number(float64(len(one.all))/one.elapsed.Seconds())),
	})
	return nil
}

// latencies of one measurement.
type latencies struct {
	all     []time.Duration
	elapsed time.Duration
}

// insert keeps writers busy for a period.
func (p *inProcess) insert(ctx context.Context, writers int, period time.Duration, flights []data.Flight, nextID *atomic.Int64) (latencies, error) {
	took := make([][]time.Duration, writers)
	start := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for w := range writers {
		g.Go(func() error {
			for time.Since(start) < period {
				id := nextID.Add(1)
				began := time.Now()
				if err := p.insertOne(ctx, &flights[int(id)%len(flights)], id); err != nil {
					return err
				}
				took[w] = append(took[w], time.Since(began))
			}
			return nil
		})
	}
	err := g.Wait()
	return latencies{slices.Concat(took...), time.Since(start)}, err
}

func (p *inProcess) insertOne(ctx context.Context, f *data.Flight, id int64) error {
	row, err := rows.Prepare(p.table, flightRow(f, id), nil)
	if err != nil {
		return err
	}
	_, err = p.engine.Commit(ctx, engine.Proposal{Tenant: benchTenant, Build: func(b *rows.Builder) error {
		_, err := b.Put(row, rows.Absent())
		return err
	}})
	return err
}
