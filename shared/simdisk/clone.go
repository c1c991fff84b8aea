package simdisk

import (
	"cmp"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
)

// CrashOption changes what a crash may do.
type CrashOption uint8

// AnyNames lets any subset of the unsynced changes of names survive, in any
// directory. Without it they survive as a journal keeps them: up to some point
// in time, and nothing after.
const AnyNames CrashOption = 1

// CrashClone returns a disk as the next boot may find this one if the power
// fails now, or failed at the crash. This disk is left as it is, so that one
// crash can be cloned many times. The clone has no unsynced data, locks, faults
// or calls, and the same budget.
func (d *Disk) CrashClone(rng *rand.Rand, opts ...CrashOption) *Disk {
	c := d.KillClone()
	for _, op := range c.pending[:c.survivors(rng, slices.Contains(opts, AnyNames))] {
		op.keep()
	}
	c.pending = nil
	c.used = 0
	keep := weights(rng)
	// The same order every time: the rng is drawn from once per file.
	for _, n := range reachable(c.root, (*inode).settleNames) {
		if n.dir {
			continue
		}
		n.settle(rng, keep(rng))
		c.used += n.live.size
	}
	return c
}

// KillClone returns the disk as another process finds it after all that use it
// were killed: everything written is there, what was not synced still is not,
// and locks are free. It has no faults and no calls, and the same budget.
func (d *Disk) KillClone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.clone()
}

func (d *Disk) clone() *Disk {
	c := &Disk{locks: make(map[*inode]bool), crashAfter: -1, budget: d.budget, nextID: d.nextID}
	copies := make(map[*inode]*inode)
	c.root = d.root.copyTo(copies)
	for _, op := range d.pending {
		entries := make([]entry, len(op.entries))
		for i, e := range op.entries {
			entries[i] = entry{e.dir.copyTo(copies), e.name, e.target.copyTo(copies)}
		}
		c.pending = append(c.pending, dirOp{entries})
	}
	for _, n := range copies {
		if n.links > 0 {
			c.used += n.live.size
		}
	}
	return c
}

// copyTo returns the inode's copy, made at the first request.
func (n *inode) copyTo(copies map[*inode]*inode) *inode {
	if n == nil {
		return nil
	}
	if c := copies[n]; c != nil {
		return c
	}
	c := &inode{id: n.id, dir: n.dir, links: n.links, lost: n.lost,
		live: n.live.clone(), durable: n.durable.clone(), pending: slices.Clone(n.pending)}
	copies[n] = c
	if n.dir {
		c.names, c.kept = copyNames(n.names, copies), copyNames(n.kept, copies)
	}
	return c
}

func copyNames(names map[string]*inode, copies map[*inode]*inode) map[string]*inode {
	out := make(map[string]*inode, len(names))
	for name, n := range names {
		out[name] = n.copyTo(copies)
	}
	return out
}

// survivors moves the changes of names that survive to the front of pending, in
// their order, and returns how many they are.
func (d *Disk) survivors(rng *rand.Rand, subset bool) int {
	if !subset {
		return rng.IntN(len(d.pending) + 1)
	}
	d.pending = slices.DeleteFunc(d.pending, func(dirOp) bool { return rng.Uint64()&1 == 0 })
	return len(d.pending)
}

// settleNames makes a directory's durable names its only ones.
func (n *inode) settleNames() {
	n.links = 0
	if !n.dir {
		return
	}
	n.names = n.kept
	n.kept = maps.Clone(n.names)
}

// reachable returns what can be reached from root by name, by id, after visit
// of each; links are counted anew.
func reachable(root *inode, visit func(*inode)) []*inode {
	seen := map[*inode]bool{root: true}
	visit(root)
	all := []*inode{root}
	for i := 0; i < len(all); i++ {
		for _, child := range all[i].names {
			if !seen[child] {
				seen[child] = true
				visit(child)
				all = append(all, child)
			}
			child.links++
		}
	}
	slices.SortFunc(all, func(a, b *inode) int { return cmp.Compare(a.id, b.id) })
	return all
}

