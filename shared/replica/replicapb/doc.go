// Package replicapb is what a leader and its followers say to each other, as Go
// types. replica.proto is the source and says what each field means; `make proto`
// makes the rest.
package replicapb
