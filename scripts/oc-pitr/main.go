// Command oc-pitr restores an instance from its archive, to any point of its history.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"originchain/scripts/oc-pitr/pitr"
	"originchain/shared/aws/s3object"
	"originchain/shared/object"
	"originchain/shared/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(pitr.Main(ctx, pitr.Program{
		Version: telemetry.Version + " (" + telemetry.Commit + ")", Args: os.Args[1:], LookupEnv: os.LookupEnv,
		Stdout: os.Stdout, Stderr: os.Stderr, Openers: map[string]object.Opener{"s3": s3object.Open},
	}))
}
