package writer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"originchain/shared/api"
	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/httpx"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/sql"
)

// A batch is a stream of rows that commits in chunks, each one frame, all or
// nothing. Three things overlap: chunk n is decided, synced and applied; chunk
// n+1 is decoded and prepared, by every core, in runs that keep their order; and
// the request's own goroutine reads on. Nothing runs further ahead than that, so
// a batch of any length holds two or three chunks of memory.
//
// A batch with an Idempotency-Key stores its progress in each chunk's frame: how
// many rows are in, and a hash over all of them. A repetition hashes its way past
// those rows, which also proves that it is the same batch, and goes on behind.

// batch is one request on its way.
type batch struct {
	s      *service
	c      *httpx.Call
	schema string
	expect rows.Expect
	key    requestKey
	// progress is what is in. The committer owns it once the pipeline runs.
	progress progress
}

// progress is how far a batch has come.
type progress struct {
	chunks, accepted, replaced uint64
	at                         lsn.Pos
}

func (s *service) postBatch(c *httpx.Call) error {
	if c.RequestHeader(api.HeaderIfMatch) != "" {
		return fault.New(fault.ValidationFailed, "If-Match is for one row; a batch takes expect=insert")
	}
	expect, err := expectation(c)
	if err != nil {
		return err
	}
	if tx := c.RequestHeader(api.HeaderTx); tx != "" {
		return s.bufferBatch(c, tx, expect)
	}
	b := &batch{s: s, c: c, schema: c.Path("schema"), expect: expect}
	// The hash of the request leaves the body out: it comes row by row, below.
	if b.key, err = keyOf(c, nil); err != nil {
		return err
	}
	leave, err := s.flights.enter(c.Context(), c.Identity.Tenant, &b.key)
	if err != nil {
		return err
	}
	defer leave()
	r := newRunReader(c.Stream(), &b.key)
	first, err := s.firstAnswer(c.Identity.Tenant, &b.key)
	if err != nil {
		return err
	}
	if first != nil {
		if err := r.skip(first); err != nil {
			return err
		}
		if first.Done {
			return s.sendStored(c, first)
		}
		s.markDegraded(c, first.LSN)
		b.progress = progress{chunks: first.Chunks, accepted: first.Accepted, replaced: first.Replaced, at: s.engine.Visible()}
	}
	cat, err := s.engine.Catalog(c.Identity.Tenant)
	if err != nil {
		return err
	}
	if _, err := cat.Table(b.schema); err != nil {
		return err
	}
	if err := b.run(r); err != nil {
		return err
	}
	c.SetPosition(b.progress.at)
	return c.Send(http.StatusOK, api.ContentTypeJSON, b.progress.answer())
}

// answer is the answer of a batch that is in whole.
func (p *progress) answer() []byte {
	b := append(make([]byte, 0, 96), `{"inserted":`...)
	b = strconv.AppendUint(b, p.accepted, 10)
	b = append(b, `,"updated":`...)
	b = strconv.AppendUint(b, p.replaced, 10)
	b = append(b, `,"lsn":`...)
	b = strconv.AppendUint(b, uint64(p.at.LSN), 10)
	return append(b, '}')
}

// run reads, prepares and commits until the batch is in or a row is refused.
func (b *batch) run(r *runReader) error {
	g, ctx := errgroup.WithContext(b.c.Context())
	chunks := make(chan *chunk)
	p := &preparer{s: b.s, tenant: b.c.Identity.Tenant, schema: b.schema}
	defer p.wait()
	g.Go(func() error {
		for ch := range chunks {
			err := b.commit(ctx, p, ch)
			b.s.batchBytes.give(ch.charged)
			if err != nil {
				return err
			}
		}
		return nil
	})
	err := b.read(ctx, r, p, chunks)
	close(chunks)
	if committed := g.Wait(); committed != nil {
		return b.refuse(committed)
	}
	return b.refuse(err)
}

// read cuts the stream into chunks. A whole chunk is handed on once it is known
// whether anything follows it, be it an error.
func (b *batch) read(ctx context.Context, r *runReader, p *preparer, chunks chan<- *chunk) error {
	memory := &b.s.batchBytes
	ch := &chunk{}
	for {
		run, err := r.next(ch.room())
		if ch.whole() && (run != nil || err != nil) {
			if handErr := hand(ctx, chunks, ch, memory); handErr != nil {
				return handErr
			}
			ch = &chunk{}
		}
		if err == nil && run == nil {
			ch.last = true
			return hand(ctx, chunks, ch, memory)
		}
		if err == nil {
			err = ch.add(run, memory)
		}
		if err != nil {
			memory.give(ch.charged)
			return err
		}
		p.start(run)
	}
}

// hand gives a chunk to the committer, or drops it when the committer has failed.
func hand(ctx context.Context, chunks chan<- *chunk, ch *chunk, memory *budget) error {
	select {
	case chunks <- ch:
		return nil
	case <-ctx.Done():
		memory.give(ch.charged)
		return ctx.Err()
	}
}

