// Package stepfunctions runs the state machines of the failover and of the verification,
// with the real handlers behind their tasks, in an interpreter of the States Language.
package stepfunctions
