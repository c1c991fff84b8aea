// Package arch holds the tree to its shape: who may import whom, how long a file
// and a function may be, and what may stand in no file at all. The rules are
// functions of the sources, so that each is itself tested with a tree that
// breaks it.
package arch
