package writer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"originchain/shared/api"
)

func TestBatch(t *testing.T) {
	n := start(t)
	n.register(ordersManifest)
	n.register(flightsManifest)
	t.Run("array and lines", func(t *testing.T) { testBatchForms(n.sub(t)) })
	t.Run("chunks", func(t *testing.T) { testBatchChunks(n.sub(t)) })
	t.Run("bad rows", func(t *testing.T) { testBatchBadRows(n.sub(t)) })
	t.Run("partial failure and resume", func(t *testing.T) { testBatchResume(n.sub(t)) })
	t.Run("other body", func(t *testing.T) { testBatchOtherBody(n.sub(t)) })
	t.Run("cut off and resumed", func(t *testing.T) { testBatchCutOff(n.sub(t)) })
	t.Run("in a transaction", func(t *testing.T) { testBatchInTx(n.sub(t)) })
	t.Run("frames too large", func(t *testing.T) { testBatchTooLargeForFrame(n.sub(t)) })
	t.Run("schema changes meanwhile", func(t *testing.T) { testBatchSchemaChange(n.sub(t)) })
}

// batch sends a batch to a table.
func (n *node) batch(table, body string, headers ...string) *answer {
	n.t.Helper()
	return n.call("POST", "/rows/"+table+"/_batch", body, headers...)
}

// counts requires inserted and updated of a batch's answer or error.
func (a *answer) counts(inserted, updated int) *answer {
	a.t.Helper()
	if a.str("inserted") != fmt.Sprint(inserted) || a.str("updated") != fmt.Sprint(updated) {
		a.t.Fatalf("%s: want inserted %d, updated %d: %s", a.what, inserted, updated, a.body)
	}
	return a
}

func testBatchForms(n *node) {
	a := n.batch("shop.orders", `[{"id":"1"},{"id":"2"}]`).want(200).counts(2, 0)
	if a.str("lsn") != a.header.Get(api.HeaderLSN) {
		n.t.Fatalf("lsn %s, header %v", a.str("lsn"), a.header)
	}
	n.batch("shop.orders", "{\"id\":\"2\"}\n\n{\"id\":\"3\"}", "Content-Type", "application/x-ndjson").want(200).counts(2, 1)
	n.batch("shop.orders", " \n[ ]").want(200).counts(0, 0)
	n.batch("shop.orders", "").want(200).counts(0, 0)
	n.batch("shop.orders", "[]", idem, "empty").want(200).counts(0, 0)
	n.batch("shop.orders", "[]", idem, "empty").want(200).counts(0, 0)
	n.batch("shop.orders", `[{"id":"e"}]`, idem, "empty").refused(409, "conflict")
	n.batch("shop.orders", `[{"id":"twice","total":1},{"id":"twice","total":2}]`).want(200).counts(2, 1)
	n.call("GET", "/rows/shop.orders/twice", "").is(`{"id":"twice","total":2,"email":null}`)
	n.batch("no.such", "").refused(400, "unknown_table")
	n.batch("no.such", `[{"a":1}]`).refused(400, "unknown_table")
}

// testBatchChunks: a chunk is a frame, and the next begins after 10,000 rows.
func testBatchChunks(n *node) {
	before := n.w.engine.Load().Visible().LSN
	n.batch("air.flights", string(flightRows(0, 2*chunkRows))).want(200).counts(2*chunkRows, 0)
	if got := n.w.engine.Load().Visible().LSN - before; got != 2 {
		n.t.Fatalf("%d rows took %d frames, want 2", 2*chunkRows, got)
	}
	n.batch("air.flights", string(flightRows(0, chunkRows+1))).want(200).counts(chunkRows+1, chunkRows+1)
	if got := n.w.engine.Load().Visible().LSN - before; got != 4 {
		n.t.Fatalf("frames so far %d, want 4", got)
	}
	n.call("POST", "/rows/air.flights/_batch?expect=insert", string(flightRows(200_000, chunkRows))+string(flightRows(0, 1))).
		refused(409, "already_exists").counts(chunkRows, 0)
}

