package writer

import (
	"context"
	"net/http"
	"strings"

	"github.com/oklog/ulid/v2"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/lsn"
	"originchain/shared/sql"
)

// postSQL runs one statement. It has an id from its start, under which it can be
// cancelled.
func (s *service) postSQL() httpx.Handler {
	envelope := httpx.NewEnvelope[api.SQLRequest]()
	return func(c *httpx.Call) error {
		body, err := c.Body()
		if err != nil {
			return err
		}
		in, err := envelope.Decode(body)
		if err != nil {
			return err
		}
		var key requestKey
		if !onlyReads(in.SQL) {
			if key, err = keyOf(c, body); err != nil {
				return err
			}
		}
		if err := s.awaitPosition(c); err != nil {
			return err
		}
		ctx, done, err := s.queries.begin(c)
		if err != nil {
			return err
		}
		defer done()
		s.metrics.sqlBusy.Inc()
		defer s.metrics.sqlBusy.Dec()
		req := sql.Request{Tenant: c.Identity.Tenant, SQL: in.SQL, Params: in.Params, TxID: c.RequestHeader(api.HeaderTx), Idem: key.sql()}
		return s.once(ctx, c, req.TxID, &key, func() (*sql.Result, error) {
			if err := s.checkStatementQuota(c, in.SQL); err != nil {
				return nil, err
			}
			res, err := s.sql.Execute(ctx, req)
			s.countStatement(res, err)
			return res, err
		})
	}
}

func (s *service) countStatement(res *sql.Result, err error) {
	kind := "error"
	if err == nil {
		kind = res.Kind
	}
	s.metrics.sqlTotal.WithLabelValues(kind).Inc()
}

// once runs a statement, or repeats the answer that the same request got
// before, and sends it. A repetition waits until the first has ended.
func (s *service) once(ctx context.Context, c *httpx.Call, tx string, key *requestKey, run func() (*sql.Result, error)) error {
	owner := c.Identity.Tenant
	leave, err := s.flights.enter(ctx, owner, key)
	if err != nil {
		return err
	}
	defer leave()
	if sent, err := s.repeat(c, tx, key); sent || err != nil {
		return err
	}
	res, err := run()
	if err != nil {
		return err
	}
	body := res.AppendJSON(nil)
	if err := s.keep(ctx, owner, tx, key, res, body); err != nil {
		return err
	}
	s.setResultPosition(c, res.Pos)
	if res.Kind != api.KindSelect && res.Kind != api.KindExplain {
		s.markDegraded(c, res.Pos.LSN)
	}
	return c.Send(http.StatusOK, api.ContentTypeJSON, body)
}

// setResultPosition names where a result stands; one that read nothing stands
// where the node does.
func (s *service) setResultPosition(c *httpx.Call, p lsn.Pos) {
	if p.LSN == 0 {
		p = s.engine.Visible()
	}
	c.SetPosition(p)
}

// repeat sends the first answer of a repeated request: from the transaction,
// from the begun ones, or from the log.
func (s *service) repeat(c *httpx.Call, tx string, key *requestKey) (sent bool, err error) {
	if !key.given() {
		return false, nil
	}
	owner := c.Identity.Tenant
	body, ok, err := s.buffered.find(owner, tx, key)
	if err != nil {
		return false, err
	}
	if ok {
		c.SetPosition(s.engine.Visible())
		return true, c.Send(http.StatusOK, api.ContentTypeJSON, body)
	}
	if body, ok, err = s.begun.find(owner, key, s.alive); err != nil {
		return false, err
	}
	if ok {
		c.SetPosition(s.engine.Visible())
		return true, c.Send(http.StatusOK, api.ContentTypeJSON, body)
	}
	first, err := s.firstAnswer(owner, key)
	if err != nil || first == nil {
		return false, err
	}
	return true, s.sendStored(c, first)
}

// keep stores the answer of a keyed request that changed something, where its
// commit has not done so. Reads are never kept.
func (s *service) keep(ctx context.Context, owner ulid.ULID, tx string, key *requestKey, res *sql.Result, body []byte) error {
	if !key.given() {
		return nil
	}
	switch res.Kind {
	case api.KindSelect, api.KindExplain:
		return nil
	case api.KindInsert, api.KindUpdate, api.KindDelete:
		if tx != "" {
			s.buffered.add(tx, owner, key, body, s.alive)
		}
		return nil
	case api.KindTx:
		switch res.Op {
		case api.TxBegin:
			s.begun.add(owner, key, res.TxID, body, s.alive)
			return nil
		case api.TxCommit, api.TxNoop:
			return nil
		}
	}
	// Changes of tables take frames of their own, and a rollback takes none.
	return s.storeAnswer(context.WithoutCancel(ctx), owner, key, http.StatusOK, body)
}

// checkStatementQuota holds statements that can add rows to the tenant's tier.
func (s *service) checkStatementQuota(c *httpx.Call, text string) error {
	switch firstWord(text) {
	case "insert", "replace", "update":
		return s.checkQuota(c.Identity)
	}
	return nil
}

// onlyReads says that a statement cannot change anything, by its first word.
// WITH can begin both, so it counts as one that changes: that costs it a lookup
// of its key and nothing else.
func onlyReads(text string) bool {
	switch firstWord(text) {
	case "select", "explain", "describe", "desc", "show", "values", "table":
		return true
	}
	return false
}

// firstWord is the first word of a statement, in lower case, behind space,
// comments and opening parentheses.
func firstWord(text string) string {
	for text != "" {
		switch {
		case strings.ContainsRune(" \t\r\n(", rune(text[0])):
			text = text[1:]
		case strings.HasPrefix(text, "--"), text[0] == '#':
			_, text, _ = strings.Cut(text, "\n")
		case strings.HasPrefix(text, "/*"):
			_, text, _ = strings.Cut(text[2:], "*/")
		default:
			end := strings.IndexFunc(text, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
			if end < 0 {
				end = len(text)
			}
			return strings.ToLower(text[:end])
		}
	}
	return ""
}

// noBody refuses a body where none is expected but {} or nothing.
func noBody(body []byte) error {
	if t := strings.TrimSpace(string(body)); t != "" && t != "{}" {
		return fault.New(fault.InvalidEnvelope, "this call takes no fields; send no body, or {}")
	}
	return nil
}
