// Command promote makes a follower the writer of its instance, by the steps that the
// control plane takes too. scripts/promote-follower.sh runs it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"originchain/shared/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, program{
		version: telemetry.Version + " (" + telemetry.Commit + ")", args: os.Args[1:],
		stdout: os.Stdout, stderr: os.Stderr, reach: reach(),
	}))
}
