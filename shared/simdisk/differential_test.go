package simdisk

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// side is one of the two file systems that are given the same calls.
type side struct {
	fs   vfs.FS
	root string
	open map[int]vfs.File
}

type truncater interface{ Truncate(int64) error }

// TestBehavesAsTheOperatingSystem gives the same random calls to a Disk and to
// a real directory: results, errors and bytes must be the same.
func TestBehavesAsTheOperatingSystem(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 2))
		d := New()
		sides := []*side{
			{fs: d, root: "/", open: map[int]vfs.File{}},
			{fs: vfs.Default, root: t.TempDir(), open: map[int]vfs.File{}},
		}
		for i := range 250 {
			call := rng.Uint64()
			ours, theirs := sides[0].do(call), sides[1].do(call)
			if ours != theirs {
				t.Fatalf("seed %d, call %d: ours %s, the system's %s", seed, i, ours, theirs)
			}
			// Power loss is not what is tested, but a clone must not disturb.
			if i%50 == 25 {
				d.CrashClone(rng)
			}
		}
		if diff := cmp.Diff(sides[1].tree(t, ""), sides[0].tree(t, "")); diff != "" {
			t.Fatalf("seed %d: trees (-system +ours):\n%s", seed, diff)
		}
		for _, s := range sides {
			for _, f := range s.open {
				must(t, f.Close())
			}
		}
	}
}

func (s *side) path(n int) string {
	names := []string{"a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "a/x"}
	return filepath.Join(s.root, names[n%len(names)])
}

// do makes the call that the bits say and describes what came of it.
func (s *side) do(bits uint64) string {
	take := func(n uint64) int {
		v := bits % n
		bits /= n
		return int(v)
	}
	op, slot := take(14), take(3)
	name, other := s.path(take(9)), s.path(take(9))
	size, off := int64(take(9000)), int64(take(9000))
	f := s.open[slot]
	var err error
	result := ""
	switch op {
	case 0, 1:
		err = s.opened(slot)(s.fs.OpenReadWrite(name, category))
	case 2:
		if info, err := s.fs.Stat(name); err == nil && info.IsDir() {
			return "is a directory" // which Pebble would remove if it is empty
		}
		err = s.opened(slot)(s.fs.Create(name, category))
	case 3:
		err = s.fs.Rename(name, other)
	case 4:
		err = s.fs.Link(name, other)
	case 5:
		err = s.fs.Remove(name)
	case 6:
		err = s.fs.MkdirAll(name, 0o755)
	case 7:
		err = s.fs.RemoveAll(name)
	case 8:
		err = s.opened(slot)(s.fs.ReuseForWrite(name, other, category))
	case 9:
		var info vfs.FileInfo
		if info, err = s.fs.Stat(name); err == nil {
			result = fmt.Sprint(info.Name(), info.IsDir())
			if !info.IsDir() {
				result += fmt.Sprint(info.Size())
			}
		}
	default:
		if f == nil {
			return "no file"
		}
		result, err = s.use(f, op, size, off)
	}
	return fmt.Sprintf("op %d %s %v", op, result, class(err))
}

func (s *side) use(f vfs.File, op int, size, off int64) (result string, err error) {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(int64(i) * off >> 7)
	}
	var n int
	switch op {
	case 10:
		n, err = f.WriteAt(data, off)
	case 11:
		n, err = f.Write(data[:size/8])
	case 12:
		n, err = f.ReadAt(data, off)
		result = fmt.Sprintf("%x", data[:min(n, 40)])
	case 13:
		if err = f.(truncater).Truncate(off); err == nil {
			err = f.Sync()
		}
	}
	return fmt.Sprint(n, result), err
}

// opened takes the place of the slot's file, if the call gave one.
func (s *side) opened(slot int) func(vfs.File, error) error {
	return func(f vfs.File, err error) error {
		if err != nil {
			return err
		}
		if old := s.open[slot]; old != nil {
			err = old.Close()
		}
		s.open[slot] = f
		return err
	}
}

// class is what callers tell errors apart by.
func class(err error) error {
	for _, known := range []error{syscall.ENOENT, syscall.EEXIST, syscall.EISDIR, syscall.ENOTDIR, syscall.ENOTEMPTY, syscall.EINVAL, syscall.EPERM, io.EOF} {
		if errors.Is(err, known) {
			return known
		}
	}
	return err
}

func (s *side) tree(t *testing.T, dir string) (lines []string) {
	t.Helper()
	names, err := s.fs.List(filepath.Join(s.root, dir))
	must(t, err)
	slices.Sort(names)
	for _, name := range names {
		p := filepath.Join(dir, name)
		full := filepath.Join(s.root, p)
		info, err := s.fs.Stat(full)
		must(t, err)
		if info.IsDir() {
			lines = append(append(lines, p+"/"), s.tree(t, p)...)
			continue
		}
		f, err := s.fs.Open(full)
		must(t, err)
		b, err := io.ReadAll(f)
		must(t, err)
		must(t, f.Close())
		lines = append(lines, fmt.Sprintf("%s %x", p, b))
	}
	return lines
}
