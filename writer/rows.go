package writer

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"originchain/shared/api"
	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/sql"
	"originchain/shared/table"
)

// prepareFor is for how long a write is prepared again when the table's schema
// changed between its preparation and its turn.
const prepareFor = 5 * time.Second

// preparing is a write that may have to be prepared again.
type preparing struct{ since time.Time }

// again says whether a write that failed is to be prepared once more, after a pause: a change
// of the schema is decided an fsync before it is visible, and whatever is prepared until then
// is refused as well.
func (p *preparing) again(ctx context.Context, err error) bool {
	if err == nil || !errors.Is(err, rows.ErrSchemaChanged) {
		return false
	}
	if p.since.IsZero() {
		p.since = time.Now()
	}
	if time.Since(p.since) >= prepareFor {
		return false
	}
	timer := time.NewTimer(lsnPoll)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *service) postRow(c *httpx.Call) error { return s.writeRow(c, "") }

func (s *service) putRow(c *httpx.Call) error { return s.writeRow(c, c.Path("pk")) }

// writeRow is POST, and PUT with the key that its path names. It is the hot
// path: one decode, one preparation and one commit, and an answer made by hand.
func (s *service) writeRow(c *httpx.Call, pk string) error {
	expect, err := expectation(c)
	if err != nil {
		return err
	}
	body, err := c.Body()
	if err != nil {
		return err
	}
	key, err := keyOf(c, body)
	if err != nil {
		return err
	}
	if tx := c.RequestHeader(api.HeaderTx); tx != "" {
		return s.inTx(c, tx, key, func(t sql.Tx) ([]byte, error) { return s.bufferRow(c, t, pk, body, expect) })
	}
	var p preparing
	for {
		if err := s.commitRow(c, pk, body, expect, &key); !p.again(c.Context(), err) {
			return err
		}
	}
}

func (s *service) commitRow(c *httpx.Call, pk string, body []byte, expect rows.Expect, key *requestKey) error {
	if err := s.checkQuota(c.Identity); err != nil {
		return s.orFirst(c, key, err)
	}
	cat, err := s.engine.Catalog(c.Identity.Tenant)
	if err != nil {
		return err
	}
	p, err := s.prepareRow(cat, c.Path("schema"), pk, body)
	if err != nil {
		return s.orFirst(c, key, err)
	}
	began := time.Now()
	out, err := s.engine.Commit(c.Context(), engine.Proposal{
		Tenant: c.Identity.Tenant,
		Build: func(b *rows.Builder) error {
			_, err := b.Put(p, expect)
			return err
		},
		Idem: key.engine(http.StatusOK, func(at lsn.Pos) []byte { return writtenRow(nil, p, at.LSN, at.LSN) }),
	})
	if err != nil {
		return err
	}
	s.metrics.commit.Observe(time.Since(began).Seconds())
	if out.Stored != nil {
		return s.sendStored(c, out.Stored)
	}
	s.setCommitted(c, out.Pos)
	var buf [256]byte
	return c.Send(http.StatusOK, api.ContentTypeJSON, writtenRow(buf[:0], p, out.Pos.LSN, out.Pos.LSN))
}

// bufferRow writes a row inside a transaction. Its version is 0 until the
// transaction commits.
func (s *service) bufferRow(c *httpx.Call, t sql.Tx, pk string, body []byte, expect rows.Expect) ([]byte, error) {
	cat, err := t.Catalog()
	if err != nil {
		return nil, err
	}
	p, err := s.prepareRow(cat, c.Path("schema"), pk, body)
	if err != nil {
		return nil, err
	}
	if _, err := t.Put(p, expect); err != nil {
		return nil, err
	}
	return writtenRow(nil, p, t.Pos().LSN, table.RowVersionPending), nil
}

// prepareRow decodes a row and does everything that needs no state. pk is the
// key that the path names, or "".
func (s *service) prepareRow(cat *table.Catalog, name, pk string, body []byte) (*rows.Prepared, error) {
	t, err := cat.Table(name)
	if err != nil {
		return nil, err
	}
	row, err := t.DecodeJSON(body, nil)
	if pk != "" {
		row, err = underKey(t, pk, body, row, err)
	}
	if err != nil {
		return nil, err
	}
	checks, err := s.checksOf(t)
	if err != nil {
		return nil, err
	}
	return rows.Prepare(t, row, checks)
}

