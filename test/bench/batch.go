package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"originchain/scripts/demo/data"
	"originchain/shared/api"
)

const (
	// batchRows is how many rows are sent; batchStreams over how many requests.
	batchRows      = 1_000_000
	batchRowsQuick = 40_000
	batchStreams   = 2
)

// benchBatch streams flights through _batch into a table with one secondary index.
func benchBatch(ctx context.Context, b *bench) (err error) {
	flights, err := data.Flights()
	if err != nil {
		return err
	}
	n, err := b.serve(ctx, "batch")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if err := n.client.Register(ctx, n.tenant, []byte(indexedManifest)); err != nil {
		return err
	}
	lines := flightLines(flights)
	total := b.pick(batchRows, batchRowsQuick)
	start := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for i := range batchStreams {
		part := total / batchStreams
		g.Go(func() error {
			return n.stream(gctx, tableID, &lineReader{lines: lines, id: int64(i * part), left: part}, part)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	took := time.Since(start)
	if rows, err := n.rows(ctx); err != nil || rows != uint64(total) {
		return errors.Join(err, fmt.Errorf("the server counts %d rows, %d were sent", rows, total))
	}
	b.add(figure{
		Name: "batch-ingest", Unit: "rows/s", Target: "≥ 100,000 rows/s", Limit: 100_000, Measured: float64(total) / took.Seconds(),
		What: fmt.Sprintf("`_batch` of flights as NDJSON, %d streams, one secondary index, %s rows", batchStreams, number(float64(total))),
	})
	return nil
}

// stream sends rows in one request of unknown length.
func (n *node) stream(ctx context.Context, table string, body io.Reader, rows int) (err error) {
	path := n.client.URL + "/v1/tenants/" + n.tenant + "/rows/" + table + "/_batch"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", api.ContentTypeNDJSON)
	req.Header.Set(api.HeaderAuthorization, "Bearer "+n.client.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	var got api.Batch
	if resp.StatusCode != http.StatusOK || json.Unmarshal(text, &got) != nil || got.Inserted != uint64(rows) {
		return fmt.Errorf("_batch of %d rows: %d %s", rows, resp.StatusCode, text)
	}
	return nil
}

// lineReader makes NDJSON as it is read: the lines again and again, each time
// with a fresh id.
type lineReader struct {
	lines [][]byte
	id    int64
	left  int
	rest  []byte // of a line that did not fit the last read
	line  []byte
}

// Read implements io.Reader.
func (r *lineReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(r.rest) == 0 {
			if r.left == 0 {
				break
			}
			r.left--
			r.id++
			r.line = append(r.line[:0], `{"id":`...)
			r.line = strconv.AppendInt(r.line, r.id, 10)
			r.line = append(r.line, r.lines[int(r.id)%len(r.lines)]...)
			r.rest = r.line
		}
		c := copy(p[n:], r.rest)
		r.rest = r.rest[c:]
		n += c
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
