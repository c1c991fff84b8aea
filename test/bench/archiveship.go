package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"originchain/scripts/call"
	"originchain/scripts/demo/data"
	"originchain/test/bench/load"
)

const (
	// uploadLimit is in bytes uploaded per byte logged.
	uploadLimit = 1.05
	// uploadBytes is how much of rows that do not compress is shipped: less than a segment.
	uploadBytes      = 40 << 20
	uploadBytesQuick = 4 << 20
	// uploadAge is when the open segment is sealed: after the writing and idleWindows.
	uploadAge      = 25 * time.Second
	uploadAgeQuick = 8 * time.Second
	idleWindows    = 3
)

// benchShip counts what shipping uploads, for each byte of log and when there is
// nothing new.
func benchShip(ctx context.Context, b *bench) error {
	flights, err := data.Flights()
	if err != nil {
		return err
	}
	flights = flights[:b.pick(len(flights), 2000)]
	for _, of := range []struct {
		name, what, manifest string
		fill                 func(*node) error
	}{
		{"flights", fmt.Sprintf("the demo's %s flights, each a write of its own, 16 clients", number(float64(len(flights)))), plainManifest,
			func(n *node) error { return n.insertEach(ctx, flights) }},
		{"random", fmt.Sprintf("%d MiB of rows of 1 KiB that do not compress, by `_batch`", b.pick(uploadBytes, uploadBytesQuick)>>20), documentsManifest,
			func(n *node) error { return b.fillDocuments(ctx, n, b.pick(uploadBytes, uploadBytesQuick)) }},
	} {
		s, err := b.shipped(ctx, of.manifest, of.fill)
		if err != nil {
			return fmt.Errorf("%s: %w", of.name, err)
		}
		tail, all := s.ratios()
		bytes := fmt.Sprintf("logged %s bytes, uploaded %s in parts of the tail and %s in the sealed segment", number(s.logged), number(s.tail), number(s.segments))
		b.add(figure{
			Name: "archive-tail-bytes-" + of.name, Unit: "× logged", AtMost: true, Limit: uploadLimit, Target: "≤ 1.05 × logged", Measured: tail,
			What: "bytes that tail shipping uploads for each byte of log: " + of.what, Note: bytes,
		})
		b.add(figure{
			Name: "archive-all-bytes-" + of.name, Unit: "× logged", AtMost: true, Limit: uploadLimit, Target: "≤ 1.05 × logged", Measured: all,
			What: "the same, and the segment that was sealed and shipped afterwards", Note: bytes,
		})
		b.add(figure{
			Name: "archive-idle-" + of.name, Unit: "objects", AtMost: true, Limit: 0, Target: "0", Verdict: verdictOfNone(s.idle), Measured: float64(s.idle),
			What: fmt.Sprintf("new objects in %d windows of %s without a write, after it", idleWindows, tailWindow),
		})
	}
	return nil
}

// verdictOfNone judges a count that must be 0, which no ratio does.
func verdictOfNone(n int) verdict {
	if n == 0 {
		return met
	}
	return missed
}

// shipment is what was logged and uploaded, in bytes, and how many objects came while
// nothing was written.
type shipment struct {
	logged, tail, segments float64
	idle                   int
}

// ratios are what is uploaded for a byte that is logged: of the tail alone, and in all.
func (s *shipment) ratios() (tail, all float64) {
	return s.tail / s.logged, (s.tail + s.segments) / s.logged
}

// shipped fills a new instance with less than a segment and has it shipped, first as
// the tail, then sealed.
func (b *bench) shipped(ctx context.Context, manifest string, fill func(*node) error) (s shipment, err error) {
	age := uploadAge
	if b.quick {
		age = uploadAgeQuick
	}
	dir := filepath.Join(b.work, "ship-archive")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	n, err := b.serve(ctx, "ship", "--archive", folderDepot(dir).url(""), "--tail-ship", "--segment-max-age", age.String(), "--instance-id", copyInstance.String())
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if err := n.client.Register(ctx, n.tenant, []byte(manifest)); err != nil {
		return s, err
	}
	if err := fill(n); err != nil {
		return s, err
	}
	if err := n.awaitMetric(ctx, unrecoverableAge, isZero); err != nil {
		return s, err
	}
	before, _, err := objects(dir)
	if err != nil {
		return s, err
	}
	pauseUntil(ctx, time.Now().Add(idleWindows*tailWindow))
	after, _, err := objects(dir)
	if err != nil {
		return s, err
	}
	m, err := n.metrics(ctx, shippedLSN, recoverableLSN, logBytes, uploadedBytes("tail"))
	if err != nil {
		return s, err
	}
	if m[shippedLSN] > 0 {
		return s, errors.New("a segment was sealed before it was known what the tail takes")
	}
	s = shipment{logged: m[logBytes], tail: m[uploadedBytes("tail")], idle: after - before}
	if err := n.awaitMetric(ctx, shippedLSN, func(v float64) bool { return v >= m[recoverableLSN] }); err != nil {
		return s, err
	}
	s.segments, err = n.metric(ctx, uploadedBytes("segment"))
	return s, err
}

