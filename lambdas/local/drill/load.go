// Package drill loads an instance through its stable endpoint, keeps account of what
// was acknowledged and when, and holds that against what is there in the end. It knows
// nothing of how a fault is made.
package drill

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/shared/fault"
)

// table is what a drill writes to; its rows stay, as what was acknowledged must.
const (
	table    = "drill.writes"
	manifest = `namespace   = "drill"
table       = "writes"
primary_key = ["id"]
version     = 1

[[columns]]
name     = "id"
ty       = "str"
required = true

[[columns]]
name     = "n"
ty       = "i64"
required = true
`
)

const (
	// requestTimeout bounds one request where nothing else is said, longer than the endpoint holds any.
	requestTimeout = 30 * time.Second
	// breath is the pause of a client after a refusal.
	breath = 20 * time.Millisecond
)

// Load is who writes.
type Load struct {
	Client *call.Client
	Tenant string
	// Name begins the key of every row: no two drills have the same.
	Name string
	// Writers write at the same time, one row after the other.
	Writers int
	// Beside, if any, is the way of one client more that has the writer's own address:
	// where a fault cuts the writer off, it is on the writer's side.
	Beside *call.Client
	// Patience is how long a writer waits for an answer; 0 is longer than the endpoint holds
	// any. Whoever finds the writer by its name and not through an endpoint has to give up
	// before they look the name up anew.
	Patience time.Duration
	// Pace is the pause of a writer after an ack; 0 is none.
	Pace time.Duration
}

// Loading is a load under way.
type Loading struct {
	load            Load
	account, beside *Account
	stop            context.CancelFunc
	ended           chan error
}

// Begin makes the table, and writes until End, or ctx ends.
func (l Load) Begin(ctx context.Context) (*Loading, error) {
	if err := l.register(ctx); err != nil {
		return nil, err
	}
	loading, stop := context.WithCancel(ctx)
	r := &Loading{load: l, account: newAccount(), beside: newAccount(), stop: stop, ended: make(chan error, 1)}
	go func() { r.ended <- l.run(loading, r.account, r.beside) }()
	return r, nil
}

// First waits for an ack that was received after a moment, in an epoch above one.
func (r *Loading) First(ctx context.Context, after time.Time, above uint64) (Ack, error) {
	return r.account.first(ctx, after, above)
}

// End has the writes that are under way answered, and no more are begun. It is called once;
// its error is one that is no fault of the instance.
func (r *Loading) End() error {
	r.stop()
	return <-r.ended
}

// Found puts into a report what became of the writes of a load that has ended.
func (r *Loading) Found(ctx context.Context, into *Report) error {
	into.Acked, into.Unknown, into.Failed = r.account.counts()
	if r.load.Beside != nil {
		into.Beside = new(Beside)
		into.Beside.Acked, into.Beside.Unknown, into.Beside.Failed = r.beside.counts()
	}
	lost, phantoms, err := r.load.held(ctx, r.account, r.beside)
	into.Lost, into.Phantoms = append(into.Lost, lost...), append(into.Phantoms, phantoms...)
	return err
}

// Ack is an acknowledged write: the row ID with the number N.
type Ack struct {
	ID    string
	N     int
	At    time.Time
	Epoch uint64
	LSN   uint64
}

// Account is what became of the writes.
type Account struct {
	mu sync.Mutex
	// acks are in the order in which they arrived.
	acks []Ack
	// failed are answers that say that nothing was written, by what they say, and refused
	// the rows that they were about; unknown are writes of which nobody knows.
	failed  map[string]int
	refused []string
	unknown int
	fresh   chan struct{} // closed, and made anew, with each ack
}

func newAccount() *Account {
	return &Account{failed: make(map[string]int), fresh: make(chan struct{})}
}

func (a *Account) acked(ack Ack) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acks = append(a.acks, ack)
	close(a.fresh)
	a.fresh = make(chan struct{})
}

func (a *Account) refusal(id, code string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failed[code]++
	a.refused = append(a.refused, id)
}

func (a *Account) lost() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unknown++
}

// counts are what came of the writes up to now.
func (a *Account) counts() (acked, unknown int, failed map[string]int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.acks), a.unknown, maps.Clone(a.failed)
}

// epoch is the highest of an ack.
func (a *Account) epoch() (highest uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ack := range a.acks {
		highest = max(highest, ack.Epoch)
	}
	return highest
}

// first waits for an ack that was received after a moment, in an epoch above one.
func (a *Account) first(ctx context.Context, after time.Time, above uint64) (Ack, error) {
	for seen := 0; ; {
		a.mu.Lock()
		fresh, acks := a.fresh, a.acks[seen:]
		seen += len(acks)
		a.mu.Unlock()
		for _, ack := range acks {
			if ack.At.After(after) && ack.Epoch > above {
				return ack, nil
			}
		}
		select {
		case <-fresh:
		case <-ctx.Done():
			return Ack{}, context.Cause(ctx)
		}
	}
}

