package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// standbyPort tells the standby's socket from the primary's in one directory.
const standbyPort = "5433"

// replicates is how often, and how long apart, is looked whether the standby is there.
const (
	replicatesLooks = 200
	replicatesPause = 50 * time.Millisecond
)

func (c *Cluster) standbyData() string { return filepath.Join(c.dir, "standby") }

// AddStandby copies the cluster with pg_basebackup and starts the copy as a
// standby that streams over the unix socket.
func (c *Cluster) AddStandby(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("the standby did not start within %s", startLimit))
	defer cancel()
	if _, err := c.run(ctx, "pg_basebackup", "--pgdata", c.standbyData(), "--host", c.dir, "--username", superuser,
		"--checkpoint", "fast", "--wal-method", "stream", "--write-recovery-conf"); err != nil {
		return err
	}
	options := fmt.Sprintf("-c listen_addresses='' -c unix_socket_directories='%s' -c max_connections=200 -c port=%s", c.dir, standbyPort)
	if _, err := c.run(ctx, "pg_ctl", "--pgdata", c.standbyData(), "--log", filepath.Join(c.dir, "standby.log"), "--options", options, "--wait", "start"); err != nil {
		return err
	}
	return c.awaitStandby(ctx, "async")
}

// Synchronous makes commits wait for the standby's disk, or no longer do so.
func (c *Cluster) Synchronous(ctx context.Context, on bool) error {
	names, state := "", "async"
	if on {
		names, state = "*", "sync"
	}
	if _, err := c.psql(ctx, "ALTER SYSTEM SET synchronous_standby_names = '"+names+"'", "SELECT pg_reload_conf()"); err != nil {
		return err
	}
	return c.awaitStandby(ctx, state)
}

func (c *Cluster) awaitStandby(ctx context.Context, state string) error {
	var said string
	for range replicatesLooks {
		out, err := c.psql(ctx, "SELECT state || '/' || sync_state FROM pg_stat_replication")
		if err != nil {
			return err
		}
		if said = strings.TrimSpace(out); said == "streaming/"+state {
			return nil
		}
		select {
		case <-time.After(replicatesPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return fmt.Errorf("PostgreSQL's standby is %q and not streaming/%s", said, state)
}

func (c *Cluster) psql(ctx context.Context, commands ...string) (string, error) {
	args := []string{"--host", c.dir, "--username", superuser, "--dbname", "postgres", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"}
	for _, command := range commands {
		args = append(args, "--command", command)
	}
	return c.run(ctx, "psql", args...)
}

// logPrefix begins the names of the files in which pgbench writes each latency.
const logPrefix = "latencies"

// InsertLatency runs single-row inserts over one connection and returns the
// median time of one.
func (c *Cluster) InsertLatency(ctx context.Context, period time.Duration) (_ time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, period+benchGrace)
	defer cancel()
	if _, err := c.bench(ctx, period, "--client", "1", "--jobs", "1", "--log", "--log-prefix", logPrefix); err != nil {
		return 0, err
	}
	files, err := filepath.Glob(filepath.Join(c.dir, logPrefix+".*"))
	if err != nil {
		return 0, err
	}
	var took []int
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err = errors.Join(err, os.Remove(path)); err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line) // client, transaction, microseconds, …
			if len(fields) < 3 {
				return 0, fmt.Errorf("pgbench's log has the line %q", line)
			}
			us, err := strconv.Atoi(fields[2])
			if err != nil {
				return 0, fmt.Errorf("pgbench's log has the line %q: %w", line, err)
			}
			took = append(took, us)
		}
	}
	if len(took) == 0 {
		return 0, errors.New("pgbench wrote no latencies")
	}
	slices.Sort(took)
	return time.Duration(took[len(took)/2]) * time.Microsecond, nil
}
