// Package archive is everything of an instance that is not on its machines: the
// sealed segments of its log, the newest bytes of the segment that is open, and
// checkpoints of its state, in an object store. A Shipper fills it, beside the
// writer; an Archive reads it, for restores; Retain lets go of what is too old.
//
// What it promises:
//
//   - Objects are created once and never changed. Only durable bytes are shipped,
//     and only after they were verified here.
//   - Each epoch has an object that says where its history parts from its parent's.
//     It is there before anything of the epoch is, so whatever the archive holds
//     belongs to a line.
//   - What counts as shipped is what is there without a hole, from the place where
//     the log of this node begins. Nothing local is removed here: the engine asks
//     ShippedLSN what it may let go.
//   - A name that is taken is no success until what is there was read and has the
//     same chain value; a lost answer is told from a fence that way.
//   - A checkpoint's manifest is written when all its files are there.
//   - Retention removes nothing that a point in the window needs, on any line.
//
// docs/FORMATS.md lists every object; DESIGN.md here tells why a sweep cannot take
// a file from a checkpoint that is being made.
package archive
