package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/shared/restore"
	"originchain/test/bench/load"
)

const (
	// lossRounds is how many machines are taken away, without --rounds.
	lossRounds = 100
	// lossWriters write in closed loop until the server is gone.
	lossWriters = 16
	// lossAfter is how long there are writes before the server is killed, at the least:
	// longer than what may be lost, so that more would be seen. lossSpread comes on top,
	// so that the kill meets every moment of a window.
	lossAfter  = 1100 * time.Millisecond
	lossSpread = 500 * time.Millisecond
	// The limits are in seconds.
	lossLimitS3     = 1.0
	lossLimitFolder = 0.7
)

// benchLoss takes the machine away under load, again and again, and looks what its
// archive has.
func benchLoss(ctx context.Context, b *bench) (err error) {
	s3, stop, err := b.startGateway(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	dir := filepath.Join(b.work, "loss-archives")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, at := range []struct {
		depot
		name  string
		limit float64
	}{{s3, "archive-loss-s3", lossLimitS3}, {folderDepot(dir), "archive-loss-folder", lossLimitFolder}} {
		if err := b.probe(); err != nil {
			return err
		}
		var all []losses
		rng := rand.New(rand.NewPCG(1, 1))
		for i := range b.pick(b.rounds, min(b.rounds, 2)) {
			l, err := b.lossRound(ctx, at.depot, strconv.Itoa(i), lossAfter+time.Duration(rng.Int64N(int64(lossSpread))))
			if err != nil {
				return fmt.Errorf("round %d on %s: %w", i+1, at.depot.name, err)
			}
			all = append(all, l)
		}
		s := sumLosses(all)
		b.add(figure{
			Name: at.name, Unit: "s", AtMost: true, Limit: at.limit, Target: fmt.Sprintf("p99 ≤ %.1f s", at.limit), Measured: s.p99.Seconds(),
			What: fmt.Sprintf("what is lost with the writer's machine, archive on %s, --tail-ship every %d ms: from the stamp of the newest frame that the archive has to SIGKILL, after which the data directory is removed; %d clients in closed loop on the same cores", at.depot.name, tailWindow.Milliseconds(), lossWriters),
			Note: fmt.Sprintf("p50 %.2f s, max %.2f s of %d rounds; of %s acknowledged writes %s were lost", s.p50.Seconds(), s.max.Seconds(), len(all), number(float64(s.acked)), number(float64(s.lost))),
		})
	}
	return nil
}

// losses is what one round lost.
type losses struct {
	bound       time.Duration
	acked, lost int64 // writes
}

type lossSum struct {
	p50, p99, max time.Duration
	acked, lost   int64
}

func sumLosses(all []losses) (s lossSum) {
	bounds := make([]time.Duration, len(all))
	for i, l := range all {
		bounds[i] = l.bound
		s.acked, s.lost = s.acked+l.acked, s.lost+l.lost
	}
	slices.Sort(bounds)
	s.p50, s.p99, s.max = load.Quantile(bounds, 0.5), load.Quantile(bounds, 0.99), load.Quantile(bounds, 1)
	return s
}

// lossRound runs a new instance with an archive of its own until it is killed.
func (b *bench) lossRound(ctx context.Context, at depot, name string, after time.Duration) (l losses, err error) {
	archive := at.url(name)
	n, err := b.serveWith(ctx, "loss", at.env, "--archive", archive, "--tail-ship", "--tail-window-ms", strconv.FormatInt(tailWindow.Milliseconds(), 10))
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if err := n.client.Register(ctx, n.tenant, []byte(plainManifest)); err != nil {
		return l, err
	}
	if err := n.awaitMetric(ctx, tailState, func(v float64) bool { return v == 1 }); err != nil {
		return l, err
	}
	w := &lossLoad{n: n}
	writing, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- w.run(writing) }()
	pauseUntil(ctx, time.Now().Add(after))
	killed := time.Now()
	w.over.Store(true)
	err = n.close() // SIGKILL, and the disk is gone
	stop()
	if err = errors.Join(err, <-ended); err != nil {
		return l, err
	}
	var listed struct {
		Until *restore.Point `json:"recoverable_until"`
	}
	if _, err := b.pitrJSON(ctx, at.env, &listed, "list", "--archive", archive); err != nil {
		return l, err
	}
	if listed.Until == nil {
		return l, errors.New("the archive has nothing at all")
	}
	l.bound, l.acked = killed.Sub(listed.Until.Time), int64(len(w.acked()))
	for _, at := range w.acked() {
		if at > uint64(listed.Until.LSN) {
			l.lost++
		}
	}
	if l.acked == 0 || l.bound < 0 {
		return l, fmt.Errorf("%d writes were acknowledged, and the newest frame of the archive is %s younger than the kill", l.acked, -l.bound)
	}
	return l, nil
}

// lossLoad writes rows and remembers the frames of those that were acknowledged.
type lossLoad struct {
	n     *node
	over  atomic.Bool // what fails from now on does because of the kill
	next  atomic.Int64
	each  [lossWriters][]uint64
	conns http.Transport
}

func (w *lossLoad) acked() []uint64 { return slices.Concat(w.each[:]...) }

func (w *lossLoad) run(ctx context.Context) error {
	w.conns.MaxIdleConnsPerHost = lossWriters
	defer w.conns.CloseIdleConnections()
	client := *w.n.client
	client.HTTP = &http.Client{Transport: &w.conns}
	g, ctx := errgroup.WithContext(ctx)
	for i := range w.each {
		g.Go(func() error {
			for !w.over.Load() {
				at, err := putFlight(ctx, &client, w.n.tenant, w.next.Add(1))
				if err != nil && !w.over.Load() {
					return err
				}
				if err == nil {
					w.each[i] = append(w.each[i], at)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// putFlight writes one row and returns the LSN of its frame.
func putFlight(ctx context.Context, c *call.Client, tenant string, id int64) (uint64, error) {
	body := append(strconv.AppendInt([]byte(`{"id":`), id, 10), `,"date":"2001/01/14 21:55","delay":`...)
	body = append(strconv.AppendInt(body, id*7919%200, 10), `,"distance":`...)
	body = append(strconv.AppendInt(body, id*104729%2600, 10), `,"origin":"HNL","destination":"SFO"}`...)
	return putRow(ctx, c, tenant, body)
}

// putRow writes one row of tableID and returns the LSN of its frame.
func putRow(ctx context.Context, c *call.Client, tenant string, body []byte) (uint64, error) {
	wrote, err := c.Do(ctx, call.Request{Method: http.MethodPost, Path: "/v1/tenants/" + tenant + "/rows/" + tableID, ContentType: api.ContentTypeJSON, Body: body})
	if err != nil {
		return 0, err
	}
	if wrote.Status != http.StatusOK && wrote.Status != http.StatusCreated {
		return 0, fmt.Errorf("a write was answered with %d: %s", wrote.Status, wrote.Body)
	}
	return strconv.ParseUint(wrote.Header.Get(api.HeaderLSN), 10, 64)
}
