package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"originchain/test/bench/load"
	"originchain/test/bench/postgres"
)

const (
	clients = 64
	// httpRounds: the two servers take turns, so that a disk that is slower for
	// some seconds does not decide the comparison.
	httpRounds  = 2
	httpPeriod  = 6 * time.Second
	httpWarmUp  = time.Second
	openPeriod  = 10 * time.Second
	openShare   = 0.7 // of the measured maximum
	openMargin  = 2 * time.Millisecond
	fsyncFactor = 2
)

// benchHTTP compares single-row inserts with PostgreSQL, then measures latency
// at a steady rate below the maximum.
func benchHTTP(ctx context.Context, b *bench) (err error) {
	n, err := b.serve(ctx, "http")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if err := n.client.Register(ctx, n.tenant, []byte(plainManifest)); err != nil {
		return err
	}
	spec := load.Spec{Kind: load.Insert, Schema: tableID, FirstID: 1, Connections: clients, WarmUp: b.period(httpWarmUp), Duration: b.period(httpPeriod)}
	best, err := b.compare(ctx, n, &spec)
	if err != nil {
		return err
	}
	return b.openLoop(ctx, n, spec, best)
}

// compare returns the rate that OriginChain reached.
func (b *bench) compare(ctx context.Context, n *node, spec *load.Spec) (rate float64, err error) {
	peer, err := postgres.Start(ctx, b.work)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, peer.Stop()) }()
	var ours, theirs float64
	var last *load.Result
	for range b.pick(httpRounds, 1) {
		if last, err = n.load(ctx, *spec); err != nil {
			return 0, err
		}
		spec.FirstID = last.NextID
		tps, err := peer.Inserts(ctx, clients, spec.Duration)
		if err != nil {
			return 0, err
		}
		ours, theirs = ours+last.PerSecond(), theirs+tps
	}
	ours, theirs = ours/float64(b.pick(httpRounds, 1)), theirs/float64(b.pick(httpRounds, 1))
	b.add(figure{
		Name: "http-insert", Unit: "rows/s", Target: fmt.Sprintf("≥ PostgreSQL %s: %s rows/s", peer.Version, number(theirs)), Limit: theirs, Measured: ours,
		What: "single-row inserts over HTTP, 64 connections in closed loop, client on the same cores; PostgreSQL with pgbench -M prepared over a unix socket",
		Note: fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", millis(last.P50), millis(last.P99)),
	})
	return ours, nil
}

// openLoop sends inserts at their scheduled times. The limit follows the
// server's own fsyncs of the same seconds.
func (b *bench) openLoop(ctx context.Context, n *node, spec load.Spec, best float64) error {
	if err := b.probe(); err != nil {
		return err
	}
	spec.Rate, spec.Duration = best*openShare, b.period(openPeriod)
	before, err := n.fsyncHistogram(ctx)
	if err != nil {
		return err
	}
	r, err := n.load(ctx, spec)
	if err != nil {
		return err
	}
	after, err := n.fsyncHistogram(ctx)
	if err != nil {
		return err
	}
	p99, err := after.since(before).quantile(0.99)
	if err != nil {
		return err
	}
	limit := fsyncFactor*p99 + openMargin
	b.add(figure{
		Name: "commit-p99", Unit: "ms", AtMost: true, Limit: millis(limit), Measured: millis(r.P99),
		Target: fmt.Sprintf("≤ 2 × server's fsync p99 %.2f ms + 2 ms = %.2f ms", millis(p99), millis(limit)),
		What:   fmt.Sprintf("p99 of single-row inserts over HTTP at %s/s, 70 %% of the maximum, open loop, from the scheduled time", number(spec.Rate)),
		Note:   fmt.Sprintf("p50 %.2f ms, p99.9 %.2f ms", millis(r.P50), millis(r.P999)),
	})
	return nil
}
