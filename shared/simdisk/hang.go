package simdisk

import "sync"

// hang is what syncs of some files wait for.
type hang struct {
	Fault
	over chan struct{}
}

// HangSyncs makes every sync of a file or directory whose path fits pattern, as that of a
// Fault does, wait until release is called, and go on then as if nothing had been: what a
// volume does that has lost its way to its disk, which reports no error. All other calls are
// answered meanwhile. Another HangSyncs takes the place of the one before.
func (d *Disk) HangSyncs(pattern string) (release func()) {
	h := &hang{Fault{Path: pattern}, make(chan struct{})}
	d.hanging.Store(h)
	return sync.OnceFunc(func() {
		d.hanging.CompareAndSwap(h, nil)
		close(h.over)
	})
}

// await returns once a sync of the file may go on. No lock of the disk is held by its caller.
func (d *Disk) await(name string) {
	if h := d.hanging.Load(); h != nil && h.names(name) {
		<-h.over
	}
}
