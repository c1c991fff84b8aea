// Package table is the state: the keyspace, its store on Pebble, consistent
// views of it, and the catalog and rows in it. The state is a function of the
// log; Pebble's own write-ahead log is off, and the applied position travels in
// the same batch as the data, so a crash leaves exactly a prefix of the log.
package table
