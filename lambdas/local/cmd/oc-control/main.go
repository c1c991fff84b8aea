// Command oc-control has an instance up on this machine: nodes, archive, lease store,
// DNS and endpoint, and fails over when the writer dies.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"originchain/lambdas/local/command"
	"originchain/lambdas/local/plane"
	"originchain/shared/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := command.Main(ctx, command.Program{
		Version: telemetry.Version + " (" + telemetry.Commit + ")", Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr,
		Up: func(ctx context.Context, o command.UpOptions, ready func(short error) error) error {
			return plane.Up(ctx, plane.Options{
				Dir: o.Dir, Followers: o.Followers, Given: o.FollowersGiven, Server: o.Server, More: o.More, Out: o.Out, Log: o.Log,
				Verify: plane.Verification{Every: o.VerifyEvery, Streaming: o.VerifyMode == command.VerifyStreaming},
			}, ready)
		},
	})
	stop()
	os.Exit(code)
}