// commit makes a chunk durable and visible as one frame.
func (b *batch) commit(ctx context.Context, p *preparer, ch *chunk) error {
	if err := b.s.checkQuota(b.c.Identity); err != nil {
		return &rowError{row: b.progress.accepted, err: err}
	}
	var again preparing
	for {
		for _, r := range ch.runs {
			if err := r.ready(ctx); err != nil {
				return err
			}
		}
		err := b.commitRuns(ctx, ch.runs, ch.last)
		if fault.CodeOf(err) == fault.BodyTooLarge && len(ch.runs) > 1 {
			return b.commitApart(ctx, ch)
		}
		if !again.again(ctx, err) {
			return err
		}
		for _, r := range ch.runs {
			p.start(r)
		}
	}
}

// commitApart commits a chunk that fits no frame, because its rows have many or
// long index entries, run by run.
func (b *batch) commitApart(ctx context.Context, ch *chunk) error {
	for i := range ch.runs {
		if err := b.commitRuns(ctx, ch.runs[i:i+1], ch.last && i == len(ch.runs)-1); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) commitRuns(ctx context.Context, runs []*run, last bool) error {
	if b.key.given() {
		// A repetition goes on behind what is visible: it must not come while a
		// chunk of this request is on its way.
		ctx = context.WithoutCancel(ctx)
	}
	began := time.Now()
	next := b.progress
	bad := next.accepted
	out, err := b.s.engine.Commit(ctx, engine.Proposal{Tenant: b.c.Identity.Tenant, Long: true, Build: func(bl *rows.Builder) error {
		next = b.progress
		next.chunks++
		for _, r := range runs {
			for i, p := range r.prepared {
				replaced, err := bl.Put(p, b.expect)
				if err != nil {
					bad = r.first + uint64(i)
					return err
				}
				if replaced {
					next.replaced++
				}
			}
			next.accepted += uint64(len(r.prepared))
		}
		return b.store(bl, runs, next, last)
	}})
	if err != nil {
		return &rowError{row: bad, err: err}
	}
	b.s.metrics.commit.Observe(time.Since(began).Seconds())
	b.s.metrics.batch.Add(float64(next.accepted - b.progress.accepted))
	next.at = out.Pos
	b.progress = next
	b.s.markDegraded(b.c, out.Pos.LSN)
	return nil
}

// store keeps the progress, or the final answer, in the chunk's own frame.
func (b *batch) store(bl *rows.Builder, runs []*run, next progress, last bool) error {
	if !b.key.given() {
		return nil
	}
	next.at.LSN = bl.LSN()
	a := rows.Answer{Request: b.key.hash, Status: http.StatusOK, Done: last, Chunks: next.chunks, Accepted: next.accepted, Replaced: next.replaced}
	if len(runs) > 0 {
		a.Rolling = runs[len(runs)-1].rolling
	} else {
		a.Rolling = emptyRolling()
	}
	if last {
		a.Body = next.answer()
	}
	return bl.StoreAnswer(b.c.Identity.Tenant, b.key.key, a)
}

// rowError is the fault of one row of a batch.
type rowError struct {
	row uint64 // counted from 0
	err error
}

// Error implements error.
func (e *rowError) Error() string { return fmt.Sprintf("row %d: %v", e.row, e.err) }

// Unwrap gives the cause to errors.Is and errors.As.
func (e *rowError) Unwrap() error { return e.err }

// refuse is the error of the whole request: which row was the first bad one,
// and how many are in.
func (b *batch) refuse(err error) error {
	if err == nil {
		return nil
	}
	p := &b.progress
	row := p.accepted
	var at *rowError
	if errors.As(err, &at) {
		row, err = at.row, at.err
	}
	if p.accepted > 0 {
		err = engine.Partly(err)
	}
	f := *fault.From(err)
	f.Message = fmt.Sprintf("row %d (counted from 0) of the batch: %s. %d rows are in, all before row %d", row, f.Message, p.accepted, p.accepted)
	return f.With("row", row).With("inserted", p.accepted).With("updated", p.replaced).With("lsn", uint64(p.at.LSN))
}

// bufferBatch writes a batch inside a transaction: all of it or nothing, and no
// more than one commit holds.
func (s *service) bufferBatch(c *httpx.Call, tx string, expect rows.Expect) error {
	body, err := io.ReadAll(io.LimitReader(c.Stream(), frame.MaxBody+1))
	if err != nil {
		return err
	}
	if len(body) > frame.MaxBody {
		return fault.New(fault.BodyTooLarge, "a batch inside a transaction is at most %d bytes; commit in parts, or send it without %s", frame.MaxBody, api.HeaderTx)
	}
	key, err := keyOf(c, body)
	if err != nil {
		return err
	}
	return s.inTx(c, tx, key, func(t sql.Tx) ([]byte, error) {
		var p progress
		sp := t.Savepoint()
		if err := s.bufferRows(c, t, body, expect, &p); err != nil {
			t.Rollback(sp)
			return nil, (&batch{progress: progress{at: t.Pos()}}).refuse(err)
		}
		p.at = t.Pos()
		return p.answer(), nil
	})
}

func (s *service) bufferRows(c *httpx.Call, t sql.Tx, body []byte, expect rows.Expect, p *progress) error {
	cat, err := t.Catalog()
	if err != nil {
		return err
	}
	r := schema.NewRowReader(bytes.NewReader(body))
	for {
		raw, index, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = s.bufferOne(c, cat, t, raw, expect, p)
		}
		if err != nil {
			return &rowError{row: uint64(index), err: err}
		}
	}
}
