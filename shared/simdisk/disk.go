// Package simdisk is the disk the tests crash: a file system in memory that
// knows what a power loss may take. No code that ships imports it.
//
// The model, stricter than any one file system:
//
//   - A file's bytes are durable after Sync or SyncData of the file, its size
//     with them. What was written since may survive sector by sector (512
//     bytes), in any mixture, but within one sector writes land in their order.
//   - A file that grew may come back grown without its data: as zeros.
//   - A name (create, rename, link, remove, mkdir) is durable after Sync of its
//     directory. Syncing the file does not sync its name. A rename is atomic,
//     across directories too, as on every journaling file system.
//   - A failed sync drops what it was to write and leaves it looking clean, as
//     Linux does: the next sync succeeds and the data is not there.
//
// Every call that changes the disk has a number, counted from 1 in the order in
// which it took effect; Calls lists them. A test records a workload, then runs
// it again with CrashAfter(n) or FailAt(n, err) for every n. CrashClone is the
// disk as the next boot may find it; KillClone is what a process finds that
// starts after another was killed, with the page cache intact.
//
// What happens is a function of the sequence of calls and of the rng passed in:
// no clock is read (every modification time is zero) and no map is ranged over.
package simdisk

import (
	"errors"
	"io"
	"math"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrCrashed is what every call returns once the power is gone.
var ErrCrashed = errors.New("simdisk: the disk has lost power")

// sectorSize is what a disk writes whole or not at all, in bytes.
const sectorSize = 512

// unlimitedBytes is the size of a disk without a budget.
const unlimitedBytes = 1 << 40

// Op is a kind of call, one bit each so that a Fault can name several.
type Op uint32

// The calls that change the disk are numbered. Those from OpOpen on are not,
// and fail only when a Fault names them.
const (
	OpCreate Op = 1 << iota
	OpWrite
	OpTruncate
	OpPreallocate
	OpSync
	OpSyncDir
	OpRename
	OpLink
	OpRemove
	OpMkdir
	OpOpen
	OpRead
	OpList
	OpStat

	numbered = OpOpen - 1
)

var opNames = [...]string{"create", "write", "truncate", "preallocate", "sync", "syncdir", "rename",
	"link", "remove", "mkdir", "open", "read", "list", "stat"}

// String names the kinds, joined by "|".
func (o Op) String() string {
	var names []string
	for i, name := range opNames {
		if o&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}

// Call is one numbered call. Call number n is Calls()[n-1].
type Call struct {
	Op Op
	// Path is absolute and clean; for rename and link the old name.
	Path string
	// To is the new name of a rename or link.
	To string
	// Off is where a write or preallocation begins.
	Off int64
	// Size is the bytes of a write or preallocation, the length a truncation
	// leaves, the unsynced bytes a sync makes durable, or the unsynced names.
	Size int64
}

// Fault makes calls fail.
type Fault struct {
	// From is the number of the first call the fault may hit; 0 is the next one.
	// Calls that are not numbered are hit whatever From is.
	From int
	// Skip lets that many fitting calls pass first.
	Skip int
	// Ops are the kinds it hits; 0 is every numbered kind.
	Ops Op
	// Path is a path.Match pattern for the whole path or its last element, and
	// for rename and link also of the new name; "" fits all.
	Path string
	// Forever keeps the fault after its first hit; without it the fault is spent.
	Forever bool
	// Short is how many bytes of a write still get in.
	Short int
	// Err is what the call returns, such as syscall.EIO; nil is io.ErrShortWrite.
	Err error
}

// Disk is a file system in memory. It is safe for concurrent use.
type Disk struct {
	mu   sync.RWMutex
	root *inode
	// pending are the changes of names that no directory sync has made durable,
	// in the order they were made.
	pending []dirOp
	calls   []Call
	faults  []Fault
	hanging atomic.Pointer[hang]
	locks   map[*inode]bool
	nextID  uint64
	onCall  func(n int, c Call, freeze func() *Disk)
	// crashAfter is the last call that succeeds, negative for none.
	crashAfter int
	crashed    bool
	// budget and used are bytes of file contents; holes count.
	budget, used int64
}

var _ vfs.FS = (*Disk)(nil)

// New returns an empty disk that holds as much as is written to it.
func New() *Disk {
	d := &Disk{locks: make(map[*inode]bool), crashAfter: -1, budget: math.MaxInt64}
	d.root = d.newInode(true)
	return d
}

// Calls returns the numbered calls so far, failed ones included.
func (d *Disk) Calls() []Call {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Clone(d.calls)
}

// CallCount returns the number of the last numbered call.
func (d *Disk) CallCount() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.calls)
}

// CrashAfter cuts the power when call n+1 is made: that call and every later
// one, reads and Close included, returns ErrCrashed and changes nothing. A
// negative n takes the order back.
func (d *Disk) CrashAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashAfter = n
}

