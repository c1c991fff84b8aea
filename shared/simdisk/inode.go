package simdisk

import (
	"errors"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// inode is a file or a directory, whatever its names.
type inode struct {
	id  uint64
	dir bool
	// links and handles keep a file's bytes in use.
	links, handles int

	// live is what a reader sees, durable what is certain to survive; pending
	// are the writes between the two, in order.
	live, durable content
	pending       []dataOp
	// lost says that a failed sync has dropped writes, so that live and durable
	// differ where nothing is pending.
	lost bool

	// names and kept are a directory's entries as seen and as durable.
	names, kept map[string]*inode
}

// dataOp is a write, or a change of size, that is not yet durable.
type dataOp struct {
	// resize says that the file was cut or grown to off; end is then where the
	// bytes it gave or took away end.
	resize   bool
	off, end int64
	// data is what was written from off to end; nil is zeros.
	data []byte
	// shrinks says that a resize took bytes away.
	shrinks bool
}

// dirOp is one change of names, atomic. A rename has two entries.
type dirOp struct{ entries []entry }

// entry says that name in dir now means target; a nil target is no file.
type entry struct {
	dir    *inode
	name   string
	target *inode
}

func (d *Disk) newInode(dir bool) *inode {
	d.nextID++
	n := &inode{id: d.nextID, dir: dir}
	n.live.owner, n.durable.owner = new(owner), new(owner)
	if dir {
		n.names, n.kept = make(map[string]*inode), make(map[string]*inode)
	}
	return n
}

// clean returns name as an absolute path: a relative one begins at the root.
func clean(name string) string { return path.Clean("/" + name) }

// find returns the inode at name.
func (d *Disk) find(op, name string) (*inode, error) {
	n := d.root
	for part := range strings.SplitSeq(clean(name)[1:], "/") {
		if part == "" {
			continue
		}
		if !n.dir {
			return nil, pathError(op, name, syscall.ENOTDIR)
		}
		next, ok := n.names[part]
		if !ok {
			return nil, pathError(op, name, syscall.ENOENT)
		}
		n = next
	}
	return n, nil
}

// file is find for what must be a file.
func (d *Disk) file(op, name string) (*inode, error) {
	n, err := d.find(op, name)
	if err == nil && n.dir {
		return nil, pathError(op, name, syscall.EISDIR)
	}
	return n, err
}

// parent returns the directory that holds name, and name's last element.
func (d *Disk) parent(op, name string) (*inode, string, error) {
	p := clean(name)
	if p == "/" {
		return nil, "", pathError(op, name, syscall.EINVAL)
	}
	dir, err := d.find(op, path.Dir(p))
	if err != nil {
		return nil, "", pathError(op, name, errnoOf(err))
	}
	if !dir.dir {
		return nil, "", pathError(op, name, syscall.ENOTDIR)
	}
	return dir, path.Base(p), nil
}

// apply makes a change of names visible and leaves it for a directory sync.
func (d *Disk) apply(entries ...entry) {
	for _, e := range entries {
		old := e.dir.names[e.name]
		if e.target != nil {
			e.dir.names[e.name] = e.target
			e.target.links++
		} else {
			delete(e.dir.names, e.name)
		}
		if old != nil {
			old.links--
			d.release(old)
		}
	}
	d.pending = append(d.pending, dirOp{entries})
}

// release gives back the bytes of a file that has neither name nor handle.
func (d *Disk) release(n *inode) {
	if !n.dir && n.links == 0 && n.handles == 0 {
		d.used -= n.live.size
	}
}

// syncDir makes the names in dir durable. An earlier change of a name that goes
// with them (the other half of a rename) becomes durable too: otherwise a crash
// could bring back what the rename took away.
func (d *Disk) syncDir(dir *inode) {
	type key struct {
		dir  *inode
		name string
	}
	needed := make(map[key]bool)
	due := make([]bool, len(d.pending))
	for i, op := range slices.Backward(d.pending) {
		due[i] = slices.ContainsFunc(op.entries, func(e entry) bool {
			return e.dir == dir || needed[key{e.dir, e.name}]
		})
		if !due[i] {
			continue
		}
		for _, e := range op.entries {
			needed[key{e.dir, e.name}] = true
		}
	}
	rest := d.pending[:0]
	for i, op := range d.pending {
		if due[i] {
			op.keep()
		} else {
			rest = append(rest, op)
		}
	}
	clear(d.pending[len(rest):])
	d.pending = rest
}

// dropDir forgets the changes of names in dir that are not durable.
func (d *Disk) dropDir(dir *inode) {
	d.pending = slices.DeleteFunc(d.pending, func(op dirOp) bool { return op.in(dir) })
}

func (op dirOp) in(dir *inode) bool {
	return slices.ContainsFunc(op.entries, func(e entry) bool { return e.dir == dir })
}

// keep makes the change durable.
func (op dirOp) keep() {
	for _, e := range op.entries {
		if e.target != nil {
			e.dir.kept[e.name] = e.target
		} else {
			delete(e.dir.kept, e.name)
		}
	}
}

// write changes a file's bytes and remembers the change until it is synced.
func (n *inode) write(p []byte, off int64) {
	op := dataOp{off: off, end: off + int64(len(p))}
	if isZero(p) {
		n.live.zero(op.off, op.end)
	} else {
		op.data = slices.Clone(p)
		n.live.writeAt(p, off)
	}
	n.pending = append(n.pending, op)
}

func (n *inode) truncate(size int64) {
	op := dataOp{resize: true, off: size, end: max(size, n.live.size), shrinks: size < n.live.size}
	n.live.resize(size)
	n.pending = append(n.pending, op)
}

// sync makes the pending writes durable.
func (n *inode) sync() {
	if len(n.pending) == 0 {
		return
	}
	for _, op := range n.pending {
		switch {
		case !n.lost:
			n.durable.share(&n.live, op.off, op.end)
		case !op.resize:
			op.write(&n.durable, op.off, op.end)
		case op.shrinks:
			n.durable.zero(op.off, op.end)
		}
	}
	n.durable.size = max(n.durable.size, n.live.size)
	n.durable.resize(n.live.size)
	n.pending = nil
}

// drop is what a failed sync does: the pages are clean and were not written.
func (n *inode) drop() {
	n.lost = n.lost || len(n.pending) > 0
	n.pending = nil
}

// write puts the part of the op from off to end into c.
func (op *dataOp) write(c *content, off, end int64) {
	if op.data == nil {
		c.zero(off, end)
		return
	}
	c.writeAt(op.data[off-op.off:end-op.off], off)
}

func (n *inode) unsynced() (bytes int64) {
	for _, op := range n.pending {
		if !op.resize {
			bytes += op.end - op.off
		}
	}
	return bytes
}

// walk visits everything below n, in no order, with its path.
func walk(n *inode, p string, visit func(p string, n *inode)) {
	for name, child := range n.names {
		visit(p+"/"+name, child)
		if child.dir {
			walk(child, p+"/"+name, visit)
		}
	}
}

func pathError(op, name string, err error) error {
	return &os.PathError{Op: op, Path: name, Err: err}
}

// errnoOf returns the cause in a path error.
func errnoOf(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	return err
}
