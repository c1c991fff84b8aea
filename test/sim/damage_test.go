package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"path"
	"strings"
	"syscall"
	"testing"

	"originchain/shared/datadir"
	"originchain/shared/engine"
	"originchain/shared/fault"
	recovery "originchain/shared/recover"
	"originchain/shared/simdisk"
	"originchain/test/oracle"
)

// node is a data directory after a workload and a clean stop, with what its
// clients know.
type node struct {
	t    *testing.T
	disk *simdisk.Disk
	evidence
}

// written runs a short workload. With trimmed unset no checkpoint succeeds, so
// that the log keeps reaching back to LSN 1.
func written(t *testing.T, trimmed bool) *node {
	t.Helper()
	n := &node{t: t, disk: simdisk.New()}
	if !trimmed {
		n.disk.Inject(simdisk.Fault{Ops: simdisk.OpMkdir, Path: dataDir + "/checkpoints/*", Forever: true, Err: syscall.EPERM})
	}
	n.hist = newHistory(&oracle.Schemas{})
	n.disk.OnCall(func(_ int, c simdisk.Call, freeze func() *simdisk.Disk) {
		if isTrim(c) {
			n.hist.keep(freeze(), c.Path)
		}
	})
	defer n.disk.OnCall(nil)
	r, err := open(n.disk, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := makeTables(r); err != nil {
		t.Fatal(err)
	}
	rec := &record{}
	c := newClient(0, 7, rec)
	for range 150 {
		c.step(r)
	}
	if err := errors.Join(append(c.errs, r.close())...); err != nil {
		t.Fatal(err)
	}
	n.disk.Heal()
	n.acks, n.said = rec.heard(), rec.said()
	return n
}

// files lists the paths in a folder of the data directory that end in suffix.
func files(d *simdisk.Disk, folder, suffix string) (found []string) {
	for _, name := range d.Names() {
		if path.Dir(name) == dataDir+"/"+folder && strings.HasSuffix(name, suffix) {
			found = append(found, name)
		}
	}
	return found
}

func removeAll(t *testing.T, d *simdisk.Disk, folder string) {
	t.Helper()
	if err := d.RemoveAll(dataDir + "/" + folder); err != nil {
		t.Fatal(err)
	}
}

// mustRefuse opens a directory that no engine may open.
func mustRefuse(t *testing.T, d *simdisk.Disk) error {
	t.Helper()
	e, err := engine.Open(context.Background(), config(), deps(d, 0))
	if err == nil {
		t.Fatalf("it opens: %v", e.Close())
	}
	return err
}

func mustName(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("the error does not name %q: %v", p, err)
		}
	}
}

func TestAFlippedBitInASealedSegmentIsRefused(t *testing.T) {
	n := written(t, false)
	logs := files(n.disk, "log", ".log")
	if len(logs) < 3 {
		t.Fatalf("only %d segments", len(logs))
	}
	for i, name := range logs[:len(logs)-1] {
		raw, err := n.disk.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		// The footer's hash of the file is checked by a verification, not by an
		// opening, which checks each frame.
		for off := int64(i); off < int64(len(raw))-64; off += 1 + int64(len(raw))/24 {
			d := n.disk.KillClone()
			if err := d.FlipBit(name, off); err != nil {
				t.Fatal(err)
			}
			removeAll(t, d, "state") // so that every frame is read
			err := mustRefuse(t, d)
			var bad *fault.Corruption
			if !errors.As(err, &bad) || bad.File != name && i+1 < len(logs) && bad.File != logs[i+1] {
				t.Fatalf("bit at %d of %s: %v", off, name, err)
			}
			mustName(t, err, "offset", "oc-pitr restore")
		}
	}
}

// TestAFlippedBitInTheStateIsNeverReadAsData: every read of a damaged table
// fails; none returns other data.
func TestAFlippedBitInTheStateIsNeverReadAsData(t *testing.T) {
	n := written(t, true)
	tables := files(n.disk, "state", ".sst")
	if len(tables) == 0 {
		t.Fatal("no table")
	}
	refused := 0
	for _, name := range tables {
		raw, err := n.disk.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for off := int64(3); off < int64(len(raw)); off += 1 + int64(len(raw))/16 {
			d := n.disk.KillClone()
			if err := d.FlipBit(name, off); err != nil {
				t.Fatal(err)
			}
			_, err := n.examine(d, 0, nil)
			// A store that has failed goes on trying to read until its process
			// ends; here it must find an end of that.
			if err := d.FlipBit(name, off); err != nil && !errors.Is(err, iofs.ErrNotExist) {
				t.Fatal(err)
			}
			if err != nil {
				refused++
				if errors.Is(err, oracle.ErrDiffers) {
					t.Fatalf("bit at %d of %s: %v", off, name, err)
				}
				mustName(t, err, "state", "checkpoints")
			}
		}
	}
	if refused < len(tables)*8 {
		t.Errorf("only %d flips of %d tables were refused", refused, len(tables))
	}
}

