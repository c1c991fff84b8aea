// Package telemetry is what every part of the server says about itself: the
// build it is, the request it works for, its log lines, its audit trail and
// its metrics. Nothing in it is global but the two variables the linker sets.
package telemetry

// Version and Commit name the build. The linker sets them:
//
//	go build -ldflags "-X originchain/shared/telemetry.Version=1.2.0 -X originchain/shared/telemetry.Commit=58bfdb2"
//
// They are read-only for the life of the process.
var (
	Version = "dev"
	Commit  = "unknown"
)
