package writer

import (
	"fmt"
	"net/http"
	"time"

	"originchain/shared/api"
	"originchain/shared/engine"
	"originchain/shared/httpx"
	"originchain/shared/telemetry"
)

// The names of the checks of /ready.
const (
	checkLog      = "log"
	checkLease    = "lease"
	checkDisk     = "disk"
	checkPipeline = "pipeline"
	checkArchive  = "archive"
	// checkRetention is degraded while the archive keeps what is too old.
	checkRetention = "retention"
	checkFenced    = "fenced"
)

// getReady answers /ready: 503 unless every check holds. What is degraded alone,
// such as a follower that is missing, is shown and keeps nobody away.
func (n *Shell) getReady(c *httpx.Call) error {
	answer := api.Ready{Ready: true, Checks: n.checks(time.Now())}
	for _, check := range answer.Checks {
		answer.Ready = answer.Ready && (check.OK || check.Degraded)
	}
	if !answer.Ready {
		return c.JSON(http.StatusServiceUnavailable, answer)
	}
	return c.JSON(http.StatusOK, answer)
}

func (n *Shell) checks(now time.Time) map[string]api.Check {
	checks := map[string]api.Check{checkDisk: {OK: true, Detail: "the log's disk can be read and written"}}
	if reason := n.unwell(now); reason != "" {
		checks[checkDisk] = api.Check{Detail: reason}
	}
	if reason := n.fenced.Load(); reason != nil {
		checks[checkFenced] = api.Check{Detail: telemetry.Redact(*reason)}
	}
	e := n.engine.Load()
	select {
	case <-n.opened:
	default:
		e = nil
	}
	if e == nil { // not yet, or not while a follower prepares its data again
		checks[checkLog] = api.Check{Detail: "the log is being read; the state is not at its end yet"}
		checks[checkLease] = api.Check{Detail: "the data directory is not open yet"}
		// What it waits for may be other nodes and not its disk.
		role := n.now()
		role.Checks(checks)
		if w := n.waits.Load(); w != nil {
			checks[checkArchive] = api.Check{Detail: w.detail(now)}
		}
		if role.Mode() == RoleFollower {
			checks[checkLog] = api.Check{Detail: "nothing is shown before the leader has said what of the log is committed"}
		}
		return checks
	}
	checks[checkLog] = logCheck(e)
	checks[checkLease] = api.Check{OK: true, Detail: fmt.Sprintf("the data directory is locked by this process; epoch %d", e.Epoch())}
	checks[checkPipeline] = pipelineCheck(e)
	n.now().Checks(checks)
	return checks
}

// logCheck holds the state to the end of the log as it was found at boot.
func logCheck(e *engine.Engine) api.Check {
	visible, boot := e.Visible().LSN, e.BootLSN()
	if err := e.Failure(); err != nil {
		return api.Check{Detail: fmt.Sprintf("the log failed and takes no more writes: %v", err)}
	}
	return api.Check{OK: visible >= boot, Detail: fmt.Sprintf("applied up to LSN %d; the log ended at LSN %d at boot", visible, boot)}
}

// pipelineCheck says how much is decided and not yet visible. A full pipeline is
// back-pressure, not a reason to take the node out of service.
func pipelineCheck(e *engine.Engine) api.Check {
	pending := e.PendingBytes()
	return api.Check{
		OK: true, Degraded: pending >= engine.MaxPendingBytes,
		Detail: fmt.Sprintf("%d of %d bytes wait to be durable", pending, int64(engine.MaxPendingBytes)),
	}
}