// underKey holds a decoded row to the key of its path. A body that leaves the
// key out gets it from there. failed is what decoding the body said.
func underKey(t *table.Table, pk string, body []byte, row schema.Row, failed error) (schema.Row, error) {
	v, err := t.ParsePK(pk)
	if err != nil {
		return nil, err
	}
	column := &t.Columns[t.PK[0]]
	if failed == nil && row[t.PK[0]].Equal(v) {
		return row, nil
	}
	if failed != nil && !lacks(failed, column.Name) {
		return nil, failed
	}
	if failed != nil || !column.Default.IsNull() {
		// The key is missing, or may be: a default could stand in for it. Decoding
		// again with the key in the body tells, since a key given twice is refused.
		row, err = t.DecodeJSON(withMember(body, column.Name, v), row)
		switch given := fault.CodeOf(err) == fault.InvalidJSON; {
		case failed != nil && given:
			return nil, failed // the body says null
		case failed != nil || !given:
			return row, err
		}
	}
	return nil, fault.New(fault.ValidationFailed, "the path names another row than column %q of the body; make them agree, or leave the column out", column.Name).With("column", column.Name)
}

// lacks says whether err is the missing_column of this column.
func lacks(err error, column string) bool {
	f := fault.From(err)
	if f.Code != fault.MissingColumn {
		return false
	}
	names, _ := f.Fields["columns"].([]string)
	for _, n := range names {
		if n == column {
			return true
		}
	}
	return false
}

// withMember puts a member at the front of a JSON object that was valid.
func withMember(object []byte, name string, v schema.Value) []byte {
	inside := bytes.TrimLeft(object, " \t\r\n")[1:]
	out := make([]byte, 0, len(object)+len(name)+64)
	out = append(out, '{')
	out = schema.AppendValueJSON(out, schema.Str(name))
	out = append(out, ':')
	out = schema.AppendValueJSON(out, v)
	if rest := bytes.TrimLeft(inside, " \t\r\n"); len(rest) > 0 && rest[0] != '}' {
		out = append(out, ',')
	}
	return append(out, inside...)
}

// writtenRow appends the answer of a written row: {"schema","pk","lsn","version"}.
func writtenRow(dst []byte, p *rows.Prepared, at, version lsn.LSN) []byte {
	t := p.Table
	dst = append(dst, `{"schema":"`...)
	dst = append(dst, t.Table.ID...) // identifiers need no escape
	dst = append(dst, `","pk":`...)
	dst = schema.AppendValueJSON(dst, schema.Str(formatPK(t, p.Row)))
	dst = append(dst, `,"lsn":`...)
	dst = strconv.AppendUint(dst, uint64(at), 10)
	dst = append(dst, `,"version":`...)
	dst = strconv.AppendUint(dst, uint64(version), 10)
	return append(dst, '}')
}

func formatPK(t *table.Table, row schema.Row) string {
	if len(t.PK) == 1 {
		return row[t.PK[0]].String()
	}
	values := make([]schema.Value, len(t.PK))
	for i, c := range t.PK {
		values[i] = row[c]
	}
	return schema.FormatPK(values)
}

// readBuffers lends a row and an answer to reads.
var readBuffers = sync.Pool{New: func() any { return new(readBuffer) }}

type readBuffer struct {
	row  schema.Row
	json []byte
}

// maxReadBufferBytes keeps one large row from pinning its memory for good.
const maxReadBufferBytes = 64 << 10

// getRow reads one row of the newest visible state, or of a transaction.
func (s *service) getRow(c *httpx.Call) error {
	if err := s.awaitPosition(c); err != nil {
		return err
	}
	if tx := c.RequestHeader(api.HeaderTx); tx != "" {
		return s.sql.Use(c.Identity.Tenant, tx, func(t sql.Tx) error {
			cat, err := t.Catalog()
			if err != nil {
				return err
			}
			return s.sendRow(c, cat, t, func(lsn.LSN) (lsn.Pos, error) { return t.Pos(), nil })
		})
	}
	cat, err := s.engine.Catalog(c.Identity.Tenant)
	if err != nil {
		return err
	}
	return s.sendRow(c, cat, s.engine.View(), s.readPosition)
}

func (s *service) sendRow(c *httpx.Call, cat *table.Catalog, view table.View, position func(lsn.LSN) (lsn.Pos, error)) error {
	want, given, err := ifMatch(c)
	if err != nil {
		return err
	}
	t, key, err := rowKey(cat, c.Path("schema"), c.Path("pk"))
	if err != nil {
		return err
	}
	buf := readBuffers.Get().(*readBuffer)
	defer func() {
		if cap(buf.json) <= maxReadBufferBytes {
			readBuffers.Put(buf)
		}
	}()
	row, version, ok, err := table.GetRow(view, t, key, buf.row)
	if err != nil {
		return err
	}
	at, err := position(version)
	if err != nil {
		return err
	}
	c.SetPosition(at)
	switch {
	case !ok:
		return fault.New(fault.NotFound, "table %s has no row with this primary key", t.Table.ID)
	case given && version != want:
		return fault.New(fault.VersionMismatch, "the row of table %s has version %d, not %d", t.Table.ID, version, want).With("current_version", uint64(version))
	}
	buf.row = row
	buf.json = t.AppendJSON(buf.json[:0], row)
	c.ResponseHeader()["Etag"] = []string{`"` + strconv.FormatUint(uint64(version), 10) + `"`}
	return c.Send(http.StatusOK, api.ContentTypeJSON, buf.json)
}

