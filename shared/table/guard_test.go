package table

import (
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/simdisk"
)

// TestAFailedStoreLetsEverybodyGo: whatever Pebble does about a failing disk
// (retry for ever, call it fatal, panic), callers get an error, the owner is
// told once, and Close returns.
func TestAFailedStoreLetsEverybodyGo(t *testing.T) {
	for name, f := range map[string]simdisk.Fault{
		"manifest write":  {Ops: simdisk.OpWrite, Path: "MANIFEST-*", Forever: true, Err: syscall.EIO},
		"manifest fsync":  {Ops: simdisk.OpSync, Path: "MANIFEST-*", Err: syscall.EIO},
		"disk full":       {Ops: simdisk.OpWrite, Path: "*.sst", Forever: true, Err: syscall.ENOSPC},
		"table fsync":     {Ops: simdisk.OpSync, Path: "*.sst", Err: syscall.EIO},
		"directory fsync": {Ops: simdisk.OpSyncDir, Path: "/state", Forever: true, Err: syscall.EIO},
		"marker fsync":    {Ops: simdisk.OpSyncDir, Path: "/checkpoint*", Err: syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			disk := simdisk.New()
			told := make(chan error, 10)
			s := openFailing(t, disk, func(err error) { told <- err })
			disk.Inject(f)
			if err := fill(s); err == nil {
				t.Fatal("a store on a failing disk takes writes for ever")
			}
			if err := s.Flush(); !errors.Is(err, s.err) || err == nil {
				t.Errorf("Flush after the failure: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if len(told) != 1 {
				t.Fatalf("the owner was told %d times", len(told))
			}
			if disk.Armed() > 0 && !f.Forever {
				t.Error("the fault was never met")
			}
			// Pebble would try again at once, and for ever: give it the chance.
			for range 200 {
				runtime.Gosched()
				if n := tablesSince(disk, f.Path); n > maxTablesAfter {
					t.Fatalf("%d tables were begun after the failure", n)
				}
			}
		})
	}
}

// maxTablesAfter: a flush and a compaction may be under way when one fails.
const maxTablesAfter = 4

// tablesSince counts the tables begun since the first write to one failed; 0
// when the fault was another.
func tablesSince(disk *simdisk.Disk, pattern string) (n int) {
	if pattern != "*.sst" {
		return 0
	}
	written := false
	for _, c := range disk.Calls() {
		isTable := path.Ext(c.Path) == ".sst"
		written = written || isTable && c.Op&(simdisk.OpWrite|simdisk.OpSync) != 0
		if written && isTable && c.Op == simdisk.OpCreate {
			n++
		}
	}
	return n
}

func TestOpenOnAFailingDisk(t *testing.T) {
	for _, op := range []simdisk.Op{simdisk.OpCreate, simdisk.OpWrite, simdisk.OpSync, simdisk.OpSyncDir} {
		disk := simdisk.New()
		disk.Inject(simdisk.Fault{Ops: op, Forever: true, Err: syscall.EIO})
		log := logrus.New()
		log.SetOutput(io.Discard)
		s, err := Open(Options{FS: disk, Dir: "state", Log: log})
		if err == nil {
			t.Errorf("%s fails and the state opens: %v", op, s.Close())
		}
	}
}

func openFailing(t *testing.T, disk *simdisk.Disk, tell func(error)) *Store {
	t.Helper()
	s, err := openOn(disk, tell)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openOn(disk *simdisk.Disk, tell func(error)) (*Store, error) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return Open(Options{FS: disk, Dir: "state", Log: log, MemtableBytes: 32 << 10, CacheBytes: 1 << 20, OnFailure: tell})
}

// fill writes, with a flush and a checkpoint now and then, until an error comes.
func fill(s *Store) error {
	for i := range 5000 {
		b := s.NewBatch()
		op := frame.Op{Type: frame.Put, Key: fmt.Appendf(nil, "\x01key %06d", i), Value: make([]byte, 200)}
		if err := b.Add(&op); err != nil {
			return err
		}
		if err := b.Commit(Applied{Pos: lsn.Pos{LSN: lsn.LSN(i + 1)}}); err != nil {
			return err
		}
		if i%500 == 499 {
			if err := s.Flush(); err != nil {
				return err
			}
			if err := s.Checkpoint(fmt.Sprint("checkpoint", i)); err != nil && s.hasFailed() {
				return err
			}
		}
	}
	return nil
}

// TestDamageIsAnErrorThatSaysWhatToDo: without the listener a damaged block ends
// the goroutine that reads it.
func TestDamageIsAnErrorThatSaysWhatToDo(t *testing.T) {
	disk := simdisk.New()
	s := openFailing(t, disk, nil)
	if err := errors.Join(fill(s), s.Flush(), s.Close()); err != nil {
		t.Fatal(err)
	}
	for _, name := range disk.Names() {
		if path.Ext(name) == ".sst" && path.Dir(name) == "/state" {
			if err := disk.FlipBit(name, 100); err != nil {
				t.Fatal(err)
			}
		}
	}
	// A compaction that the opening starts may find the damage before a read does.
	told := make(chan error, 10)
	s, err := openOn(disk, func(err error) { told <- err })
	if err != nil {
		if !saysDamage(err) {
			t.Error(err)
		}
		return
	}
	it, err := s.Iter([]byte{areaLogged}, []byte{areaLogged + 1}, false)
	if err != nil {
		t.Fatal(err)
	}
	for it.Next() {
	}
	for what, err := range map[string]error{"the scan": it.Err(), "the owner": <-told} {
		if !saysDamage(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_ = it.Close() // repeats the error
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func saysDamage(err error) bool {
	return err != nil && strings.Contains(err.Error(), ".sst is damaged") && strings.Contains(err.Error(), "move state away")
}

// brokenDir fails its first sync; like a real one it succeeds after that, without
// what the first one lost.
type brokenDir struct {
	vfs.File
	syncs int
}

func (d *brokenDir) Sync() error {
	d.syncs++
	if d.syncs == 1 {
		return errors.New("input/output error")
	}
	return nil
}

// A compaction that is under way when a flush's directory sync fails must not
// sync the directory again and go on.
func TestAFailedSyncOfADirectoryIsNotRetried(t *testing.T) {
	g := newGuard(nil)
	g.opening.Store(false)
	dir := &brokenDir{}
	for _, who := range []string{"the flush", "the compaction"} {
		wentOn := false
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := (guardedDir{dir, g}).Sync(); err == nil {
				wentOn = true
			}
		}()
		<-ended
		if wentOn {
			t.Errorf("%s went on after the failure", who)
		}
	}
	if dir.syncs != 1 {
		t.Errorf("the directory was synced %d times, want the failed one alone", dir.syncs)
	}
}
