// Package frame holds the bytes of the log: one commit (a frame), the
// operations in it, and the header and footer of the segment file around it.
// It does no I/O and reads no clock, so the same bytes come out of the same
// input on every node, for ever. docs/FORMATS.md draws every byte.
//
//	segment file
//	┌────────────────┬───────┬───────┬─────┬────────┬─────────┐
//	│ header, 256 B  │ frame │ frame │  …  │ footer │ trailer │
//	└────────────────┴───────┴───────┴─────┴────────┴─────────┘
//	  frames begin at multiples of 8; zeros after the last one
//	  while the segment is open; footer and trailer once sealed
//
// Three hashes, three jobs. The CRC says that these bytes are the ones that
// were written at this place of this file. The chain says that this frame
// follows that history. The digest says which state the history leads to.
// The chain leaves out everything a rewrite may change (stored length, codec,
// CRC), so a purge or a recompression keeps histories comparable.
package frame