// OnCall has fn called when call n is about to take effect, or to fail. freeze
// returns the disk as it is between calls n-1 and n, as KillClone does, so that
// one run of a workload yields every crash point, and code that gives up the
// process when the disk fails (Pebble, when it cannot write its manifest) can be
// tested as well. fn runs under the disk's lock: of this disk it may call
// freeze alone. nil ends it.
func (d *Disk) OnCall(fn func(n int, c Call, freeze func() *Disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onCall = fn
}

// Crash cuts the power now.
func (d *Disk) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashed = true
}

// Crashed reports whether the power is gone.
func (d *Disk) Crashed() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.crashed
}

// FailAt fails call n, once, without effect: short for Inject.
func (d *Disk) FailAt(n int, err error) { d.Inject(Fault{From: n, Err: err}) }

// Inject adds a fault. A call that fits several gets the one added first.
func (d *Disk) Inject(f Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, f)
}

// Heal removes all faults, those not yet hit too.
func (d *Disk) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = nil
}

// Armed returns how many faults are set and not spent: a test whose fault never
// fired has tested nothing.
func (d *Disk) Armed() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.faults)
}

// SetBudget bounds the bytes of all files together. A write beyond it gets in
// as far as there is room and returns ENOSPC. What is there stays.
func (d *Disk) SetBudget(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.budget = bytes
}

// Used returns the bytes of all files, unlinked ones that are open included.
func (d *Disk) Used() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.used
}

// alive fails a call once the power is gone.
func (d *Disk) alive() error {
	if d.crashed {
		return ErrCrashed
	}
	return nil
}

// step numbers a call that is about to take effect. It returns the fault the
// call is to suffer, or ErrCrashed. The caller holds mu for writing.
func (d *Disk) step(c Call) (*Fault, error) {
	if d.crashed || (d.crashAfter >= 0 && len(d.calls) >= d.crashAfter) {
		d.crashed = true
		return nil, ErrCrashed
	}
	if d.onCall != nil {
		d.onCall(len(d.calls)+1, c, d.clone)
	}
	d.calls = append(d.calls, c)
	return d.hit(&c, len(d.calls)), nil
}

// change is step for calls that have no effect at all when they fail.
func (d *Disk) change(c Call) error {
	f, err := d.step(c)
	if err != nil {
		return err
	}
	if f != nil {
		return f.Err
	}
	return nil
}

// look is what a call that only reads meets first. It takes mu by itself, so
// that readers exclude each other only while a fault is set.
func (d *Disk) look(op Op, name string) error {
	d.mu.RLock()
	crashed, faulty := d.crashed, len(d.faults) > 0
	d.mu.RUnlock()
	if !crashed && !faulty {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.looked(op, name)
}

// looked is look for a caller that holds mu for writing.
func (d *Disk) looked(op Op, name string) error {
	if err := d.alive(); err != nil {
		return err
	}
	if f := d.hit(&Call{Op: op, Path: clean(name)}, math.MaxInt); f != nil {
		return f.Err
	}
	return nil
}

// hit returns the first fault that c fits, and spends it.
func (d *Disk) hit(c *Call, number int) *Fault {
	for i := range d.faults {
		f := &d.faults[i]
		if !f.fits(c, number) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		found := *f
		if found.Err == nil {
			found.Err = io.ErrShortWrite
		}
		if !f.Forever {
			d.faults = slices.Delete(d.faults, i, i+1)
		}
		return &found
	}
	return nil
}

func (f *Fault) fits(c *Call, number int) bool {
	ops := f.Ops
	if ops == 0 {
		ops = numbered
	}
	if c.Op&ops == 0 || number < f.From {
		return false
	}
	return f.Path == "" || f.names(c.Path) || (c.To != "" && f.names(c.To))
}

func (f *Fault) names(p string) bool {
	for _, name := range []string{p, path.Base(p)} {
		if ok, err := path.Match(f.Path, name); ok && err == nil {
			return true
		}
	}
	return false
}

// FlipBit flips one bit of the byte at off of a file, in the page cache and on
// the disk, as decay does. It is no call: not numbered, and possible on a disk
// without power.
func (d *Disk) FlipBit(name string, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.file("flip", name)
	if err != nil {
		return err
	}
	if off < 0 || off >= n.live.size {
		return pathError("flip", name, syscall.EINVAL)
	}
	for _, c := range []*content{&n.live, &n.durable} {
		if off >= c.size {
			continue
		}
		var b [1]byte
		c.readAt(b[:], off)
		b[0] ^= 1 << (off & 7)
		c.writeAt(b[:], off)
	}
	return nil
}

// ReadFile returns a file's bytes as a reader sees them now. It is no call:
// faults do not reach it, and it works on a disk without power.
func (d *Disk) ReadFile(name string) ([]byte, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	n, err := d.file("read", name)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n.live.size)
	n.live.readAt(b, 0)
	return b, nil
}

// Names returns the path of every file, sorted. Like ReadFile it is no call.
func (d *Disk) Names() []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var names []string
	walk(d.root, "", func(p string, n *inode) {
		if !n.dir {
			names = append(names, p)
		}
	})
	slices.Sort(names)
	return names
}
