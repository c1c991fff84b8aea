package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"originchain/test/bench/load"
	"originchain/test/bench/postgres"
)

const (
	// syncRounds: the two ways take turns, and so do the two servers, because disk
	// and processor are faster for some minutes than for others.
	syncRounds     = 3
	syncOnePeriod  = 2 * time.Second
	syncManyPeriod = 3 * time.Second
	syncWarmUp     = 500 * time.Millisecond
	syncOneLimit   = 2.5
	syncManyLimit  = 0.5
)

// turn is what one server did in one round, without waiting for the other node
// and with.
type turn struct {
	one  [2]time.Duration // p50
	many [2]float64       // per second
}

// benchSync compares commits that wait for a follower with commits that do not,
// then PostgreSQL's in the same rounds.
func benchSync(ctx context.Context, b *bench) (err error) {
	p, err := b.servePair(ctx, "sync", plainManifest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	peer, err := postgres.Start(ctx, b.work)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.Stop()) }()
	if err := peer.AddStandby(ctx); err != nil {
		return err
	}
	var ours, theirs []turn
	next := int64(1)
	for range b.pick(syncRounds, 1) {
		own, err := b.ownTurn(ctx, p, &next)
		if err != nil {
			return err
		}
		other, err := b.peerTurn(ctx, peer)
		if err != nil {
			return fmt.Errorf("PostgreSQL: %w", err)
		}
		ours, theirs = append(ours, own), append(theirs, other)
	}
	b.addTurns("sync", "OriginChain, --sync-replicas 1 over HTTP", ours, true)
	b.addTurns("sync-postgres", fmt.Sprintf("PostgreSQL %s with one standby over a unix socket, synchronous_standby_names = '*'", peer.Version), theirs, false)
	return nil
}

// ownTurn measures the same writer in both ways.
func (b *bench) ownTurn(ctx context.Context, p *pair, next *int64) (t turn, err error) {
	for i, way := range [][]string{nil, {"--sync-replicas", "1"}} {
		ready := attached
		if way != nil {
			ready = inSync
		}
		if err := p.restartWriter(ctx, ready, way...); err != nil {
			return t, err
		}
		spec := load.Spec{Kind: load.Insert, Schema: tableID, FirstID: *next, Connections: 1, WarmUp: b.period(syncWarmUp), Duration: b.period(syncOnePeriod)}
		one, err := p.writer.load(ctx, spec)
		if err != nil {
			return t, err
		}
		spec.FirstID, spec.Connections, spec.Duration = one.NextID, clients, b.period(syncManyPeriod)
		many, err := p.writer.load(ctx, spec)
		if err != nil {
			return t, err
		}
		*next = many.NextID
		t.one[i], t.many[i] = one.P50, many.PerSecond()
		r, err := p.writer.replication(ctx)
		if err != nil {
			return t, err
		}
		if way != nil && !inSync(r) && !slices.Contains(r.InSync, followerName) {
			return t, errors.New("the follower left the in-sync set, so what was measured waited for nobody")
		}
	}
	return t, nil
}

func (b *bench) peerTurn(ctx context.Context, peer *postgres.Cluster) (t turn, err error) {
	for i, on := range []bool{false, true} {
		if err := peer.Synchronous(ctx, on); err != nil {
			return t, err
		}
		if t.one[i], err = peer.InsertLatency(ctx, b.period(syncOnePeriod)); err != nil {
			return t, err
		}
		if t.many[i], err = peer.Inserts(ctx, clients, b.period(syncManyPeriod)); err != nil {
			return t, err
		}
	}
	return t, nil
}

// addTurns adds the median ratios of the rounds.
func (b *bench) addTurns(name, who string, turns []turn, judged bool) {
	one := median(turns, func(t turn) float64 { return float64(t.one[1]) / float64(t.one[0]) })
	many := median(turns, func(t turn) float64 { return t.many[1] / t.many[0] })
	f := figure{
		Name: name + "-one-client", Unit: "× async", AtMost: true, Measured: one, Target: "-",
		What: "p50 of single-row inserts by one client that wait for the follower's disk, against those that do not: " + who,
		Note: fmt.Sprintf("%.3f ms against %.3f ms; medians of %d rounds",
			median(turns, func(t turn) float64 { return millis(t.one[1]) }), median(turns, func(t turn) float64 { return millis(t.one[0]) }), len(turns)),
	}
	g := figure{
		Name: name + "-64", Unit: "× async", Measured: many, Target: "-",
		What: "inserts per second of 64 connections in closed loop, likewise: " + who,
		Note: fmt.Sprintf("%s/s against %s/s; medians of %d rounds",
			number(median(turns, func(t turn) float64 { return t.many[1] })), number(median(turns, func(t turn) float64 { return t.many[0] })), len(turns)),
	}
	if judged {
		f.Limit, f.Target = syncOneLimit, "≤ 2.5 × async"
		g.Limit, g.Target = syncManyLimit, "≥ 0.5 × async"
	}
	b.add(f)
	b.add(g)
}

func median(turns []turn, of func(turn) float64) float64 {
	all := make([]float64, len(turns))
	for i := range turns {
		all[i] = of(turns[i])
	}
	slices.Sort(all)
	return all[len(all)/2]
}
