package simdisk

import (
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
)

// TestSyncsHang: those that fit wait, those that do not and all other calls do not, and what
// the sync meets is what it meets once it goes on.
func TestSyncsHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New()
		must(t, d.MkdirAll("/log", 0o755))
		hung, other := create(t, d, "/log/a", []byte("a")), create(t, d, "/b", []byte("b"))
		release := d.HangSyncs("/log/*")
		synced := make(chan error, 2)
		for _, sync := range []func() error{hung.Sync, hung.SyncData} {
			go func() { synced <- sync() }()
		}
		must(t, other.Sync())
		_, err := hung.Write([]byte("c"))
		must(t, err)
		synctest.Wait()
		if calls := d.Calls(); len(synced) > 0 || calls[len(calls)-1].Op != OpWrite {
			t.Errorf("%d syncs came to their end: %v", len(synced), calls)
		}
		d.FailAt(d.CallCount()+2, syscall.EIO)
		release()
		release() // is harmless
		wantErr(t, "the second of them", errors.Join(<-synced, <-synced), syscall.EIO)
		must(t, hung.Sync())
	})
}
