// Command oc-node is what runs on a node's machine beside the server: instance control,
// which Systems Manager calls, and the agent that tells the control plane of the node.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"originchain/shared/telemetry"
	"originchain/writer/machine"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, program{
		version: telemetry.Version + " (" + telemetry.Commit + ")", args: os.Args[1:], lookupEnv: os.LookupEnv,
		stdout: os.Stdout, stderr: os.Stderr, etc: machine.EtcDir, run: machine.RunDir,
	}))
}
