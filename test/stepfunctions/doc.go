// Package stepfunctions runs the failover's state machine, with the real handlers behind
// its tasks, in an interpreter of the States Language.
package stepfunctions
