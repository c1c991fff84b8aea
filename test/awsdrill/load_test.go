package awsdrill

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"originchain/lambdas/local/drill"
	codes "originchain/shared/fault"
	"originchain/test/settle"
)

const (
	// clients write rows, one after the other, each with one attempt.
	clients = 4
	// attemptTimeout is how long a client waits for an answer: it asks for the writer's
	// address anew then.
	attemptTimeout = time.Second
)

// load is what clients do that find the writer by its name.
func (r *region) load() drill.Load {
	return drill.Load{Client: r.client(), Tenant: r.tenant, Name: "d", Writers: clients, Patience: attemptTimeout, Pace: settle.Every}
}

// steady is a load under which no other node is to write.
type steady struct {
	*drill.Loading
	r *region
}

func (r *region) steady() steady {
	r.t.Helper()
	l, err := r.load().Begin(r.t.Context())
	r.must(err)
	s := steady{l, r}
	s.writesOn()
	return s
}

// writesOn waits for an ack that is yet to come.
func (s steady) writesOn() {
	s.r.t.Helper()
	ctx, cancel := context.WithTimeoutCause(s.r.t.Context(), settle.Within, errors.New("no write is acknowledged any more"))
	defer cancel()
	_, err := s.First(ctx, time.Now(), 0)
	s.r.must(err)
}

// held ends the load, and checks what is there of it.
func (s steady) held() {
	s.r.t.Helper()
	var rep drill.Report
	s.r.must(s.End())
	s.r.must(s.Found(s.r.t.Context(), &rep))
	s.r.t.Logf("%d acknowledged, %v refused, %d unknown", rep.Acked, rep.Failed, rep.Unknown)
	s.r.there(rep)
}

// there holds the counts of a report against the rows that are there: all that was
// acknowledged, nothing that was refused, and nothing of which nobody was told.
func (r *region) there(rep drill.Report) {
	r.t.Helper()
	out, err := r.client().Select(r.t.Context(), r.tenant, "SELECT id FROM drill.writes")
	r.must(err)
	rows := map[string]bool{}
	for _, raw := range out.Rows {
		var row struct{ ID string }
		r.must(json.Unmarshal(raw, &row))
		rows[row.ID] = true
	}
	if n := rep.Failed[string(codes.ServerError)]; n > 0 {
		r.t.Errorf("%d answers say that a server is broken", n)
	}
	if len(rep.Lost) > 0 || len(rep.Phantoms) > 0 || rep.Acked == 0 || len(rows) < rep.Acked || len(rows) > rep.Acked+rep.Unknown {
		r.t.Errorf("%d rows are there, %d were acknowledged and %d are unknown; lost %v, and there though refused %v", len(rows), rep.Acked, rep.Unknown, rep.Lost, rep.Phantoms)
	}
}
