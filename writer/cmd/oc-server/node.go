package main

import (
	"originchain/follower/node"
	"originchain/writer/config"
	"originchain/writer/process"
)

// newNode makes the node that the configuration asks for, on the machine's own
// disk and clock.
func newNode(cfg config.Config, deps process.Deps) (process.Node, error) {
	return node.New(cfg, deps, true)
}