// pause is the longest time without an ack between two moments.
func (a *Account) pause(from, to time.Time) (longest time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := from
	for _, ack := range a.acks {
		if ack.At.After(from) {
			longest = max(longest, ack.At.Sub(last))
			last = ack.At
		}
	}
	return max(longest, to.Sub(last))
}

// run writes until ctx ends. Its error is one that is no fault of the instance.
func (l *Load) run(ctx context.Context, into, beside *Account) error {
	g := new(errgroup.Group)
	write := func(by string, through *call.Client, into *Account) {
		g.Go(func() error {
			for n := 0; ctx.Err() == nil; n++ {
				if err := l.write(ctx, through, l.Name+"-"+by+"-"+strconv.Itoa(n), n, into); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for w := range l.Writers {
		write(strconv.Itoa(w), l.Client, into)
	}
	if l.Beside != nil {
		write("beside", l.Beside, beside)
	}
	return g.Wait()
}

// write writes one row. It is not tried again: the drill is to see what a client sees.
func (l *Load) write(ctx context.Context, through *call.Client, id string, n int, into *Account) error {
	body, err := json.Marshal(map[string]any{"id": id, "n": n})
	if err != nil {
		return err
	}
	// A write that is under way when the load ends gets its answer.
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), cmp.Or(l.Patience, requestTimeout))
	defer cancel()
	resp, err := through.Do(asking, call.Request{
		Method: http.MethodPost, Path: "/v1/tenants/" + l.Tenant + "/rows/" + table, ContentType: "application/json", Body: body,
		Header: []string{api.HeaderIdempotencyKey, id},
	})
	if err != nil {
		into.lost()
		pause(ctx, breath)
		return nil
	}
	if resp.Status/100 == 2 {
		if err := acknowledge(resp, id, n, into); err != nil || l.Pace == 0 {
			return err
		}
		pause(ctx, l.Pace)
		return nil
	}
	var said struct {
		api.Error
		Outcome string `json:"outcome"`
	}
	switch err := json.Unmarshal(resp.Body, &said); {
	case err != nil:
		return fmt.Errorf("an answer of status %d that is not the API's: %w", resp.Status, err)
	case said.Outcome == "unknown":
		into.lost()
	case resp.Status < http.StatusInternalServerError && resp.Status != http.StatusTooManyRequests:
		return fmt.Errorf("write a row: %d %s: %s", resp.Status, said.Error.Error, said.Message)
	default:
		into.refusal(id, said.Error.Error)
	}
	pause(ctx, breath)
	return nil
}

func acknowledge(resp *call.Response, id string, n int, into *Account) error {
	epoch, err := strconv.ParseUint(resp.Header.Get(api.HeaderEpoch), 10, 64)
	lsn, lsnErr := strconv.ParseUint(resp.Header.Get(api.HeaderLSN), 10, 64)
	if err := errors.Join(err, lsnErr); err != nil {
		return fmt.Errorf("an acknowledgement without its place: %w", err)
	}
	into.acked(Ack{ID: id, N: n, At: time.Now(), Epoch: epoch, LSN: lsn})
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// register makes the table.
func (l *Load) register(ctx context.Context) error {
	err := l.Client.Register(ctx, l.Tenant, []byte(manifest))
	if call.Code(err) == string(fault.Conflict) {
		return fmt.Errorf("the table %s has another shape: %w; drop it, it is the drill's", table, err)
	}
	return err
}

// held holds what was told against what is there: lost are acknowledged rows that are not
// there, or are other ones, phantoms rows that are there of which it was said that nothing
// was written.
func (l *Load) held(ctx context.Context, accounts ...*Account) (lost, phantoms []string, err error) {
	there, err := l.rows(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, a := range accounts {
		a.mu.Lock()
		for _, ack := range a.acks {
			if n, ok := there[ack.ID]; !ok {
				lost = append(lost, fmt.Sprintf("%s (LSN %d of epoch %d)", ack.ID, ack.LSN, ack.Epoch))
			} else if n != ack.N {
				lost = append(lost, fmt.Sprintf("%s (LSN %d of epoch %d): %d stands there, and %d was acknowledged", ack.ID, ack.LSN, ack.Epoch, n, ack.N))
			}
		}
		for _, id := range a.refused {
			if _, ok := there[id]; ok {
				phantoms = append(phantoms, id)
			}
		}
		a.mu.Unlock()
	}
	return lost, phantoms, nil
}

// rows are the rows of this drill, each with its number.
func (l *Load) rows(ctx context.Context) (map[string]int, error) {
	out, err := l.Client.Select(ctx, l.Tenant, "SELECT id, n FROM "+table+" WHERE id >= ? AND id < ?", l.Name+"-", l.Name+".")
	if err != nil {
		return nil, fmt.Errorf("read what was written: %w", err)
	}
	there := make(map[string]int, len(out.Rows))
	for _, raw := range out.Rows {
		var row struct {
			ID string `json:"id"`
			N  int    `json:"n"`
		}
		if err := json.Unmarshal(raw, &row); err != nil {
			return nil, fmt.Errorf("read what was written: %w", err)
		}
		there[row.ID] = row.N
	}
	return there, nil
}