func rowKey(cat *table.Catalog, name, pk string) (*table.Table, []byte, error) {
	t, err := cat.Table(name)
	if err != nil {
		return nil, nil, err
	}
	v, err := t.ParsePK(pk)
	if err != nil {
		return nil, nil, err
	}
	key, err := table.RowKeyOf(make([]byte, 0, 64), t, []schema.Value{v})
	return t, key, err
}

// deleteRow removes one row; that there was none is an answer, not an error.
func (s *service) deleteRow(c *httpx.Call) error {
	if c.Query("expect") != "" {
		return fault.New(fault.ValidationFailed, "expect is for writing a row; a DELETE takes If-Match")
	}
	expect, err := expectation(c)
	if err != nil {
		return err
	}
	key, err := keyOf(c, nil)
	if err != nil {
		return err
	}
	if tx := c.RequestHeader(api.HeaderTx); tx != "" {
		return s.inTx(c, tx, key, func(t sql.Tx) ([]byte, error) {
			cat, err := t.Catalog()
			if err != nil {
				return nil, err
			}
			tbl, rowKey, err := rowKey(cat, c.Path("schema"), c.Path("pk"))
			if err != nil {
				return nil, err
			}
			existed, err := t.Delete(tbl, rowKey, expect)
			return deletedRow(existed), err
		})
	}
	var p preparing
	for {
		if err := s.commitDelete(c, expect, &key); !p.again(c.Context(), err) {
			return err
		}
	}
}

func (s *service) commitDelete(c *httpx.Call, expect rows.Expect, key *requestKey) error {
	cat, err := s.engine.Catalog(c.Identity.Tenant)
	if err != nil {
		return err
	}
	t, rowKey, err := rowKey(cat, c.Path("schema"), c.Path("pk"))
	if err != nil {
		return s.orFirst(c, key, err)
	}
	var existed bool
	out, err := s.engine.Commit(c.Context(), engine.Proposal{
		Tenant: c.Identity.Tenant,
		Build: func(b *rows.Builder) (err error) {
			existed, err = b.Delete(t, rowKey, expect)
			return err
		},
		Idem: key.engine(http.StatusOK, func(lsn.Pos) []byte { return deletedRow(existed) }),
	})
	if err != nil {
		return err
	}
	if out.Stored != nil {
		return s.sendStored(c, out.Stored)
	}
	s.setCommitted(c, out.Pos)
	return c.Send(http.StatusOK, api.ContentTypeJSON, deletedRow(existed))
}

func deletedRow(existed bool) []byte {
	return append(strconv.AppendBool([]byte(`{"deleted":`), existed), '}')
}

// expectation reads what a write requires of the row that is there: expect=insert
// or If-Match, not both.
func expectation(c *httpx.Call) (rows.Expect, error) {
	version, given, err := ifMatch(c)
	if err != nil {
		return rows.Any(), err
	}
	switch e := c.Query("expect"); {
	case e == "" && given:
		return rows.Version(version), nil
	case e == "":
		return rows.Any(), nil
	case e != "insert":
		return rows.Any(), fault.New(fault.ValidationFailed, "expect=%s is not known; expect=insert refuses a row that exists", clip(e)).With("field", "expect")
	case given:
		return rows.Any(), fault.New(fault.ValidationFailed, "expect=insert wants no row and If-Match wants one; send one of them")
	}
	return rows.Absent(), nil
}

// ifMatch reads a row version as an entity tag or plain: "7", 7.
func ifMatch(c *httpx.Call) (version lsn.LSN, given bool, err error) {
	text := strings.TrimSpace(c.RequestHeader(api.HeaderIfMatch))
	if text == "" {
		return 0, false, nil
	}
	if n := len(text); n >= 2 && text[0] == '"' && text[n-1] == '"' {
		text = text[1 : n-1]
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, false, fault.New(fault.ValidationFailed, "If-Match takes one row version, as the ETag of a GET or the version of a write gives it").With("field", api.HeaderIfMatch)
	}
	return lsn.LSN(v), true, nil
}

// clip keeps a client's text short enough to be quoted in a message.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
