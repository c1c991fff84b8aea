// Package pitr proves restores: the archive of an instance whose history forks is
// recorded with what the state was after each frame of every line, and restores to any
// frame and any moment must give it, killed anywhere, on a disk and over a store that
// fail. go test ./test/pitr -args -points 500 restores to 500 of each.
package pitr
