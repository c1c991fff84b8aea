// Command oc-follower runs an OriginChain node that follows a writer and never
// becomes one: it counts in no in-sync set.
package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"originchain/follower/node"
	"originchain/writer/config"
	"originchain/writer/process"
)

func main() {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	os.Exit(process.Process{
		Name:      "oc-follower",
		Args:      os.Args[1:],
		LookupEnv: os.LookupEnv,
		Stdout:    os.Stdout,
		Stderr:    os.Stderr,
		Signals:   signals,
		Exit:      os.Exit,
		Mode:      config.ModeFollower,
	}.Main(newNode))
}

func newNode(cfg config.Config, deps process.Deps) (process.Node, error) {
	if cfg.Mode != config.ModeFollower {
		return nil, errors.New("oc-follower only follows; oc-server writes")
	}
	if cfg.ReplicationAdvertise != "" {
		return nil, errors.New("--replication-advertise is of a node that may become the writer, and oc-follower never does: leave it out")
	}
	return node.New(cfg, deps, false)
}
