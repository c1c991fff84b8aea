// Command oc-subscribers says who is told of incidents on AWS.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"originchain/scripts/oc-subscribers/subscribers"
	"originchain/shared/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(subscribers.Main(ctx, subscribers.Program{
		Version: telemetry.Version + " (" + telemetry.Commit + ")", Args: os.Args[1:], LookupEnv: os.LookupEnv,
		Stdout: os.Stdout, Stderr: os.Stderr,
	}))
}
