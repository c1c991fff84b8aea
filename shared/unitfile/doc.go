// Package unitfile reads and rewrites systemd unit files of services: what command
// a unit runs, with what environment, and the same file with other flags of that
// command. It follows systemd.syntax(7), systemd.service(5) and systemd.exec(5)
// as far as a service of ours can use them: quoting, escapes, continuation lines,
// comments between them, environment files, variables in the command. What it does
// not know it refuses by name; it never guesses. Whatever is not rewritten keeps
// its bytes.
package unitfile

import "fmt"

// SyntaxError is a place of a file that is not understood.
type SyntaxError struct {
	File string
	// Line counts from 1.
	Line int
	What string
}

// Error implements error.
func (e *SyntaxError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.What) }
