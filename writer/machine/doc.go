// Package machine is instance control on a machine with systemd: what failover.Control
// promises of one node's server, carried out there by the commands of oc-node, which
// Systems Manager starts.
//
// Invariants:
//
//   - Nothing is changed on the word of a command whose epoch is not the record's, read
//     after every other command on this machine has ended: one that is delivered late
//     does not touch the writer that came after. A record that cannot be read is not the
//     right one. A stop reads it once more when the unit is held, and ends nothing if it has
//     moved on by then; a restart leaves a server alone that serves the record's epoch.
//     Between the last reading and the act the record may move on. But the only writer that
//     an act here can touch is this machine's, and it would have to become one within that
//     moment; what a stop that comes too late for it costs is a restart, and nothing that was
//     acknowledged: epochs are what is safe, this only spares a writer.
//   - A held unit is started by nobody: neither by systemd's Restart= nor by hand. The hold
//     is a drop-in in /run with an assertion that its own existence refutes. A mask in /run
//     would not do: a unit in /etc goes before it.
//   - A hold says whose it is. A command that was sent from afar starts nothing that was held
//     by hand, in a later epoch, or by a mask; a stop that fails before it has ended anything
//     leaves the hold as it was, or says that it could not.
//   - Reaped is said only while the hold is loaded, and where systemd has no process of the
//     unit any more and would have killed all of them. It is these processes' parent, and so
//     no pid can be another's.
//   - A place is said only of a directory that nobody has open, after the process was
//     seen to have ended.
//   - The unit file is the old one or the new one, at any moment and after any crash, and
//     the new one is this node's: with its id, its directory and its record, and without a
//     flag that its server's program does not know.
//   - A process that is frozen is killed, and not asked: to see the signal it would have to
//     wake, and a writer that wakes may renew its lease and go on for a moment.
//
// The hold ends with the boot, as everything in /run does. Whoever reads Reaped reads what
// is, and not what will be.
package machine
