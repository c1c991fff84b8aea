// Package rounds kills a real oc-server under load, again and again, and checks
// after each restart that it kept its word: every acknowledged row is there as
// it was written, a batch is there whole or not at all, nothing is there that
// nobody sent, and a request repeated with its idempotency key gets its first
// answer.
package rounds

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"originchain/scripts/call"
	"originchain/scripts/child"
	"originchain/shared/api"
)

// Config says what to run.
type Config struct {
	// Binary is the path of oc-server; Dir an empty directory for its data.
	Binary, Dir string
	Rounds      int
	Clients     int
	// Seed decides who writes what and when the server is killed. The same seed
	// gives the same plan; what the machine makes of it still differs.
	Seed uint64
	// MinLife and MaxLife bound how long a server under load lives.
	MinLife, MaxLife time.Duration
	// Progress is told of each finished round; may be nil.
	Progress func(Round)
}

// Round is what one kill and the restart after it came to.
type Round struct {
	N int
	// Life is how long the server was under load before it was killed.
	Life time.Duration
	// Acked and Unknown count the writes that were answered, and those that were
	// under way; Kept counts those of Unknown that survived.
	Acked, Unknown, Kept int
	// Openings is how many further servers were killed while they opened the data.
	Openings int
	// Recovery is the time from the start of the last server to its readiness.
	Recovery time.Duration
}

// Report sums up.
type Report struct {
	Rounds, Acked, Unknown, Kept, Openings int
	Rows                                   int
	SlowestRecovery                        time.Duration
	// Keys is how many keys the full scan of the state read for its digest.
	Keys uint64
}

const (
	readyWithin = 2 * time.Minute
	// segmentBytes is small, so that kills also fall into the sealing and
	// opening of segments.
	segmentBytes = "262144"
	// maxOpening bounds how long a server lives that is killed while it opens.
	maxOpening = 60 * time.Millisecond
	// openingOdds: one round in this many kills a server that is opening.
	openingOdds = 4
)

// run is the state over all rounds.
type run struct {
	Config
	rng    *rand.Rand
	server *child.Server
	listen string
	http   *http.Client
	client *call.Client
	tenant string
	model  *model
}

// Run does all rounds, stops the last server in order, and compares the whole
// state with what was acknowledged.
func Run(ctx context.Context, c Config) (report Report, err error) {
	if c.Rounds < 1 || c.Clients < 1 || c.MinLife <= 0 || c.MaxLife < c.MinLife {
		return Report{}, fmt.Errorf("kill -9 rounds: want at least one round and one client, and 0 < shortest life <= longest life; got %d, %d, %s, %s", c.Rounds, c.Clients, c.MinLife, c.MaxLife)
	}
	r := &run{Config: c, rng: rand.New(rand.NewPCG(c.Seed, 9)), model: newModel(c.Clients)}
	r.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: c.Clients}}
	defer r.http.CloseIdleConnections()
	if r.listen, err = child.FreeAddress(); err != nil {
		return Report{}, err
	}
	defer func() {
		if r.server != nil {
			err = errors.Join(err, r.server.Kill())
		}
	}()
	if err := r.begin(ctx); err != nil {
		return Report{}, err
	}
	for n := 1; n <= c.Rounds; n++ {
		round, err := r.round(ctx, n)
		if err != nil {
			return report, fmt.Errorf("round %d of %d, seed %d: %w", n, c.Rounds, c.Seed, err)
		}
		report.add(round)
		if c.Progress != nil {
			c.Progress(round)
		}
	}
	return report, r.finish(ctx, &report)
}

func (t *Report) add(r Round) {
	t.Rounds++
	t.Acked += r.Acked
	t.Unknown += r.Unknown
	t.Kept += r.Kept
	t.Openings += r.Openings
	t.SlowestRecovery = max(t.SlowestRecovery, r.Recovery)
}

func (r *run) dataDir() string { return filepath.Join(r.Dir, "data") }

// start brings up a server and waits until it is ready.
func (r *run) start(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	if err := r.launch(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("not within %s", readyWithin))
	defer cancel()
	err := r.server.WaitReady(ctx)
	return time.Since(began), err
}

func (r *run) launch() (err error) {
	r.server, err = child.Start(child.Options{
		Binary: r.Binary, DataDir: r.dataDir(), Listen: r.listen, Args: []string{"--segment-bytes", segmentBytes},
	})
	return err
}

// begin starts the first server and makes a tenant with two tables.
func (r *run) begin(ctx context.Context) error {
	if _, err := r.start(ctx); err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(r.dataDir(), "admin.token"))
	if err != nil {
		return fmt.Errorf("read the admin token: %w", err)
	}
	admin := &call.Client{URL: r.server.URL(), Token: strings.TrimSpace(string(token)), HTTP: r.http}
	var made api.CreatedTenant
	if err := admin.JSON(ctx, http.MethodPost, "/v1/admin/tenants", api.CreateTenantRequest{Name: "kill9"}, &made); err != nil {
		return err
	}
	r.tenant = made.Tenant
	r.client = &call.Client{URL: r.server.URL(), Token: made.Token, HTTP: r.http}
	for _, m := range []string{writesManifest, registersManifest} {
		if err := r.client.Register(ctx, r.tenant, []byte(m)); err != nil {
			return err
		}
	}
	return nil
}

// round loads the server, kills it, starts it again and checks.
func (r *run) round(ctx context.Context, n int) (Round, error) {
	out := Round{N: n, Life: r.MinLife + time.Duration(r.rng.Int64N(int64(r.MaxLife-r.MinLife)+1))}
	writes, err := r.load(ctx, n, out.Life)
	if err != nil {
		return out, err
	}
	for r.rng.IntN(openingOdds) == 0 {
		if err := r.killWhileOpening(ctx); err != nil {
			return out, err
		}
		out.Openings++
	}
	if out.Recovery, err = r.start(ctx); err != nil {
		return out, fmt.Errorf("restart after a kill: %w", err)
	}
	for _, w := range writes {
		if w.acked() {
			out.Acked++
		} else {
			out.Unknown++
		}
	}
	out.Kept, err = r.check(ctx, n, writes)
	return out, err
}

func (r *run) killWhileOpening(ctx context.Context) error {
	if err := r.launch(); err != nil {
		return err
	}
	timer := time.NewTimer(time.Duration(r.rng.Int64N(int64(maxOpening))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-r.server.Exited():
		return &child.ExitError{Code: r.server.ExitCode(), Output: r.server.Output()}
	}
	return r.server.Kill()
}

// finish compares everything that is there with everything that was
// acknowledged in all rounds, stops the server in order, and has its directory
// verified.
func (r *run) finish(ctx context.Context, report *Report) error {
	if err := r.checkAll(ctx); err != nil {
		return fmt.Errorf("after the last round, seed %d: %w", r.Seed, err)
	}
	report.Rows = len(r.model.rows)
	stopping, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("not within %s", readyWithin))
	defer cancel()
	if err := r.server.Stop(stopping); err != nil {
		return err
	}
	keys, err := verify(ctx, r.dataDir())
	report.Keys = keys
	return err
}
