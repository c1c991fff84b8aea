package rounds

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"originchain/shared/api"
)

// repeatedKeys is how many acknowledged writes of a round are sent again.
const repeatedKeys = 20

// model is what must be there: every acknowledged row and register.
type model struct {
	rows      map[string]row
	registers map[int64]int64
	numbers   []int64 // the last number each client took
}

func newModel(clients int) *model {
	return &model{rows: map[string]row{}, registers: map[int64]int64{}, numbers: make([]int64, clients)}
}

// take gives a client its next number. Each client has one goroutine.
func (m *model) take(client int64) int64 {
	m.numbers[client]++
	return m.numbers[client]
}

func (m *model) apply(w *write) {
	for _, row := range w.rows {
		m.rows[row.ID] = row
	}
	if w.register != nil {
		m.registers[w.register.Client] = w.register.N
	}
}

// check compares what the restarted server has with what was sent, then sends
// the unanswered writes, and some answered ones, again. It returns how many of
// the unanswered ones had survived.
func (r *run) check(ctx context.Context, n int, writes []*write) (kept int, err error) {
	found, err := r.readRows(ctx, "id >= '"+roundPrefix(n)+"' AND id < '"+roundPrefix(n+1)+"'")
	if err != nil {
		return 0, err
	}
	registers, err := r.readRegisters(ctx)
	if err != nil {
		return 0, err
	}
	known := map[string]bool{}
	for _, w := range writes {
		survived, err := r.checkWrite(w, found, registers)
		if err != nil {
			return kept, err
		}
		if survived && !w.acked() {
			kept++
		}
		for _, row := range w.rows {
			known[row.ID] = true
		}
	}
	for id := range found {
		if !known[id] {
			return kept, fmt.Errorf("the server has row %s, which nobody sent", id)
		}
	}
	for client, want := range r.model.registers {
		if got, ok := registers[client]; !ok || got < want {
			return kept, fmt.Errorf("register %d: %d was acknowledged, the server has %d (present: %t)", client, want, got, ok)
		}
	}
	return kept, r.repeat(ctx, writes)
}

// checkWrite checks one write against what was found, and takes it into the
// model when it is acknowledged.
func (r *run) checkWrite(w *write, found map[string]row, registers map[int64]int64) (survived bool, err error) {
	present := 0
	for _, want := range w.rows {
		got, ok := found[want.ID]
		if ok && got != want {
			return false, fmt.Errorf("row %s is not what was written: %+v, want %+v", want.ID, got, want)
		}
		if ok {
			present++
		}
	}
	if present != 0 && present != len(w.rows) {
		return false, fmt.Errorf("batch from row %s is torn: %d of its %d rows are there", w.rows[0].ID, present, len(w.rows))
	}
	survived = present > 0
	if w.register != nil {
		survived = registers[w.register.Client] >= w.register.N
	}
	if w.acked() {
		if !survived {
			return false, fmt.Errorf("an acknowledged write is lost: %s %s %s", w.request.Method, w.request.Path, w.request.Body)
		}
		r.model.apply(w)
	}
	return survived, nil
}

// repeat sends every unanswered write again: it must succeed, whether or not it
// survived. Of the answered ones it repeats the last few, which a kill is most
// likely to hurt: each must get its first answer, byte for byte. The same key
// with another body must be refused.
func (r *run) repeat(ctx context.Context, writes []*write) error {
	repeated := 0
	for i := len(writes) - 1; i >= 0; i-- {
		w := writes[i]
		if w.acked() && repeated == repeatedKeys {
			continue
		}
		resp, err := r.client.Do(ctx, w.request)
		if err != nil {
			return err
		}
		if resp.Status < 200 || resp.Status > 299 {
			return fmt.Errorf("repeating %s %s: %d %s", w.request.Method, w.request.Path, resp.Status, resp.Body)
		}
		if !w.acked() {
			w.status, w.answer = resp.Status, resp.Body
			r.model.apply(w)
			continue
		}
		repeated++
		if resp.Status != w.status || !bytes.Equal(bytes.TrimSpace(resp.Body), bytes.TrimSpace(w.answer)) {
			return fmt.Errorf("key %v: first answer %d %s, repeated %d %s", w.request.Header, w.status, w.answer, resp.Status, resp.Body)
		}
	}
	return r.misuse(ctx, writes)
}

// misuse sends one used key with another body.
func (r *run) misuse(ctx context.Context, writes []*write) error {
	for _, w := range writes {
		if len(w.rows) != 1 {
			continue
		}
		other := w.rows[0]
		other.ID += "-other"
		req := w.request
		var err error
		if req.Body, err = json.Marshal(other); err != nil {
			return err
		}
		resp, err := r.client.Do(ctx, req)
		if err != nil {
			return err
		}
		if resp.Status != http.StatusConflict {
			return fmt.Errorf("key %v with another body: want 409, got %d %s", req.Header, resp.Status, resp.Body)
		}
		return nil
	}
	return nil
}

// checkAll compares every row of all rounds, the registers and the counters.
func (r *run) checkAll(ctx context.Context) error {
	found, err := r.readRows(ctx, "id >= ''")
	if err != nil {
		return err
	}
	registers, err := r.readRegisters(ctx)
	if err != nil {
		return err
	}
	var faults []error
	for id, want := range r.model.rows {
		if got, ok := found[id]; !ok || got != want {
			faults = append(faults, fmt.Errorf("row %s: want %+v, got %+v (present: %t)", id, want, got, ok))
		}
	}
	for client, want := range r.model.registers {
		if got := registers[client]; got != want {
			faults = append(faults, fmt.Errorf("register %d: want %d, got %d", client, want, got))
		}
	}
	var usage api.Usage
	if err := r.client.Get(ctx, "/v1/tenants/"+r.tenant+"/usage", &usage); err != nil {
		return err
	}
	if got, want := usage.Used.Rows, uint64(len(r.model.rows)+len(r.model.registers)); got != want || len(found) != len(r.model.rows) {
		faults = append(faults, fmt.Errorf("the counter says %d rows and a scan finds %d in %s; %d and %d were acknowledged", got, len(found), writesID, want, len(r.model.rows)))
	}
	return errors.Join(faults...)
}

func (r *run) readRows(ctx context.Context, where string) (map[string]row, error) {
	out, err := r.client.Select(ctx, r.tenant, "SELECT id, client, n, body FROM "+writesID+" WHERE "+where)
	if err != nil {
		return nil, err
	}
	rows := make(map[string]row, len(out.Rows))
	for _, raw := range out.Rows {
		var one row
		if err := json.Unmarshal(raw, &one); err != nil {
			return nil, err
		}
		if _, twice := rows[one.ID]; twice {
			return nil, fmt.Errorf("the scan returned row %s twice", one.ID)
		}
		rows[one.ID] = one
	}
	return rows, nil
}

func (r *run) readRegisters(ctx context.Context) (map[int64]int64, error) {
	out, err := r.client.Select(ctx, r.tenant, "SELECT client, n FROM "+registersID)
	if err != nil {
		return nil, err
	}
	registers := make(map[int64]int64, len(out.Rows))
	for _, raw := range out.Rows {
		var one register
		if err := json.Unmarshal(raw, &one); err != nil {
			return nil, err
		}
		registers[one.Client] = one.N
	}
	return registers, nil
}
