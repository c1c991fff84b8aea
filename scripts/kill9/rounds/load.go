package rounds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"originchain/scripts/call"
	"originchain/shared/api"
)

const writesManifest = `namespace = "kill9"
table = "writes"
primary_key = ["id"]

[[columns]]
name = "id"
ty = "str"
required = true

[[columns]]
name = "client"
ty = "i64"
required = true

[[columns]]
name = "n"
ty = "i64"
required = true

[[columns]]
name = "body"
ty = "str"

[[indexes]]
name = "by_client_and_n"
columns = ["client", "n"]
unique = true

[[indexes]]
name = "by_body"
columns = ["body"]
`

const registersManifest = `namespace = "kill9"
table = "registers"
primary_key = ["client"]

[[columns]]
name = "client"
ty = "i64"
required = true

[[columns]]
name = "n"
ty = "i64"
required = true
`

const (
	writesID    = "kill9.writes"
	registersID = "kill9.registers"
	// batchRows is the size of a batch: one chunk, so one frame.
	batchRows    = 20
	maxBodyBytes = 400
)

// row is one row of kill9.writes.
type row struct {
	ID     string `json:"id"`
	Client int64  `json:"client"`
	N      int64  `json:"n"`
	Body   string `json:"body"`
}

// register is one row of kill9.registers: each client's newest number.
type register struct {
	Client int64 `json:"client"`
	N      int64 `json:"n"`
}

// write is one request, to be sent again as it is.
type write struct {
	request  call.Request
	rows     []row     // written to kill9.writes
	register *register // or written to kill9.registers
	status   int       // 0: not answered
	answer   []byte
}

func (w *write) acked() bool { return w.status != 0 }

// load runs all clients for life, then kills the server under them. It returns
// every write that was sent.
func (r *run) load(ctx context.Context, n int, life time.Duration) ([]*write, error) {
	sent := make([][]*write, r.Clients)
	errs := make([]error, r.Clients)
	var clients sync.WaitGroup
	for c := range r.Clients {
		rng := rand.New(rand.NewPCG(r.Seed, uint64(n)<<32|uint64(c)))
		clients.Go(func() { sent[c], errs[c] = r.writeUntilKilled(ctx, rng, n, int64(c)) })
	}
	timer := time.NewTimer(life)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	err := r.server.Kill()
	clients.Wait()
	var all []*write
	for _, s := range sent {
		all = append(all, s...)
	}
	return all, errors.Join(errors.Join(errs...), err, ctx.Err())
}

// writeUntilKilled sends one write after another until one is not answered.
func (r *run) writeUntilKilled(ctx context.Context, rng *rand.Rand, round int, client int64) (sent []*write, err error) {
	for {
		w, err := r.next(rng, round, client, len(sent))
		if err != nil {
			return sent, err
		}
		sent = append(sent, w)
		resp, err := r.client.Do(ctx, w.request)
		if err != nil {
			return sent, nil // the kill; what became of w is seen after the restart
		}
		if resp.Status < 200 || resp.Status > 299 {
			return sent, fmt.Errorf("%s %s was refused: %d %s", w.request.Method, w.request.Path, resp.Status, resp.Body)
		}
		w.status, w.answer = resp.Status, resp.Body
	}
}

// next makes a client's next write. Numbers go on from round to round.
func (r *run) next(rng *rand.Rand, round int, client int64, i int) (*write, error) {
	base := "/v1/tenants/" + r.tenant + "/rows/"
	key := []string{api.HeaderIdempotencyKey, fmt.Sprintf("k9-%d-%d-%d-%d", r.Seed, round, client, i)}
	switch pick := rng.IntN(10); {
	case pick < 2:
		reg := &register{Client: client, N: r.model.take(client)}
		body, err := json.Marshal(reg)
		return &write{register: reg, request: call.Request{
			Method: http.MethodPut, Path: base + registersID + "/" + fmt.Sprint(client), ContentType: api.ContentTypeJSON, Body: body, Header: key,
		}}, err
	case pick == 2:
		rows := make([]row, batchRows)
		for j := range rows {
			rows[j] = r.newRow(rng, round, client)
		}
		body, err := call.NDJSON(rows)
		return &write{rows: rows, request: call.Request{
			Method: http.MethodPost, Path: base + writesID + "/_batch", ContentType: api.ContentTypeNDJSON, Body: body, Header: key,
		}}, err
	}
	one := r.newRow(rng, round, client)
	body, err := json.Marshal(one)
	return &write{rows: []row{one}, request: call.Request{
		Method: http.MethodPost, Path: base + writesID + "?expect=insert", ContentType: api.ContentTypeJSON, Body: body, Header: key,
	}}, err
}

func (r *run) newRow(rng *rand.Rand, round int, client int64) row {
	n := r.model.take(client)
	return row{
		ID: fmt.Sprintf("%s%04d-%09d", roundPrefix(round), client, n), Client: client, N: n,
		Body: strings.Repeat(string(rune('a'+rng.IntN(26))), rng.IntN(maxBodyBytes)),
	}
}

// roundPrefix starts the key of every row of a round, so that one range holds them.
func roundPrefix(round int) string { return fmt.Sprintf("r%06d-", round) }
