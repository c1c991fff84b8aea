package writer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/api"
	"originchain/shared/httpx"
	"originchain/shared/telemetry"
)

// health is what /health answers from. It is read and written by atomics alone:
// a load balancer's check must get its answer while every lock of the node is
// held and every core is busy.
type health struct {
	started    time.Time
	stuckAfter time.Duration
	// failed is set once, when the log is of no more use.
	failed atomic.Pointer[string]
	// probe is the outcome of the last finished probe of the disk; nil is good.
	probe atomic.Pointer[string]
	// probing is when the probe that runs now began, in nanoseconds since
	// started; 0 when none runs.
	probing atomic.Int64
}

func newHealth(now time.Time, stuckAfter time.Duration) *health {
	return &health{started: now, stuckAfter: stuckAfter}
}

// fail records why the log is of no more use; the first reason stays.
func (h *health) fail(err error) {
	reason := err.Error()
	h.failed.CompareAndSwap(nil, &reason)
}

// reason says why the node is not healthy; "" when it is. waits is for how long the log's disk
// has been at a write of commits, of this node's or sent by its leader.
func (h *health) reason(now time.Time, waits time.Duration) string {
	if r := h.failed.Load(); r != nil {
		return *r
	}
	if r := h.probe.Load(); r != nil {
		return *r
	}
	if began := h.probing.Load(); began != 0 && now.Sub(h.started)-time.Duration(began) > h.stuckAfter {
		return fmt.Sprintf("the disk of the log has not answered for more than %s", h.stuckAfter)
	}
	if waits > h.stuckAfter {
		return fmt.Sprintf("a commit has waited for its fsync for more than %s: the disk of the log does not answer", h.stuckAfter)
	}
	return ""
}

// unwell is health.reason of this node.
func (n *Shell) unwell(now time.Time) string {
	var waits time.Duration
	if e := n.engine.Load(); e != nil {
		waits = e.Waiting()
	}
	return n.health.reason(now, waits)
}

func (n *Shell) getHealth(c *httpx.Call) error {
	now := time.Now()
	answer := api.Health{
		Status: api.HealthOK, Version: telemetry.Version, Commit: telemetry.Commit, Mode: n.now().Mode(),
		UptimeSeconds: int64(now.Sub(n.health.started) / time.Second), Reason: telemetry.Redact(n.unwell(now)),
	}
	if answer.Reason != "" {
		answer.Status = api.HealthFailed
		return c.JSON(http.StatusServiceUnavailable, answer)
	}
	return c.JSON(http.StatusOK, answer)
}

// probeName is the file that probes write, in the log's own directory: that may be a file
// system of its own. Who reads the directory looks for segments by their names.
const probeName = "health.probe"

// probeDisk tries the log's disk out once per ProbeInterval, until ctx ends. When
// it has failed for FailureGrace without a success the node cannot go on, and
// says so by an error.
func (n *Shell) probeDisk(ctx context.Context) error {
	tick := time.NewTicker(n.cfg.ProbeInterval)
	defer tick.Stop()
	var since time.Time // of the first failure in a row
	for {
		began := time.Now()
		n.health.probing.Store(max(1, int64(began.Sub(n.health.started))))
		err := probe(n.deps.FS, n.logDir())
		n.health.probing.Store(0)
		switch {
		case err == nil:
			since = time.Time{}
			n.health.probe.Store(nil)
		case since.IsZero():
			since = began
			fallthrough
		default:
			reason := err.Error()
			if n.health.probe.Swap(&reason) == nil {
				n.deps.Log.WithError(err).Error("the disk of the log failed a probe")
			}
			if time.Since(since) >= n.cfg.FailureGrace {
				return fmt.Errorf("%w: %w", ErrLogFailed, err)
			}
		}
		select {
		case <-ctx.Done():
			return n.removeProbe()
		case <-tick.C:
		}
	}
}

func (n *Shell) logDir() string { return n.deps.FS.PathJoin(n.cfg.Engine.DataDir, "log") }

func (n *Shell) removeProbe() error {
	err := n.deps.FS.Remove(n.deps.FS.PathJoin(n.logDir(), probeName))
	if err != nil {
		n.deps.Log.WithError(err).Debug("the probe file was not removed")
	}
	return nil
}

// probe reads the directory of the log and writes a file there. It does not sync: an fsync
// would queue behind the log's own, and slow it down. One that hangs is seen by the commits
// that wait for it, in either role.
func probe(fs vfs.FS, logDir string) error {
	if _, err := fs.List(logDir); err != nil {
		return fmt.Errorf("the directory of the log cannot be read: %w", err)
	}
	f, err := fs.Create(fs.PathJoin(logDir, probeName), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("the disk of the log takes no file: %w", err)
	}
	_, err = f.Write([]byte("originchain\n"))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("the disk of the log takes no write: %w", err)
	}
	return nil
}
