package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"originchain/scripts/call"
	"originchain/scripts/demo/data"
	"originchain/test/bench/load"
)

const (
	readConnections  = 16
	readPeriod       = 10 * time.Second
	readWarmUp       = 2 * time.Second
	readRate         = 1000
	queryRate        = 200
	healthRate       = 50
	idlePeriod       = 10 * time.Second
	idleLimitMiB     = 150
	demoRowsPerBatch = 5000
)

// benchReads measures reads, /health beside full write load, and an idle
// server's memory, all on the demo's data.
func benchReads(ctx context.Context, b *bench) (err error) {
	n, err := b.serve(ctx, "reads")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	flights, origins, err := n.loadDemo(ctx)
	if err != nil {
		return err
	}
	spec := load.Spec{
		Schema: data.FlightsID, Rows: int64(flights), Origins: origins,
		Connections: readConnections, WarmUp: b.period(readWarmUp), Duration: b.period(readPeriod),
	}
	for _, step := range []func(context.Context, *node, load.Spec) error{b.readByKey, b.readByIndex, b.healthUnderLoad} {
		if err := step(ctx, n, spec); err != nil {
			return err
		}
	}
	return b.idleMemory(ctx, n)
}

// loadDemo loads the demo's tables and returns the number of flights and their origins.
func (n *node) loadDemo(ctx context.Context) (flights int, origins []string, err error) {
	airports, err := data.Airports()
	if err != nil {
		return 0, nil, err
	}
	all, err := data.Flights()
	if err != nil {
		return 0, nil, err
	}
	for _, m := range [][]byte{data.AirportsManifest(), data.FlightsManifest()} {
		if err := n.client.Register(ctx, n.tenant, m); err != nil {
			return 0, nil, err
		}
	}
	if err := send(ctx, n, data.AirportsID, airports); err != nil {
		return 0, nil, err
	}
	if err := send(ctx, n, data.FlightsID, all); err != nil {
		return 0, nil, err
	}
	for i := range all {
		origins = append(origins, all[i].Origin)
	}
	slices.Sort(origins)
	return len(all), slices.Compact(origins), nil
}

func send[T any](ctx context.Context, n *node, table string, rows []T) error {
	for part := range slices.Chunk(rows, demoRowsPerBatch) {
		lines, err := call.NDJSON(part)
		if err != nil {
			return err
		}
		if _, err := n.client.Batch(ctx, n.tenant, table, lines); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) readByKey(ctx context.Context, n *node, s load.Spec) error {
	s.Kind, s.Rate = load.Read, readRate
	return b.latency(ctx, n, s, figure{
		Name: "read-by-key-p99", Limit: 2, Target: "< 2 ms",
		What: "one row by its primary key over HTTP at 1,000/s, open loop",
	})
}

func (b *bench) readByIndex(ctx context.Context, n *node, s load.Spec) error {
	s.Kind, s.Rate = load.Query, queryRate
	return b.latency(ctx, n, s, figure{
		Name: "sql-by-index-p99", Limit: 8, Target: "< 8 ms",
		What: "SELECT of 4 columns, up to 20 rows, by a secondary index with a parameter, over HTTP at 200/s, open loop",
	})
}

func (b *bench) latency(ctx context.Context, n *node, s load.Spec, f figure) error {
	r, err := n.load(ctx, s)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	f.Unit, f.AtMost, f.Measured = "ms", true, millis(r.P99)
	f.Note = fmt.Sprintf("p50 %.2f ms, p99.9 %.2f ms", millis(r.P50), millis(r.P999))
	b.add(f)
	return nil
}

// healthUnderLoad asks /health while 64 connections insert as fast as they can.
func (b *bench) healthUnderLoad(ctx context.Context, n *node, s load.Spec) error {
	if err := n.client.Register(ctx, n.tenant, []byte(plainManifest)); err != nil {
		return err
	}
	writes, looks := s, s
	writes.Kind, writes.Schema, writes.Connections = load.Insert, tableID, clients
	looks.Kind, looks.Rate, looks.Connections = load.Health, healthRate, 4
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := n.load(gctx, writes)
		return err
	})
	g.Go(func() error {
		return b.latency(gctx, n, looks, figure{
			Name: "health-p99", Limit: 100, Target: "< 100 ms",
			What: "/health at 50/s while 64 connections insert in closed loop",
		})
	})
	return g.Wait()
}

// idleMemory restarts the server on its data and looks at it after a while of
// doing nothing.
func (b *bench) idleMemory(ctx context.Context, n *node) error {
	if err := n.stop(); err != nil {
		return err
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(b.period(idlePeriod))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	mib, err := residentMiB(n.server.PID())
	if err != nil {
		return err
	}
	b.add(figure{
		Name: "idle-memory", Unit: "MiB", AtMost: true, Limit: idleLimitMiB, Measured: mib, Target: "< 150 MiB",
		What: "resident memory of the server 10 s after a start on the demo's data",
	})
	return nil
}

// residentMiB is VmRSS of a process.
func residentMiB(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmRSS", pid)
}
