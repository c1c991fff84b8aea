// Command oc-server runs one OriginChain node.
package main

import (
	"os"
	"os/signal"
	"syscall"

	"originchain/writer/process"
)

func main() {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	os.Exit(process.Process{
		Name:      "oc-server",
		Args:      os.Args[1:],
		LookupEnv: os.LookupEnv,
		Stdout:    os.Stdout,
		Stderr:    os.Stderr,
		Signals:   signals,
		Exit:      os.Exit,
	}.Main(newNode))
}