func testBatchBadRows(n *node) {
	refused := func(body string, status int, code string, row, inserted int) {
		n.t.Helper()
		a := n.batch("shop.orders", body).refused(status, code).counts(inserted, 0)
		if a.str("row") != fmt.Sprint(row) || !strings.Contains(a.str("message"), fmt.Sprintf("row %d", row)) {
			n.t.Fatalf("want row %d: %s", row, a.body)
		}
	}
	refused(`[{"id":"b1"},{"id":"b2","nope":1},{"id":5}]`, 400, "unknown_column", 1, 0)
	n.call("GET", "/rows/shop.orders/b1", "").refused(404, "not_found")
	refused("{\"id\":\"b1\"}\n{\"id\":5}", 400, "type_mismatch", 1, 0)
	refused("{\"id\":\"b1\"}\n{\"id\":\"b2\",\"total\":-1}", 409, "check_violation", 1, 0)
	refused("{\"id\":\"b1\",\"email\":\"m\"}\n{\"id\":\"b2\",\"email\":\"m\"}", 409, "unique_violation", 1, 0)
	refused(`[{"id":"b1"}`, 400, "invalid_json", 1, 0)
	refused(`[{"id":"b1"}] x`, 400, "invalid_json", 1, 0)
	refused("{\"id\":\"b1\"}\n{\"id\":\""+strings.Repeat("x", 1<<20)+"\"}", 413, "body_too_large", 1, 0)
	n.call("GET", "/rows/shop.orders/b1", "").refused(404, "not_found")
	n.batch("shop.orders", `[]`, "If-Match", "1").refused(400, "validation_failed")
}

// lines joins rows of the orders table.
func lines(from, to int, bad map[int]string) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		if row, ok := bad[i]; ok {
			b.WriteString(row + "\n")
			continue
		}
		fmt.Fprintf(&b, `{"id":"r%06d","total":%d}`+"\n", i, i)
	}
	return b.String()
}

// testBatchResume: a batch that fails in its second chunk leaves the first, and
// is sent again under the same key once the cause is mended.
func testBatchResume(n *node) {
	n.call("POST", "/rows/shop.orders", `{"id":"holder","email":"held"}`).want(200)
	clash := chunkRows + 77
	body := lines(0, chunkRows+1000, map[int]string{clash: `{"id":"clash","email":"held"}`})
	failed := n.batch("shop.orders", body, idem, "resume").refused(409, "unique_violation").counts(chunkRows, 0)
	if failed.str("row") != fmt.Sprint(clash) {
		n.t.Fatalf("want row %d: %s", clash, failed.body)
	}
	n.call("GET", "/rows/shop.orders/r010001", "").refused(404, "not_found")
	n.batch("shop.orders", body, idem, "resume").refused(409, "unique_violation").counts(chunkRows, 0)
	before := n.w.engine.Load().Visible().LSN
	n.call("DELETE", "/rows/shop.orders/holder", "").want(200)
	done := n.batch("shop.orders", body, idem, "resume").want(200).counts(chunkRows+1000, 0)
	if got := n.w.engine.Load().Visible().LSN - before; got != 2 { // the delete and the second chunk
		n.t.Fatalf("the repetition took %d frames, want 2: it wrote rows again that were in", got)
	}
	n.batch("shop.orders", body, idem, "resume").want(200).is(done.body)
	// The same rows as an array are the same batch.
	array := "[" + strings.Join(strings.Split(strings.TrimSpace(body), "\n"), ",") + "]"
	n.batch("shop.orders", array, idem, "resume").want(200).is(done.body)
}

func testBatchOtherBody(n *node) {
	n.call("POST", "/rows/shop.orders", `{"id":"holder2","email":"held2"}`).want(200)
	tail := map[int]string{chunkRows: `{"id":"clash2","email":"held2"}`}
	n.batch("shop.orders", lines(0, chunkRows+1, tail), idem, "other").refused(409, "unique_violation").counts(chunkRows, chunkRows)
	for what, body := range map[string]string{
		"a changed row that is in": lines(0, chunkRows+1, map[int]string{5: `{"id":"r000005","total":0}`}),
		"fewer rows than are in":   lines(0, 10, nil),
	} {
		if a := n.batch("shop.orders", body, idem, "other"); a.status != 409 || a.str("error") != "conflict" {
			n.t.Fatalf("%s: %d %s", what, a.status, a.body)
		}
	}
	n.call("POST", "/rows/shop.orders/_batch?expect=insert", lines(0, chunkRows+1, tail), idem, "other").refused(409, "conflict")
	// Rows behind what is in may change: they were never taken.
	whole := n.batch("shop.orders", lines(0, chunkRows+1, nil), idem, "other").want(200)
	n.batch("shop.orders", lines(0, chunkRows+2, nil), idem, "other").refused(409, "conflict")
	n.batch("shop.orders", lines(0, chunkRows+1, nil), idem, "other").want(200).is(whole.body)
}

// brokenReader gives its text and then fails, as a connection does.
type brokenReader struct{ io.Reader }

func (b brokenReader) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errors.New("connection reset")
	}
	return n, err
}

// testBatchCutOff: a body that breaks off keeps the whole chunks before it.
func testBatchCutOff(n *node) {
	body := string(flightRows(300_000, 2*chunkRows+5))
	path := "/v1/tenants/" + n.tenant + "/rows/air.flights/_batch"
	cut := brokenReader{strings.NewReader(body[:len(body)-100])}
	n.do(context.Background(), n.token, "POST", path, cut, idem, "cut").refused(400, "validation_failed").counts(2*chunkRows, 0)
	n.batch("air.flights", body, idem, "cut").want(200).counts(2*chunkRows+5, 0)
}

