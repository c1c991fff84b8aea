package simdisk

// blockSize is the unit of sharing between the page cache, the disk and their
// clones, in bytes.
const blockSize = 4096

// owner marks the one content that may write a block in place.
type owner struct{ _ byte }

// block is a piece of a file. Only the content with its owner may change it;
// everyone else copies it first. A nil block is a block of zeros, which makes
// the megabytes a log zeroes ahead free.
type block struct {
	owner *owner
	data  [blockSize]byte
}

// content is a sequence of bytes. Beyond size all bytes are zero.
type content struct {
	blocks []*block
	size   int64
	owner  *owner
}

// clone returns the same bytes. From then on both copy a block before they
// write it.
func (c *content) clone() content {
	c.owner = new(owner)
	return content{blocks: append([]*block(nil), c.blocks...), size: c.size, owner: new(owner)}
}

// readAt copies what there is at off and returns how much that was.
func (c *content) readAt(p []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	p = p[:min(int64(len(p)), c.size-off)]
	for done := 0; done < len(p); {
		i, at := (off+int64(done))/blockSize, (off+int64(done))%blockSize
		n := min(len(p)-done, int(blockSize-at))
		if i < int64(len(c.blocks)) && c.blocks[i] != nil {
			copy(p[done:done+n], c.blocks[i].data[at:])
		} else {
			clear(p[done : done+n])
		}
		done += n
	}
	return len(p)
}

// writeAt writes p and grows the size as needed.
func (c *content) writeAt(p []byte, off int64) {
	c.size = max(c.size, off+int64(len(p)))
	for done := 0; done < len(p); {
		i, at := (off+int64(done))/blockSize, (off+int64(done))%blockSize
		done += copy(c.own(i).data[at:], p[done:])
	}
}

// zero writes zeros from off to end and grows the size as needed.
func (c *content) zero(off, end int64) {
	c.size = max(c.size, end)
	for off < end {
		i, at := off/blockSize, off%blockSize
		n := min(end-off, blockSize-at)
		switch {
		case i >= int64(len(c.blocks)) || c.blocks[i] == nil:
		case n == blockSize:
			c.blocks[i] = nil
		default:
			clear(c.own(i).data[at : at+n])
		}
		off += n
	}
}

// resize sets the size. What a shorter file no longer holds reads as zeros
// when it grows again.
func (c *content) resize(size int64) {
	if size < c.size {
		c.zero(size, c.size)
		c.blocks = c.blocks[:min(int64(len(c.blocks)), blocksOf(size))]
	}
	c.size = size
}

// own returns block i, writable.
func (c *content) own(i int64) *block {
	c.grow(i + 1)
	b := c.blocks[i]
	if b != nil && b.owner == c.owner {
		return b
	}
	fresh := &block{owner: c.owner}
	if b != nil {
		fresh.data = b.data
	}
	c.blocks[i] = fresh
	return fresh
}

func (c *content) grow(n int64) {
	if missing := n - int64(len(c.blocks)); missing > 0 {
		c.blocks = append(c.blocks, make([]*block, missing)...)
	}
}

// share takes over src's blocks that hold the bytes from off to end.
func (c *content) share(src *content, off, end int64) {
	for i := off / blockSize; i < blocksOf(end); i++ {
		if i >= int64(len(src.blocks)) || src.blocks[i] == nil {
			if i < int64(len(c.blocks)) {
				c.blocks[i] = nil
			}
			continue
		}
		c.grow(i + 1)
		c.blocks[i] = src.blocks[i]
		if c.blocks[i].owner == src.owner {
			c.blocks[i].owner = nil
		}
	}
}

func blocksOf(size int64) int64 { return (size + blockSize - 1) / blockSize }

// isZero reports whether p holds zeros alone.
func isZero(p []byte) bool {
	var zeros [blockSize]byte
	for len(p) > 0 {
		n := min(len(p), blockSize)
		if string(p[:n]) != string(zeros[:n]) {
			return false
		}
		p = p[n:]
	}
	return true
}
