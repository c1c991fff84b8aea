package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/simdisk"
)

// simFolder is the directory of a Folder on a disk that crashes, with two that lead
// to it.
const simFolder = "/mnt/backup/archive"

// simDisk is a disk as a Folder sees it.
type simDisk struct {
	d    *simdisk.Disk
	made bool
}

func onSim(d *simdisk.Disk) *Folder {
	return &Folder{path: simFolder, open: func(string, bool) (disk, error) {
		_, err := d.Stat(simFolder)
		s := &simDisk{d: d, made: errors.Is(err, iofs.ErrNotExist)}
		if s.made {
			err = d.MkdirAll(simFolder, 0o700)
		}
		return s, err
	}}
}

func (s *simDisk) at(name string) string { return path.Join(simFolder, name) }
func (s *simDisk) close() error          { return nil }
func (s *simDisk) isNew() bool           { return s.made }

func (s *simDisk) create(name string) (temporary, error) {
	return s.d.Create(s.at(name), vfs.WriteCategoryUnspecified)
}

// Every process of before is gone.
func (s *simDisk) abandoned(name string) error { return s.unlink(name) }

func (s *simDisk) link(from, to string) error { return s.d.Link(s.at(from), s.at(to)) }

func (s *simDisk) removeIf(dir bool, name string, otherwise error) error {
	info, err := s.stat(name)
	if err != nil {
		return err
	}
	if info.IsDir() != dir {
		return otherwise
	}
	return s.d.Remove(s.at(name))
}

func (s *simDisk) unlink(name string) error { return s.removeIf(false, name, syscall.EISDIR) }
func (s *simDisk) rmdir(name string) error  { return s.removeIf(true, name, syscall.ENOTDIR) }

func (s *simDisk) mkdir(name string) error {
	if _, err := s.stat(name); err == nil {
		return iofs.ErrExist
	}
	if _, err := s.stat(path.Dir(name)); err != nil {
		return err
	}
	return s.d.MkdirAll(s.at(name), 0o700)
}

type simFile struct{ vfs.File }

func (f simFile) Stat() (iofs.FileInfo, error) { return f.File.Stat() }

func (s *simDisk) open(name string) (file, error) {
	f, err := s.d.Open(s.at(name))
	if err != nil {
		return nil, err
	}
	return simFile{f}, nil
}

func (s *simDisk) stat(name string) (iofs.FileInfo, error) { return s.d.Stat(s.at(name)) }

func (s *simDisk) list(name string) (entries []iofs.DirEntry, err error) {
	names, err := s.d.List(s.at(name))
	for _, n := range names {
		info, err := s.stat(path.Join(name, n))
		if err != nil {
			return nil, err
		}
		entries = append(entries, iofs.FileInfoToDirEntry(info))
	}
	return entries, err
}

func (s *simDisk) syncDir(name string) error { return s.sync(s.at(name)) }

func (s *simDisk) sync(name string) error {
	f, err := s.d.OpenDir(name)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return errors.Join(&syncError{err}, f.Close())
	}
	return f.Close()
}

func (s *simDisk) syncAbove() error {
	for dir := path.Dir(simFolder); ; dir = path.Dir(dir) {
		if err := s.sync(dir); err != nil || dir == "/" {
			return err
		}
	}
}

// step is one call of a workload: a put, or with delete a deletion.
type step struct {
	key    string
	delete bool
}

func steps() []step {
	return []step{
		{key: "x", delete: true}, {key: "log/1/a"}, {key: "log/1/b"}, {key: "log/1/a"}, {key: "top"}, {key: "log/1/a", delete: true}, {key: "log/1/b", delete: true},
		{key: "log/1/c"}, {key: "log", delete: true}, {key: "top", delete: true}, {key: "log/1/a"}, {key: "x/y/z"}, {key: "x/y/z", delete: true}, {key: "x"},
	}
}

// contentOf is what is put at a key: more than a sector.
func contentOf(key string) string { return strings.Repeat(key+".", 600) }

func (s step) run(f *Folder) error {
	if s.delete {
		return f.Delete(context.Background(), s.key)
	}
	err := f.Put(context.Background(), s.key, Bytes([]byte(contentOf(s.key))))
	if errors.Is(err, ErrExists) {
		return nil // durable as well
	}
	return err
}

// outcome is what a store must hold: present, absent, or either.
type outcome map[string]string

const (
	present = "present"
	absent  = "absent"
	either  = "either"
)

func (o outcome) done(s step, err error) {
	switch {
	case err != nil && (errors.Is(err, ErrFailed) && o[s.key] != ""):
		// A folder that has failed does nothing: but this may be the call it failed in.
		if o[s.key] != map[bool]string{true: absent, false: present}[s.delete] {
			o[s.key] = either
		}
	case err != nil:
		o[s.key] = either
	case s.delete:
		o[s.key] = absent
	default:
		o[s.key] = present
	}
}