func testBatchInTx(n *node) {
	tx := n.call("POST", "/tx/begin", "").want(200).str("tx_id")
	n.batch("shop.orders", `[{"id":"x1"},{"id":"x2"}]`, api.HeaderTx, tx).want(200).counts(2, 0)
	bad := n.batch("shop.orders", `[{"id":"x3"},{"id":5}]`, api.HeaderTx, tx).refused(400, "type_mismatch").counts(0, 0)
	if bad.str("row") != "1" {
		n.t.Fatalf("row: %s", bad.body)
	}
	n.call("GET", "/rows/shop.orders/x1", "", api.HeaderTx, tx).want(200)
	n.call("GET", "/rows/shop.orders/x3", "", api.HeaderTx, tx).refused(404, "not_found")
	n.call("GET", "/rows/shop.orders/x1", "").refused(404, "not_found")
	n.batch("shop.orders", strings.Repeat(" ", 17<<20), api.HeaderTx, tx).refused(413, "body_too_large")
	if got := n.call("POST", "/tx/"+tx+"/commit", "").want(200).str("ops_committed"); got != "2" {
		n.t.Fatalf("ops_committed %s, want 2", got)
	}
	n.call("GET", "/rows/shop.orders/x1", "").want(200)
}

// testBatchTooLargeForFrame: rows with many long index entries make a chunk
// that no frame holds; it goes in by parts.
func testBatchTooLargeForFrame(n *node) {
	var m strings.Builder
	m.WriteString("namespace=\"lab\"\ntable=\"wide\"\nprimary_key=[\"k\"]\n[[columns]]\nname=\"k\"\nty=\"u64\"\n[[columns]]\nname=\"s\"\nty=\"str\"\n")
	for i := range 8 {
		fmt.Fprintf(&m, "[[columns]]\nname=\"c%d\"\nty=\"i64\"\n[[indexes]]\nname=\"i%d\"\ncolumns=[\"s\",\"c%d\"]\n", i, i, i)
	}
	n.register(m.String())
	text := strings.Repeat("t", 2000)
	var b strings.Builder
	const rows = 1200
	for i := range rows {
		fmt.Fprintf(&b, `{"k":%d,"s":"%s"}`+"\n", i, text)
	}
	before := n.w.engine.Load().Visible().LSN
	n.batch("lab.wide", b.String(), idem, "wide").want(200).counts(rows, 0)
	if got := n.w.engine.Load().Visible().LSN - before; got < 2 {
		n.t.Fatalf("%d frames; the chunk was meant to be too large for one", got)
	}
	n.batch("lab.wide", b.String(), idem, "wide").want(200).counts(rows, 0)
}

// testBatchSchemaChange: rows that were prepared before an index appeared are
// prepared again for it, and its entries are not missing.
func testBatchSchemaChange(n *node) {
	body, feed := io.Pipe()
	rows := flightRows(400_000, 2*runRows)
	answered := make(chan *answer, 1)
	go func() {
		answered <- n.do(context.Background(), n.token, "POST", "/v1/tenants/"+n.tenant+"/rows/air.flights/_batch", body)
	}()
	if _, err := feed.Write(rows); err != nil { // returns when all of it is read
		n.t.Fatal(err)
	}
	n.sql("CREATE INDEX by_destination ON air.flights (destination)").want(200)
	if err := feed.Close(); err != nil {
		n.t.Fatal(err)
	}
	(<-answered).want(200).counts(2*runRows, 0)
	count := n.sql("SELECT COUNT(*) AS c FROM air.flights WHERE destination = 'ATL'").want(200).str("rows")
	scan := n.sql("SELECT COUNT(*) AS c FROM air.flights WHERE CONCAT(destination, '') = 'ATL'").want(200).str("rows")
	if count != scan {
		n.t.Fatalf("the index finds %s, a scan %s", count, scan)
	}
}

// TestBatchMemory: batches that hold all the memory they may refuse another one.
func TestBatchMemory(t *testing.T) {
	b := budget{limit: 100}
	if !b.take(60) || !b.take(40) || b.take(1) {
		t.Fatal("the limit does not hold")
	}
	b.give(40)
	if !b.take(1) {
		t.Fatal("what was given back cannot be taken")
	}
	var c chunk
	small := budget{limit: 10}
	r := &run{raw: make([]byte, 100), ends: []int{100}}
	if err := c.add(r, &small); err == nil || c.charged != 0 || small.used.Load() != 0 {
		t.Fatalf("a run over the budget: %v, charged %d, used %d", err, c.charged, small.used.Load())
	}
}
