package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/test/bench/load"
)

const (
	lagLimit = 20 // ms
	// lagGap is the time between two samples: few enough not to disturb.
	lagGap = 10 * time.Millisecond
	// lagFirstID is above every id that the load takes.
	lagFirstID = 1 << 40
)

// benchLag measures how much later than its acknowledgement a row is visible on
// the follower, at a steady rate below the maximum.
func benchLag(ctx context.Context, b *bench) (err error) {
	p, err := b.servePair(ctx, "lag", plainManifest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	spec := load.Spec{Kind: load.Insert, Schema: tableID, FirstID: 1, Connections: clients, WarmUp: b.period(httpWarmUp), Duration: b.period(httpPeriod)}
	best, err := p.writer.load(ctx, spec)
	if err != nil {
		return err
	}
	if err := await(ctx, p.writer, attached); err != nil {
		return err
	}
	if err := b.probe(); err != nil {
		return err
	}
	spec.FirstID, spec.Rate, spec.Duration = best.NextID, best.PerSecond()*openShare, b.period(openPeriod)
	var steady *load.Result
	var lags []time.Duration
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		steady, err = p.writer.load(gctx, spec)
		return err
	})
	g.Go(func() (err error) {
		lags, err = p.lags(gctx, spec.WarmUp, spec.Duration)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	slices.Sort(lags)
	b.add(figure{
		Name: "replication-lag-p99", Unit: "ms", AtMost: true, Limit: lagLimit, Target: "< 20 ms", Measured: millis(load.Quantile(lags, 0.99)),
		What: fmt.Sprintf("from the writer's answer to a row until the follower has answered a read of it, at %s inserts/s, 70 %% of the maximum with the follower attached, open loop; writer, follower and clients on the same cores",
			number(spec.Rate)),
		Note: fmt.Sprintf("p50 %.2f ms, max %.2f ms of %d samples; insert p99 %.2f ms; the read itself is counted", millis(load.Quantile(lags, 0.5)), millis(lags[len(lags)-1]), len(lags), millis(steady.P99)),
	})
	return nil
}

// lags samples at fixed times, each sample on its own: one that waits holds up
// no other. One clock measures, that of this process. A sample before the first is
// not counted: a node hashes a token the first time it sees it (Argon2id, 60 ms
// of a core and more), which all reads of that moment wait for.
func (p *pair) lags(ctx context.Context, warmUp, period time.Duration) ([]time.Duration, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	start := time.Now().Add(warmUp)
	writer, follower := *p.writer.client, *p.follower.client
	writer.HTTP, follower.HTTP = &http.Client{Transport: transport}, &http.Client{Transport: transport}
	if _, err := lag(ctx, &writer, &follower, p.writer.tenant, lagFirstID-1); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var out []time.Duration
	g, ctx := errgroup.WithContext(ctx)
	for n := int64(0); ctx.Err() == nil; n++ {
		due := start.Add(time.Duration(n) * lagGap)
		if due.Sub(start) >= period {
			break
		}
		pauseUntil(ctx, due)
		g.Go(func() error {
			took, err := lag(ctx, &writer, &follower, p.writer.tenant, lagFirstID+n)
			if err != nil {
				return err
			}
			mu.Lock()
			out = append(out, took)
			mu.Unlock()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, errors.New("no sample of the lag")
	}
	return out, nil
}

func pauseUntil(ctx context.Context, at time.Time) {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// lag writes a row and reads it on the follower as soon as the writer has
// answered: the follower holds the read until it shows the row's frame.
func lag(ctx context.Context, writer, follower *call.Client, tenant string, id int64) (time.Duration, error) {
	path := "/v1/tenants/" + tenant + "/rows/" + tableID
	body := append(strconv.AppendInt([]byte(`{"id":`), id, 10), `,"date":"2001/01/14 21:55","delay":3,"distance":2400,"origin":"HNL","destination":"SFO"}`...)
	put := call.Request{Method: http.MethodPost, Path: path, ContentType: api.ContentTypeJSON, Body: body}
	wrote, err := writer.Do(ctx, put)
	acked := time.Now()
	if err != nil {
		return 0, err
	}
	at := wrote.Header.Get(api.HeaderLSN)
	if wrote.Status != http.StatusOK && wrote.Status != http.StatusCreated || at == "" {
		return 0, fmt.Errorf("a write was answered with %d, LSN %q: %s", wrote.Status, at, wrote.Body)
	}
	get := call.Request{Method: http.MethodGet, Path: path + "/" + strconv.FormatInt(id, 10),
		Header: []string{api.HeaderMinLSN, at, api.HeaderMinEpoch, wrote.Header.Get(api.HeaderEpoch)}}
	err = follower.Into(ctx, get, nil)
	return time.Since(acked), err
}