func TestALostStateIsRebuiltFromTheLog(t *testing.T) {
	n := written(t, false)
	d := n.disk.KillClone()
	removeAll(t, d, "state")
	if _, err := n.examine(d, 0, nil); err != nil {
		t.Fatal(err)
	}
}

func TestALostStateIsRefusedWhenTheLogIsTrimmed(t *testing.T) {
	n := written(t, true)
	removeAll(t, n.disk, "state")
	err := mustRefuse(t, n.disk)
	var bad *recovery.MismatchError
	if !errors.As(err, &bad) {
		t.Fatalf("got %v", err)
	}
	mustName(t, err, "no longer reaches back", "checkpoints")
	putBack(t, n.disk)
	if _, err := n.examine(n.disk, 0, nil); err != nil {
		t.Fatalf("with the newest checkpoint in the state's place: %v", err)
	}
}

// putBack is what the refusal of a lost state tells the operator to do.
func putBack(t *testing.T, d *simdisk.Disk) {
	t.Helper()
	dirs, err := d.List(dataDir + "/checkpoints")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("checkpoints %v: %v", dirs, err)
	}
	removeAll(t, d, "state") // the refused opening has begun a new one
	if err := d.MkdirAll(dataDir+"/state", 0o700); err != nil {
		t.Fatal(err)
	}
	newest := dirs[len(dirs)-1]
	for _, name := range files(d, "checkpoints/"+newest, "") {
		if err := d.Link(name, dataDir+"/state/"+path.Base(name)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAStateAheadOfItsLogIsRefused(t *testing.T) {
	n := written(t, false)
	logs := files(n.disk, "log", ".log")
	for _, name := range append(logs[len(logs)-2:], dataDir+"/log/durable.mark") {
		if err := n.disk.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	err := mustRefuse(t, n.disk)
	var bad *recovery.MismatchError
	if !errors.As(err, &bad) {
		t.Fatalf("got %v", err)
	}
	mustName(t, err, "ahead of the log", "checkpoints")
}

func TestALogCutBelowItsMarkIsRefused(t *testing.T) {
	n := written(t, false)
	logs := files(n.disk, "log", ".log")
	if err := n.disk.Remove(logs[len(logs)-1]); err != nil {
		t.Fatal(err)
	}
	var bad *fault.Corruption
	if err := mustRefuse(t, n.disk); !errors.As(err, &bad) {
		t.Fatalf("got %v", err)
	}
}

// identify rewrites the identity of a directory.
func identify(t *testing.T, d *simdisk.Disk, change func(*datadir.Identity)) {
	t.Helper()
	name := dataDir + "/instance.json"
	raw, err := d.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var id datadir.Identity
	if err := json.Unmarshal(raw, &id); err != nil {
		t.Fatal(err)
	}
	change(&id)
	if raw, err = json.Marshal(id); err != nil {
		t.Fatal(err)
	}
	f, err := d.Create(name, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestForeignAndNewerDirectoriesAreRefused(t *testing.T) {
	n := written(t, true)
	t.Run("another instance's directory", func(t *testing.T) {
		d := n.disk.KillClone()
		identify(t, d, func(id *datadir.Identity) { id.InstanceID[3] ^= 1 })
		if err := mustRefuse(t, d); !errors.Is(err, datadir.ErrForeign) {
			t.Fatal(err)
		}
	})
	t.Run("another instance's log", func(t *testing.T) {
		d := n.disk.KillClone()
		identify(t, d, func(id *datadir.Identity) { id.InstanceID[3] ^= 1 })
		c := config()
		c.InstanceID = ""
		e, err := engine.Open(context.Background(), c, deps(d, 0))
		if err == nil {
			t.Fatalf("it opens: %v", e.Close())
		}
		mustName(t, err, "belongs to instance", "--data-dir")
	})
	t.Run("another node's directory", func(t *testing.T) {
		d := n.disk.KillClone()
		identify(t, d, func(id *datadir.Identity) { id.NodeID = "other" })
		if err := mustRefuse(t, d); !errors.Is(err, datadir.ErrForeign) {
			t.Fatal(err)
		}
	})
	t.Run("a newer format", func(t *testing.T) {
		d := n.disk.KillClone()
		identify(t, d, func(id *datadir.Identity) { id.Format++ })
		if err := mustRefuse(t, d); !errors.Is(err, datadir.ErrNewer) {
			t.Fatal(err)
		}
	})
	t.Run("in use", func(t *testing.T) {
		d := n.disk.KillClone()
		r, err := open(d, 0)
		if err != nil {
			t.Fatal(err)
		}
		before := len(d.Calls())
		if err := mustRefuse(t, d); !errors.Is(err, datadir.ErrLocked) {
			t.Error(err)
		}
		for _, c := range d.Calls()[before:] {
			if c.Op&(simdisk.OpWrite|simdisk.OpRename|simdisk.OpRemove|simdisk.OpTruncate) != 0 && strings.HasPrefix(c.Path, dataDir+"/instance") {
				t.Errorf("the second opening changed the directory: %+v", c)
			}
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
}

// TestAFullDisk fills the disk at many points of a workload: the engine stops,
// says that the disk is full, and with room again everything answered is there.
func TestAFullDisk(t *testing.T) {
	for room := int64(1 << 10); room < 400<<10; room = room*5/3 + 777 {
		e := &errorRun{seed: uint64(room), disk: simdisk.New(), rec: &record{}}
		e.hist = newHistory(&oracle.Schemas{})
		e.disk.OnCall(func(_ int, c simdisk.Call, freeze func() *simdisk.Disk) {
			if isTrim(c) {
				e.hist.keep(freeze(), c.Path)
			}
		})
		e.disk.SetBudget(room)
		err := fill(e)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%d bytes of room: %v", room, err)
		}
		e.disk.OnCall(nil)
		full := e.disk.KillClone()
		if err := mustOpenOrSay(full); err != nil {
			t.Fatalf("%d bytes of room, opened again: %v", room, err)
		}
		ev := evidence{hist: e.hist, acks: e.rec.heard(), said: e.rec.said()}
		for _, d := range []*simdisk.Disk{full.KillClone(), e.disk.CrashClone(cutRand(1, int(room)))} {
			d.SetBudget(1 << 40)
			if _, err := ev.examine(d, 0, nil); err != nil {
				t.Fatalf("%d bytes of room, then more: %v", room, err)
			}
		}
	}
}

// fill runs until the engine stops and returns why.
func fill(e *errorRun) error {
	r, err := open(e.disk, e.seed)
	if err != nil {
		return err
	}
	if err := makeTables(r); err == nil {
		c := newClient(0, e.seed, e.rec)
		for r.Failure() == nil && c.seq < 5000 {
			c.step(r)
		}
		for _, err := range c.errs {
			if !errors.Is(err, syscall.ENOSPC) {
				return fmt.Errorf("a client was told: %w", err)
			}
		}
	}
	r.stop()
	err = <-r.done
	return errors.Join(err, ignored(r.Engine.Close()))
}

// ignored drops the error of closing a log that has failed.
func ignored(error) error { return nil }

// mustOpenOrSay opens on a disk that is still full: it may refuse, with the
// reason, and may not damage anything.
func mustOpenOrSay(d *simdisk.Disk) error {
	r, err := open(d, 0)
	if err == nil {
		r.stop()
		err = errors.Join(<-r.done, ignored(r.Engine.Close()))
	}
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return nil
}

// TestReadErrors: an opening that cannot read fails with the disk's error, not
// with a finding of damage, and does no harm.
func TestReadErrors(t *testing.T) {
	n := written(t, false)
	for _, pattern := range []string{"*.log", "*.sst", "MANIFEST-*", "durable.mark", "instance.json", "epoch.json"} {
		for skip := range 6 {
			d := n.disk.KillClone()
			d.Inject(simdisk.Fault{Ops: simdisk.OpRead | simdisk.OpOpen, Path: pattern, Skip: skip, Forever: true, Err: syscall.EIO})
			_, err := n.examine(d, 0, nil)
			d.Heal() // what has failed goes on trying until its process ends
			var bad *fault.Corruption
			if err != nil && (!errors.Is(err, syscall.EIO) || errors.As(err, &bad)) {
				t.Errorf("%s cannot be read after %d reads: %v", pattern, skip, err)
			}
			if err == nil && skip == 0 {
				t.Errorf("%s was never read", pattern)
			}
			if err := n.opens(d.KillClone()); err != nil {
				t.Errorf("%s can be read again: %v", pattern, err)
			}
		}
	}
}

// opens requires that a directory opens and holds together.
func (n *node) opens(d *simdisk.Disk) error {
	e, err := engine.Open(context.Background(), config(), deps(d, 0))
	if err != nil {
		return err
	}
	f, err := n.hist.foldLog(d, e.Log())
	if err == nil {
		err = hold(e, f)
	}
	return errors.Join(err, e.Close())
}
