package writer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/oklog/ulid/v2"

	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/sql"
	"originchain/shared/table"
)

// Sizes of the pipeline. A chunk is a frame; a run is what one core prepares at
// a time.
const (
	chunkRows  = 10_000
	chunkBytes = 8 << 20
	runRows    = 500
	runBytes   = 256 << 10
	// batchMemoryBytes bounds what all batches hold together, by about what their
	// rows take as JSON and prepared.
	batchMemoryBytes = 384 << 20
	memoryPerByte    = 3
)

// run is a stretch of rows: their JSON, and then what they are prepared to.
type run struct {
	first    uint64 // index of its first row in the batch
	raw      []byte // the rows' JSON, one behind the other
	ends     []int  // where each ends
	rolling  [sha256.Size]byte
	prepared []*rows.Prepared
	err      error
	done     chan struct{}
}

// ready waits until the run is prepared and returns what is wrong with its
// first bad row.
func (r *run) ready(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// row is the JSON of row i.
func (r *run) row(i int) []byte {
	start := 0
	if i > 0 {
		start = r.ends[i-1]
	}
	return r.raw[start:r.ends[i]]
}

// chunk is the runs that go into one frame.
type chunk struct {
	runs    []*run
	rows    int
	bytes   int
	charged int64
	last    bool
}

// whole says that the chunk takes no more: it has its rows, or another run
// could take it over its bytes.
func (c *chunk) whole() bool {
	return c.rows >= chunkRows || c.bytes > chunkBytes-runBytes-schema.MaxBatchRowBytes
}

// room is how many rows the next run may have, which begins the next chunk when
// this one is whole.
func (c *chunk) room() int {
	if c.whole() {
		return runRows
	}
	return min(runRows, chunkRows-c.rows)
}

func (c *chunk) add(r *run, memory *budget) error {
	need := int64(len(r.raw)) * memoryPerByte
	if !memory.take(need) {
		return &rowError{row: r.first, err: fault.New(fault.Overloaded, "the batches of all tenants hold as much memory as the server gives them; retry in a moment").WithRetry()}
	}
	c.charged += need
	c.runs = append(c.runs, r)
	c.rows += len(r.ends)
	c.bytes += len(r.raw)
	return nil
}

// budget is a bound on bytes that several requests share.
type budget struct {
	used  atomic.Int64
	limit int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.used.Add(-n) }

// runReader cuts a stream into runs.
type runReader struct {
	rows  *schema.RowReader
	hash  hash.Hash // over every row so far; nil without a key
	count uint64    // rows so far
	ended bool
}

func newRunReader(src io.Reader, k *requestKey) *runReader {
	r := &runReader{rows: schema.NewRowReader(src)}
	if k.given() {
		r.hash = sha256.New()
	}
	return r
}

// emptyRolling is the hash of no row.
func emptyRolling() [sha256.Size]byte { return sha256.Sum256(nil) }

// absorb adds a row to the hash, behind its length.
func (r *runReader) absorb(raw []byte) {
	if r.hash == nil {
		return
	}
	var length [4]byte
	binary.LittleEndian.PutUint32(length[:], uint32(len(raw)))
	r.hash.Write(length[:])
	r.hash.Write(raw)
}

func (r *runReader) rolling() (sum [sha256.Size]byte) {
	if r.hash != nil {
		r.hash.Sum(sum[:0])
	}
	return sum
}

// next returns the next run, of at most most rows, or nil at the end of the stream.
func (r *runReader) next(most int) (*run, error) {
	if r.ended {
		return nil, nil
	}
	out := &run{first: r.count, done: make(chan struct{})}
	for len(out.ends) < most && len(out.raw) < runBytes {
		raw, index, err := r.rows.Next()
		if errors.Is(err, io.EOF) {
			r.ended = true
			break
		}
		if err != nil {
			return nil, &rowError{row: uint64(index), err: err}
		}
		if out.raw == nil {
			out.raw = make([]byte, 0, firstRunBytes(len(raw)))
			out.ends = make([]int, 0, runRows)
		}
		r.absorb(raw)
		out.raw = append(out.raw, raw...)
		out.ends = append(out.ends, len(out.raw))
		r.count++
	}
	if len(out.ends) == 0 {
		return nil, nil
	}
	out.rolling = r.rolling()
	return out, nil
}

// firstRunBytes guesses the length of a run by its first row.
func firstRunBytes(row int) int { return min(runBytes+row, (row+row/4+16)*runRows) }

// skip passes over the rows that an earlier request of the same key got in, and
// proves that they are the same.
func (r *runReader) skip(a *rows.Answer) error {
	for r.count < a.Accepted {
		raw, index, err := r.rows.Next()
		if errors.Is(err, io.EOF) {
			return errOtherBatch()
		}
		if err != nil {
			return &rowError{row: uint64(index), err: err}
		}
		r.absorb(raw)
		r.count++
	}
	if r.rolling() != a.Rolling {
		return errOtherBatch()
	}
	if !a.Done {
		return nil
	}
	if _, _, err := r.rows.Next(); !errors.Is(err, io.EOF) {
		return errOtherBatch()
	}
	return nil
}

func errOtherBatch() error {
	return fault.New(fault.Conflict, "this Idempotency-Key was used for another batch; use a new key for a new batch")
}

// preparer prepares runs on every core.
type preparer struct {
	s       *service
	tenant  ulid.ULID
	schema  string
	running sync.WaitGroup
}

// wait joins the runs that are being prepared.
func (p *preparer) wait() { p.running.Wait() }

// start prepares a run, again if it was before: against the table as it is now.
func (p *preparer) start(r *run) {
	done := make(chan struct{})
	r.done, r.err = done, nil
	p.running.Go(func() {
		defer close(done)
		p.s.cores <- struct{}{}
		defer func() { <-p.s.cores }()
		r.err = p.prepare(r)
	})
}

// newCores bounds how many runs are prepared at once, over all batches.
func newCores() chan struct{} { return make(chan struct{}, runtime.GOMAXPROCS(0)) }

func (p *preparer) prepare(r *run) error {
	cat, err := p.s.engine.Catalog(p.tenant)
	if err != nil {
		return err
	}
	t, err := cat.Table(p.schema)
	if err != nil {
		return &rowError{row: r.first, err: err}
	}
	checks, err := p.s.checksOf(t)
	if err != nil {
		return err
	}
	if cap(r.prepared) < len(r.ends) {
		r.prepared = make([]*rows.Prepared, 0, len(r.ends))
	}
	r.prepared = r.prepared[:0]
	width := len(t.Columns)
	values := make(schema.Row, width*len(r.ends))
	for i := range r.ends {
		row, err := t.DecodeJSON(r.row(i), values[i*width:i*width:(i+1)*width])
		if err == nil {
			var one *rows.Prepared
			if one, err = rows.Prepare(t, row, checks); err == nil {
				r.prepared = append(r.prepared, one)
				continue
			}
		}
		return &rowError{row: r.first + uint64(i), err: err}
	}
	return nil
}

// bufferOne writes one row of a batch inside a transaction.
func (s *service) bufferOne(c *httpx.Call, cat *table.Catalog, t sql.Tx, raw []byte, expect rows.Expect, p *progress) error {
	one, err := s.prepareRow(cat, c.Path("schema"), "", raw)
	if err != nil {
		return err
	}
	replaced, err := t.Put(one, expect)
	if err != nil {
		return err
	}
	p.accepted++
	if replaced {
		p.replaced++
	}
	return nil
}