// insertEach writes each flight on its own.
func (n *node) insertEach(ctx context.Context, flights []data.Flight) error {
	lines := flightLines(flights)
	transport := &http.Transport{MaxIdleConnsPerHost: lossWriters}
	defer transport.CloseIdleConnections()
	client := call.Client{URL: n.client.URL, Token: n.client.Token, HTTP: &http.Client{Transport: transport}}
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range lossWriters {
		g.Go(func() error {
			for {
				i := next.Add(1)
				if i > int64(len(lines)) {
					return nil
				}
				body := append(strconv.AppendInt([]byte(`{"id":`), i, 10), bytes.TrimSpace(lines[i-1])...)
				if _, err := putRow(ctx, &client, n.tenant, body); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

const (
	// Many short rounds, since what a disk gives changes within a minute: each round
	// compares two neighbours in time.
	costRounds = 41
	costPeriod = 3 * time.Second
	costWarmUp = 500 * time.Millisecond
	// costShare of the throughput must be left.
	costShare = 0.95
	// costSegment is so small that segments are sealed and shipped all the time.
	costSegment = 16 << 20
)

// benchCost compares a writer that ships with one that does not, which take turns.
func benchCost(ctx context.Context, b *bench) (err error) {
	dir := filepath.Join(b.work, "cost-archive")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	segment := []string{"--segment-bytes", strconv.Itoa(costSegment)}
	var nodes [2]*node
	var next [2]int64
	for i, more := range [][]string{nil, {"--archive", folderDepot(dir).url(""), "--tail-ship"}} {
		n, err := b.serve(ctx, "cost-"+strconv.Itoa(i), append(more, segment...)...)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, n.close()) }()
		if err := n.client.Register(ctx, n.tenant, []byte(plainManifest)); err != nil {
			return err
		}
		nodes[i], next[i] = n, 1
	}
	var rates [2][]float64
	for round := range b.pick(costRounds, 1) {
		for turn := range nodes {
			i := (turn + round) % len(nodes) // neither is always the first
			r, err := nodes[i].load(ctx, load.Spec{Kind: load.Insert, Schema: tableID, FirstID: next[i], Connections: clients, WarmUp: b.period(costWarmUp), Duration: b.period(costPeriod)})
			if err != nil {
				return err
			}
			next[i] = r.NextID
			rates[i] = append(rates[i], r.PerSecond())
			if i == 1 {
				// What is left to ship is not the other's burden.
				if err := nodes[i].awaitMetric(ctx, unrecoverableAge, isZero); err != nil {
					return err
				}
			}
		}
	}
	m, err := nodes[1].metrics(ctx, uploadedBytes("tail"), uploadedBytes("segment"))
	if err != nil {
		return err
	}
	if m[uploadedBytes("tail")] == 0 {
		return errors.New("nothing was shipped, so that shipping had no cost")
	}
	share, low, high := pairs(rates[1], rates[0])
	b.add(figure{
		Name: "archive-cost", Unit: "× without", Limit: costShare, Target: "≥ 0.95 × without", Measured: share,
		What: fmt.Sprintf("single-row inserts over HTTP, 64 connections in closed loop, of a writer with --archive and --tail-ship against one without, segments of %d MiB; client, servers and archive on the same cores and disk", costSegment>>20),
		Note: fmt.Sprintf("median of %d pairs of rounds, with its 95 %% interval %.2f to %.2f; %s/s against %s/s, medians; %s bytes shipped as tail, %s as segments", len(rates[0]), low, high, number(middle(rates[1])), number(middle(rates[0])), number(m[uploadedBytes("tail")]), number(m[uploadedBytes("segment")])),
	})
	return nil
}

// pairs is the median of a[i]/b[i], and the bounds of its 95 % interval by the sign
// test: the order statistics that a median lies between with that probability.
func pairs(a, b []float64) (median, low, high float64) {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	slices.Sort(ratios)
	n := len(ratios)
	outer := 0 // how many of each end are left out
	for tail := 0.0; ; outer++ {
		tail += math.Exp(choose(n, outer) - float64(n)*math.Ln2)
		if tail > 0.025 || 2*outer >= n-1 {
			break
		}
	}
	low, high = ratios[max(outer-1, 0)], ratios[min(n-outer, n-1)]
	return middle(ratios), low, high
}

// choose is the logarithm of n over k.
func choose(n, k int) float64 {
	all, _ := math.Lgamma(float64(n + 1))
	in, _ := math.Lgamma(float64(k + 1))
	out, _ := math.Lgamma(float64(n - k + 1))
	return all - in - out
}

// middle is the median.
func middle(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
