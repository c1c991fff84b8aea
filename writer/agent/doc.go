// Package agent is what a node's machine tells the control plane: that there is such a
// node and where (the registry), and every Interval how it does (CloudWatch).
//
// Invariants:
//
//   - It never holds the server up. Each observation asks it for three pages, one at a time,
//     each within a bound, and no observation begins before the one before has ended.
//   - What waits for CloudWatch is bounded: beyond MaxQueued the oldest goes, and how much
//     went is logged. A CloudWatch that is away is logged once, and once when it is back.
//   - A heartbeat says that the server has answered this agent over a connection of its own,
//     and when; the agent's own life is none, nor is one that has just begun, nor an answer
//     to /health that says that the log takes no writes.
//     That of the instance is that of the node which the record names as its writer, and of
//     no other: where that one is silent, so is the instance, whoever else lives.
//   - A node is registered only as what its unit says that it is, on the machine that the
//     metadata service says this is.
package agent