// check compares a store with what it must hold.
func (o outcome) check(f *Folder) error {
	list, err := f.List(context.Background(), "", "", MaxList)
	if err != nil {
		return err
	}
	listed := make(map[string]bool)
	for _, info := range list {
		listed[info.Key] = true
		if o[info.Key] != present && o[info.Key] != either {
			return fmt.Errorf("%q is listed and %q", info.Key, o[info.Key])
		}
		r, err := f.Get(context.Background(), info.Key, 0, -1)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		if err != nil || string(b) != contentOf(info.Key) {
			return fmt.Errorf("%s is there with %d bytes that were not put: %w", info.Key, len(b), err)
		}
	}
	for key, is := range o {
		if is == present && !listed[key] {
			return fmt.Errorf("%s was put and is not there", key)
		}
	}
	return nil
}

// checkAfter checks what a store holds on a disk that has crashed, that it goes on
// from there, and that what it then acknowledges is durable too.
func (o outcome) checkAfter(d *simdisk.Disk, rng *rand.Rand) error {
	f := onSim(d)
	if err := o.check(f); err != nil {
		return err
	}
	after := outcome{}
	for key, is := range o {
		after[key] = is
	}
	for _, s := range steps() {
		err := s.run(f)
		if err != nil {
			return fmt.Errorf("after the crash: %w", err)
		}
		after.done(s, nil)
		again := d.CrashClone(rng)
		if err := after.check(onSim(again)); err != nil {
			return fmt.Errorf("after the second crash, and %+v: %w", s, err)
		}
	}
	if names, err := d.List(path.Join(simFolder, temporaries)); err != nil || len(names) != 0 {
		return fmt.Errorf("temporary files are left: %q, %w", names, err)
	}
	return nil
}

func calls(t *testing.T) int {
	t.Helper()
	d := simdisk.New()
	for _, s := range steps() {
		if err := s.run(onSim(d)); err != nil {
			t.Fatal(err)
		}
	}
	return d.CallCount()
}

func TestFolderCrashesAtEveryCall(t *testing.T) {
	total := calls(t)
	if total < 60 {
		t.Fatalf("only %d calls", total)
	}
	for n := range total {
		d := simdisk.New()
		d.CrashAfter(n)
		f, want := onSim(d), outcome{}
		for _, s := range steps() {
			err := s.run(f)
			want.done(s, err)
			if err != nil {
				break
			}
		}
		for seed := range uint64(8) {
			rng := rand.New(rand.NewPCG(seed, uint64(n)))
			if err := want.checkAfter(d.CrashClone(rng), rng); err != nil {
				t.Fatalf("power lost after call %d (%+v), seed %d: %v", n, d.Calls()[max(0, n-1):n], seed, err)
			}
		}
		rng := rand.New(rand.NewPCG(99, uint64(n)))
		if err := want.checkAfter(d.KillClone(), rng); err != nil {
			t.Fatalf("killed after call %d: %v", n, err)
		}
	}
}

func TestFolderFailsAtEveryCall(t *testing.T) {
	total := calls(t)
	for _, errno := range []error{syscall.EIO, syscall.ENOSPC} {
		for n := 1; n <= total; n++ {
			d := simdisk.New()
			d.FailAt(n, errno)
			f, want := onSim(d), outcome{}
			failures := 0
			for _, s := range steps() {
				err := s.run(f)
				if err != nil {
					failures++
				}
				want.done(s, err)
				if err := want.check(f); err != nil {
					t.Fatalf("%v at call %d, %+v: %v", errno, n, s, err)
				}
			}
			if d.Armed() != 0 {
				continue // the workload took another way
			}
			call := d.Calls()[n-1]
			if quiet := call.Op == simdisk.OpRemove; failures == 0 && !quiet {
				t.Fatalf("%v at call %d (%+v) was not noticed", errno, n, call)
			}
			for seed := range uint64(4) {
				rng := rand.New(rand.NewPCG(seed, uint64(n)))
				if err := want.check(onSim(d.CrashClone(rng))); err != nil {
					t.Fatalf("%v at call %d (%+v), then power lost, seed %d: %v", errno, n, call, seed, err)
				}
			}
		}
	}
}

// A second process must not report ErrExists for a name that a crash can take: the
// first may have been killed before it synced.
func TestFolderTakenIsDurable(t *testing.T) {
	total := calls(t)
	for n := range total {
		d := simdisk.New()
		d.CrashAfter(n)
		f := onSim(d)
		for _, s := range steps() {
			if s.run(f) != nil {
				break
			}
		}
		second := d.KillClone()
		rng := rand.New(rand.NewPCG(1, uint64(n)))
		err := onSim(second).Put(t.Context(), "log/1/a", Bytes([]byte(contentOf("log/1/a"))))
		if err != nil && !errors.Is(err, ErrExists) {
			t.Fatal(err)
		}
		third := onSim(second.CrashClone(rng))
		if _, err := third.Stat(t.Context(), "log/1/a"); err != nil {
			t.Fatalf("killed after call %d, put by another, power lost: %v", n, err)
		}
	}
}
