// Package cluster tests an instance of several nodes as an operator runs it.
package cluster
