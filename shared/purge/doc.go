// Package purge removes a data subject's rows from an archive: from the log of every
// line, from its tail and from every checkpoint.
//
//	MakePlan:  walk every line ─► which pairs are the subject's after each frame,
//	           which frames carry them, which objects hold those ─► Plan, with an id
//	Run:       rewritten objects, uploaded and read back ─► record ─► old ones erased
//
// What it promises:
//
//   - The record is the commit point. Before it nothing of the archive has changed that
//     a reader counts; after it the rewritten objects count, and erasing is gone on with
//     by another Run with the same plan until all is gone.
//   - No recovery point is lost: a checkpoint is dropped only where another one and the
//     log lead to every frame that it leads to, and rewritten otherwise.
//   - The chain stays. The digest after a frame is the recorded one without the pairs
//     that the record names by their sum; a restore proves it by its full scan.
//   - Every checkpoint is made anew, pair by pair, or dropped: the files of a state keep
//     deleted values until they are compacted.
//   - What cannot be done completely is refused: rows that are still in the newest state,
//     objects of epochs that the archive does not know, an archive that has changed.
//
// Frames that no checkpoint leads to any more are blanked where they touch the tenant's
// rows: no restore reaches them.
//
// The nodes are not in reach. Their logs, states and divergent files hold the rows until
// each was built anew from the archive; docs/RUNBOOK.md has the steps.
package purge
