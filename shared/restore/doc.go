// Package restore makes a data directory of what an archive holds: the state of its
// instance at a frame, or at a moment, of any line of its history.
//
//	MakePlan:  line, checkpoint, objects of the log, the exact frame ─► Plan
//	Run:       files of the checkpoint ─┐
//	           frames, fetched ahead ───┴─► recover.Replay ─► full scan ─► fsync ─► rename
//
// What it promises:
//
//   - A restore to t includes every commit stamped at or before t, and none later.
//   - Frames reach the state through package recover, as in a restart, and each was
//     verified against the one before it, across objects and epochs.
//   - The directory appears by one rename, when all of it is durable and a scan of
//     every key gave the digest that the target frame carries.
//   - Killed anywhere and run again with the same arguments it goes on, and gives the
//     same. What cannot be finished is in <data dir>.restoring, which is none that a
//     server would open.
//   - The archive is only read. The one exception is an acceptance, which creates the
//     object of an epoch.
//   - Memory is bounded, whatever the size: by frames in flight, by what is fetched
//     ahead, by the caches of the state.
//
// The restored log is empty: datadir.Restored says behind which frame it goes on.
package restore
