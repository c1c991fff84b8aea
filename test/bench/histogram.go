package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"originchain/scripts/call"
)

// fsyncMetric is the server's histogram of the fsyncs of its commit path, in seconds.
const fsyncMetric = "oc_wal_fsync_seconds"

// histogram has cumulative counts up to upper bounds in seconds; the last
// bucket of the exposition, +Inf, is total.
type histogram struct {
	bounds []float64
	counts []float64
	total  float64
}

func (n *node) fsyncHistogram(ctx context.Context) (*histogram, error) {
	ops := call.Client{URL: n.client.URL}
	resp, err := ops.Do(ctx, call.Request{Method: http.MethodGet, Path: "/metrics"})
	if err != nil {
		return nil, err
	}
	return parseHistogram(resp.Body, fsyncMetric)
}

// metric is a metric without labels.
func (n *node) metric(ctx context.Context, name string) (float64, error) {
	ops := call.Client{URL: n.client.URL}
	resp, err := ops.Do(ctx, call.Request{Method: http.MethodGet, Path: "/metrics"})
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(resp.Body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("the server's /metrics has no %s", name)
}

// parseHistogram reads one histogram without labels out of a Prometheus text.
func parseHistogram(text []byte, name string) (*histogram, error) {
	h := &histogram{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name+`_bucket{le="`)
		if !ok {
			continue
		}
		bound, value, _ := strings.Cut(rest, `"} `)
		count, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", name, err)
		}
		if bound == "+Inf" {
			h.total = count
			continue
		}
		le, err := strconv.ParseFloat(bound, 64)
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", name, err)
		}
		h.bounds, h.counts = append(h.bounds, le), append(h.counts, count)
	}
	if len(h.bounds) == 0 {
		return nil, errors.Join(fmt.Errorf("the server's /metrics has no histogram %s", name), lines.Err())
	}
	return h, lines.Err()
}

// since is what was counted after an earlier reading.
func (h *histogram) since(before *histogram) *histogram {
	d := &histogram{bounds: h.bounds, counts: slices.Clone(h.counts), total: h.total - before.total}
	for i := range d.counts {
		d.counts[i] -= before.counts[i]
	}
	return d
}

// quantile interpolates within the bucket, as Prometheus does.
func (h *histogram) quantile(q float64) (time.Duration, error) {
	if h.total == 0 {
		return 0, errors.New("the server counted no fsync")
	}
	rank := q * h.total
	lower, below := 0.0, 0.0
	for i, c := range h.counts {
		if c >= rank {
			at := lower + (h.bounds[i]-lower)*(rank-below)/(c-below)
			return time.Duration(at * float64(time.Second)), nil
		}
		lower, below = h.bounds[i], c
	}
	return 0, fmt.Errorf("the quantile %g is above the largest bucket, %g s", q, lower)
}
