// Package sim proves the engine on a disk that crashes and fails: a seeded
// workload runs on a simulated disk, and at every call that changes the disk
// the power is cut, or the call fails; what the next opening finds is held to a
// model that is folded from the log by other code. README.md tells how to run
// and replay it, and which bugs it has found.
package sim
