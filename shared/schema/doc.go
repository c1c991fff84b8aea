// Package schema is the typed row: the manifest that declares a table, the
// values a row holds, their order-preserving tuple keys, their stored bytes and
// their JSON form. It has no I/O, reads no clock and no map order, so replaying
// the same input gives the same bytes on every node.
//
// The byte formats are in docs/FORMATS.md, sections "Manifest", "Tuple keys"
// and "Row values".
package schema