// weights chooses how much of the unsynced data a crash keeps: sometimes
// nothing at all and sometimes everything, for these are the extremes that
// chance alone never meets, else a share drawn for each file.
func weights(rng *rand.Rand) func(*rand.Rand) int {
	switch rng.IntN(8) {
	case 0:
		return func(*rand.Rand) int { return 0 }
	case 1:
		return func(*rand.Rand) int { return 256 }
	default:
		return func(rng *rand.Rand) int { return rng.IntN(257) }
	}
}

// coin is a biased coin that draws from the rng once for eight throws.
type coin struct {
	rng  *rand.Rand
	keep int
	bits uint64
	left int
}

func (c *coin) throw() bool {
	if c.left == 0 {
		c.bits, c.left = c.rng.Uint64(), 8
	}
	n := int(c.bits & 0xff)
	c.bits >>= 8
	c.left--
	return n < c.keep
}

// sectors is a set of sectors.
type sectors []uint64

func (s *sectors) add(i int64) {
	for int64(len(*s)) <= i/64 {
		*s = append(*s, 0)
	}
	(*s)[i/64] |= 1 << (i % 64)
}

func (s sectors) has(i int64) bool { return i/64 < int64(len(s)) && s[i/64]&(1<<(i%64)) != 0 }

// survivor is a file's bytes in the making, as the crash leaves them.
type survivor struct {
	img content
	// size is the size the file will have; img may hold bytes beyond it.
	size int64
	// done are the sectors that took their last write: as writes to one sector
	// keep their order, none that came after a lost one survives.
	done sectors
	// sized says that the last change of size has survived, for these too keep
	// their order.
	sized bool
	// limit is where the blocks of a lost truncation begin: what was written
	// there later went to blocks that the file does not know of.
	limit int64
}

// settle decides the fate of the unsynced writes: the file is then what was
// durable and what survives of them, and all of it is durable.
func (n *inode) settle(rng *rand.Rand, keep int) {
	c := &coin{rng: rng, keep: keep}
	s := &survivor{img: n.durable, size: n.durable.size, limit: math.MaxInt64}
	for i := range n.pending {
		if n.pending[i].resize {
			s.resize(c, &n.pending[i])
		} else {
			s.write(c, &n.pending[i])
		}
	}
	s.img.resize(s.size)
	n.durable = s.img
	n.live = n.durable.clone()
	n.pending, n.lost = nil, false
}

func (s *survivor) write(c *coin, op *dataOp) {
	for off := op.off; off < min(op.end, s.limit); {
		i := off / sectorSize
		end := min(op.end, s.limit, (i+1)*sectorSize)
		switch {
		case s.done.has(i):
		case c.throw():
			op.write(&s.img, off, end)
		default:
			s.done.add(i)
		}
		off = end
	}
	s.grow(c, op.end)
}

// grow decides how far a write or truncation that ends at end lengthens the
// file.
func (s *survivor) grow(c *coin, end int64) {
	if s.sized || end <= s.size {
		return
	}
	if c.throw() {
		s.size = end
		return
	}
	s.sized = true
	// Sectors of the way, as if the write had reached the disk in pieces.
	if first := s.size/sectorSize + 1; c.keep > 0 && first*sectorSize < end {
		s.size = c.rng.Int64N((end-1)/sectorSize-first+1)*sectorSize + first*sectorSize
	}
}

func (s *survivor) resize(c *coin, op *dataOp) {
	if !op.shrinks {
		s.grow(c, op.off)
		return
	}
	if s.sized || !c.throw() {
		s.sized = true
		s.limit = min(s.limit, op.off)
		return
	}
	s.img.zero(op.off, max(op.off, s.img.size))
	s.size = min(s.size, op.off)
}
