package simdisk

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

const category = vfs.WriteCategoryUnspecified

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func create(t *testing.T, d *Disk, name string, data []byte) *file {
	t.Helper()
	f, err := d.Create(name, category)
	must(t, err)
	if len(data) > 0 {
		_, err = f.Write(data)
		must(t, err)
	}
	return f.(*file)
}

func openRW(t *testing.T, d *Disk, name string) *file {
	t.Helper()
	f, err := d.OpenReadWrite(name, category)
	must(t, err)
	return f.(*file)
}

func syncDir(t *testing.T, d *Disk, name string) {
	t.Helper()
	dir, err := d.OpenDir(name)
	must(t, err)
	must(t, dir.Sync())
	must(t, dir.Close())
}

func read(t *testing.T, d *Disk, name string) []byte {
	t.Helper()
	b, err := d.ReadFile(name)
	must(t, err)
	return b
}

// dump is all files and what is in them.
func dump(t *testing.T, d *Disk) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, name := range d.Names() {
		out[name] = string(read(t, d, name))
	}
	return out
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func TestCallsAreNumberedInOrder(t *testing.T) {
	d := New()
	must(t, d.MkdirAll("/a/b", 0o755))
	f := create(t, d, "a/b/one", []byte("hello"))
	must(t, f.Truncate(3))
	must(t, f.Preallocate(3, 100))
	must(t, f.Sync())
	must(t, d.Link("/a/b/one", "/a/two"))
	must(t, d.Rename("/a/two", "/a/three"))
	must(t, d.Remove("/a/three"))
	syncDir(t, d, "/a")
	must(t, d.RemoveAll("/a"))
	want := []Call{
		{Op: OpMkdir, Path: "/a"},
		{Op: OpMkdir, Path: "/a/b"},
		{Op: OpCreate, Path: "/a/b/one"},
		{Op: OpWrite, Path: "/a/b/one", Size: 5},
		{Op: OpTruncate, Path: "/a/b/one", Size: 3},
		{Op: OpPreallocate, Path: "/a/b/one", Off: 3, Size: 100},
		{Op: OpSync, Path: "/a/b/one", Size: 5},
		{Op: OpLink, Path: "/a/b/one", To: "/a/two"},
		{Op: OpRename, Path: "/a/two", To: "/a/three"},
		{Op: OpRemove, Path: "/a/three"},
		{Op: OpSyncDir, Path: "/a", Size: 4},
		{Op: OpRemove, Path: "/a/b/one"},
		{Op: OpRemove, Path: "/a/b"},
		{Op: OpRemove, Path: "/a"},
	}
	if diff := cmp.Diff(want, d.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if d.CallCount() != len(want) {
		t.Errorf("CallCount %d, want %d", d.CallCount(), len(want))
	}
	if got := (OpSync | OpSyncDir).String(); got != "sync|syncdir" {
		t.Errorf("ops are called %q", got)
	}
}

// TestRefusedCallsHaveNoNumber: what cannot take effect is not a crash point.
func TestRefusedCallsHaveNoNumber(t *testing.T) {
	d := New()
	must(t, d.MkdirAll("/dir/sub", 0o755))
	f := create(t, d, "/dir/file", []byte("x"))
	must(t, f.Close())
	reader, err := d.Open("/dir/file")
	must(t, err)
	before := d.CallCount()
	_, err = d.Create("/none/file", category)
	wantErr(t, "create below nothing", err, fs.ErrNotExist)
	_, err = d.Create("/dir/file/x", category)
	wantErr(t, "create below a file", err, syscall.ENOTDIR)
	_, err = d.Create("/dir", category)
	wantErr(t, "create over a directory", err, syscall.EISDIR)
	_, err = d.Create("/", category)
	wantErr(t, "create the root", err, syscall.EINVAL)
	_, err = d.Open("/none")
	wantErr(t, "open nothing", err, fs.ErrNotExist)
	_, err = d.OpenDir("/dir/file")
	wantErr(t, "open a file as directory", err, syscall.ENOTDIR)
	_, err = d.OpenReadWrite("/dir", category)
	wantErr(t, "write a directory", err, syscall.EISDIR)
	_, err = d.List("/dir/file")
	wantErr(t, "list a file", err, syscall.ENOTDIR)
	_, err = d.Stat("/none")
	wantErr(t, "stat nothing", err, fs.ErrNotExist)
	wantErr(t, "mkdir below a file", d.MkdirAll("/dir/file/x", 0o755), syscall.ENOTDIR)
	wantErr(t, "remove nothing", d.Remove("/none"), fs.ErrNotExist)
	wantErr(t, "remove a full directory", d.Remove("/dir"), syscall.ENOTEMPTY)
	wantErr(t, "link over a name", d.Link("/dir/file", "/dir/sub"), fs.ErrExist)
	wantErr(t, "link a directory", d.Link("/dir", "/x"), syscall.EPERM)
	wantErr(t, "rename nothing", d.Rename("/none", "/x"), fs.ErrNotExist)
	wantErr(t, "rename a file over a directory", d.Rename("/dir/file", "/dir/sub"), fs.ErrExist)
	wantErr(t, "rename a directory over a file", d.Rename("/dir/sub", "/dir/file"), syscall.ENOTDIR)
	wantErr(t, "rename into itself", d.Rename("/dir", "/dir/sub/x"), syscall.EINVAL)
	must(t, d.RemoveAll("/none/at/all"))
	_, err = reader.Write([]byte("y"))
	wantErr(t, "write a reader", err, syscall.EBADF)
	_, err = f.Write([]byte("y"))
	wantErr(t, "write a closed file", err, fs.ErrClosed)
	wantErr(t, "sync a closed file", f.Sync(), fs.ErrClosed)
	wantErr(t, "close twice", f.Close(), fs.ErrClosed)
	if got := d.CallCount() - before; got != 0 {
		t.Errorf("%d refused calls were numbered: %v", got, d.Calls()[before:])
	}
}

func TestCrashAfterStopsEverything(t *testing.T) {
	d := New()
	f := create(t, d, "/f", []byte("one"))
	lock, err := d.Lock("/LOCK")
	must(t, err)
	d.CrashAfter(d.CallCount())
	if _, err := f.ReadAt(make([]byte, 3), 0); err != nil {
		t.Fatalf("a read before the next call: %v", err)
	}
	_, err = f.Write([]byte("two"))
	wantErr(t, "write", err, ErrCrashed)
	if !d.Crashed() {
		t.Fatal("the power is still on")
	}
	_, err = f.ReadAt(make([]byte, 3), 0)
	wantErr(t, "read", err, ErrCrashed)
	_, err = f.Read(make([]byte, 3))
	wantErr(t, "read on", err, ErrCrashed)
	_, err = f.Stat()
	wantErr(t, "stat of a handle", err, ErrCrashed)
	_, err = f.SyncTo(1)
	wantErr(t, "syncto", err, ErrCrashed)
	wantErr(t, "prefetch", f.Prefetch(0, 1), ErrCrashed)
	wantErr(t, "sync", f.SyncData(), ErrCrashed)
	wantErr(t, "truncate", f.Truncate(0), ErrCrashed)
	wantErr(t, "close", f.Close(), ErrCrashed)
	wantErr(t, "unlock", lock.Close(), ErrCrashed)
	_, err = d.Create("/g", category)
	wantErr(t, "create", err, ErrCrashed)
	_, err = d.Open("/f")
	wantErr(t, "open", err, ErrCrashed)
	_, err = d.OpenReadWrite("/f", category)
	wantErr(t, "open for writing", err, ErrCrashed)
	_, err = d.OpenDir("/")
	wantErr(t, "open a directory", err, ErrCrashed)
	_, err = d.List("/")
	wantErr(t, "list", err, ErrCrashed)
	_, err = d.Stat("/f")
	wantErr(t, "stat", err, ErrCrashed)
	_, err = d.GetDiskUsage("/")
	wantErr(t, "disk usage", err, ErrCrashed)
	_, err = d.Lock("/LOCK2")
	wantErr(t, "lock", err, ErrCrashed)
	wantErr(t, "link", d.Link("/f", "/g"), ErrCrashed)
	wantErr(t, "rename", d.Rename("/f", "/g"), ErrCrashed)
	wantErr(t, "remove", d.Remove("/f"), ErrCrashed)
	wantErr(t, "remove all", d.RemoveAll("/"), ErrCrashed)
	wantErr(t, "mkdir", d.MkdirAll("/x", 0o755), ErrCrashed)
	if diff := cmp.Diff(map[string]string{"/f": "one", "/LOCK": ""}, dump(t, d)); diff != "" {
		t.Errorf("the crashed call changed the disk (-want +got):\n%s", diff)
	}
	if n := len(d.Calls()); n != 3 {
		t.Errorf("%d calls recorded, the crashed ones are none", n)
	}
}

func TestFaultsHitWhatTheyName(t *testing.T) {
	d := New()
	d.FailAt(2, syscall.EIO)
	f := create(t, d, "/log/../f", nil) // call 1
	_, err := f.Write([]byte("x"))      // call 2
	wantErr(t, "call 2", err, syscall.EIO)
	_, err = f.Write([]byte("x"))
	must(t, err)
	if d.Armed() != 0 {
		t.Error("a fault that was to hit once is still set")
	}

	d.Inject(Fault{Ops: OpCreate, Path: "*.log", Forever: true, Err: syscall.ENOSPC})
	d.Inject(Fault{Ops: OpWrite, Skip: 1, Err: syscall.EIO})
	d.Inject(Fault{Ops: OpRename, Path: "/to", Err: syscall.EIO})
	d.Inject(Fault{Ops: OpRead | OpStat, Path: "/f", Err: syscall.EIO})
	for range 3 {
		_, err = d.Create("/1.log", category)
		wantErr(t, "create *.log", err, syscall.ENOSPC)
	}
	create(t, d, "/1.tmp", nil)
	_, err = f.Write([]byte("passes"))
	must(t, err)
	_, err = f.Write([]byte("fails"))
	wantErr(t, "the second write", err, syscall.EIO)
	wantErr(t, "rename by its new name", d.Rename("/f", "/to"), syscall.EIO)
	_, err = d.Open("/f")
	must(t, err)
	_, err = f.ReadAt(make([]byte, 1), 0)
	wantErr(t, "read", err, syscall.EIO)
	_, err = f.ReadAt(make([]byte, 1), 0)
	must(t, err)
	d.Inject(Fault{Ops: OpStat | OpList | OpOpen, Forever: true, Err: syscall.EIO})
	_, err = d.Stat("/f")
	wantErr(t, "stat", err, syscall.EIO)
	_, err = f.Stat()
	wantErr(t, "stat of a handle", err, syscall.EIO)
	_, err = d.List("/")
	wantErr(t, "list", err, syscall.EIO)
	_, err = d.GetDiskUsage("/")
	wantErr(t, "disk usage", err, syscall.EIO)
	_, err = d.OpenDir("/")
	wantErr(t, "open a directory", err, syscall.EIO)
	_, err = d.OpenReadWrite("/f", category)
	wantErr(t, "open for writing", err, syscall.EIO)
	d.Heal()
	_, err = d.Stat("/f")
	must(t, err)
}

func TestFailedCallsHaveNoEffect(t *testing.T) {
	d := New()
	must(t, d.MkdirAll("/dir", 0o755))
	f := create(t, d, "/f", []byte("data"))
	before := dump(t, d)
	d.Inject(Fault{Forever: true, Err: syscall.EIO})
	_, err := d.Create("/g", category)
	wantErr(t, "create", err, syscall.EIO)
	_, err = f.WriteAt([]byte("xx"), 0)
	wantErr(t, "write", err, syscall.EIO)
	wantErr(t, "truncate", f.Truncate(0), syscall.EIO)
	wantErr(t, "preallocate", f.Preallocate(0, 1), syscall.EIO)
	wantErr(t, "rename", d.Rename("/f", "/g"), syscall.EIO)
	wantErr(t, "link", d.Link("/f", "/g"), syscall.EIO)
	wantErr(t, "remove", d.Remove("/f"), syscall.EIO)
	wantErr(t, "remove all", d.RemoveAll("/dir"), syscall.EIO)
	wantErr(t, "mkdir", d.MkdirAll("/x", 0o755), syscall.EIO)
	if diff := cmp.Diff(before, dump(t, d)); diff != "" {
		t.Errorf("failed calls changed the disk (-want +got):\n%s", diff)
	}
	if names, err := d.List("/"); err != nil || len(names) != 2 {
		t.Errorf("names %v, %v", names, err)
	}
}

func TestShortWriteLeavesItsPart(t *testing.T) {
	d := New()
	f := create(t, d, "/f", nil)
	d.Inject(Fault{Ops: OpWrite, Short: 3})
	n, err := f.Write([]byte("abcdef"))
	wantErr(t, "write", err, io.ErrShortWrite)
	if n != 3 || string(read(t, d, "/f")) != "abc" {
		t.Errorf("%d bytes reported, %q there", n, read(t, d, "/f"))
	}
}

func TestBudget(t *testing.T) {
	d := New()
	d.SetBudget(1000)
	f := create(t, d, "/f", make([]byte, 600))
	g := create(t, d, "/g", nil)
	n, err := g.Write(bytes.Repeat([]byte("g"), 500))
	wantErr(t, "write beyond the budget", err, syscall.ENOSPC)
	if n != 400 || d.Used() != 1000 {
		t.Errorf("%d bytes written, %d used; want 400, 1000", n, d.Used())
	}
	_, err = f.WriteAt(make([]byte, 600), 0)
	must(t, err) // no growth, no need
	wantErr(t, "truncate beyond", f.Truncate(601), syscall.ENOSPC)
	wantErr(t, "preallocate beyond", f.Preallocate(600, 1), syscall.ENOSPC)
	must(t, f.Preallocate(0, 600))
	usage, err := d.GetDiskUsage("/")
	must(t, err)
	if want := (vfs.DiskUsage{TotalBytes: 1000, UsedBytes: 1000}); usage != want {
		t.Errorf("usage %+v, want %+v", usage, want)
	}
	must(t, d.Remove("/f"))
	if d.Used() != 1000 {
		t.Errorf("%d used: an open file keeps its bytes", d.Used())
	}
	must(t, f.Close())
	if d.Used() != 400 {
		t.Errorf("%d used after the last handle closed, want 400", d.Used())
	}
	must(t, g.Truncate(100))
	if c := d.KillClone(); c.Used() != 100 || c.budget != 1000 {
		t.Errorf("a clone uses %d of %d, want 100 of 1000", c.Used(), c.budget)
	}
}

func TestLockIsExclusive(t *testing.T) {
	d := New()
	l, err := d.Lock("/LOCK")
	must(t, err)
	_, err = d.Lock("/LOCK")
	wantErr(t, "second lock", err, syscall.EAGAIN)
	other, err := d.KillClone().Lock("/LOCK")
	must(t, err)
	must(t, other.Close())
	must(t, l.Close())
	l, err = d.Lock("/LOCK")
	must(t, err)
	must(t, l.Close())
}

func TestFlipBitReachesCacheAndDisk(t *testing.T) {
	d := New()
	f := create(t, d, "/f", []byte("aaaa"))
	must(t, f.Sync())
	syncDir(t, d, "/")
	must(t, d.FlipBit("/f", 2))
	want := "aa" + string(rune('a'^4)) + "a"
	if got := string(read(t, d, "/f")); got != want {
		t.Errorf("cache %q, want %q", got, want)
	}
	if got := string(read(t, d.CrashClone(seeded(1)), "/f")); got != want {
		t.Errorf("disk %q, want %q", got, want)
	}
	wantErr(t, "flip beyond the end", d.FlipBit("/f", 4), syscall.EINVAL)
	wantErr(t, "flip in nothing", d.FlipBit("/none", 0), fs.ErrNotExist)
}

func TestConcurrentUse(t *testing.T) {
	d := New()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			name := string(rune('a' + i))
			f, err := d.Create(name, category)
			if err != nil {
				t.Error(err)
				return
			}
			for j := range 200 {
				if _, err := f.WriteAt([]byte{byte(j)}, int64(j*100)); err != nil {
					t.Error(err)
				}
				if err := f.SyncData(); err != nil {
					t.Error(err)
				}
				if _, err := f.ReadAt(make([]byte, 50), int64(j*50)); err != nil && err != io.EOF {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range uint64(50) {
			c := d.CrashClone(seeded(i))
			for _, name := range c.Names() {
				if f, err := c.OpenReadWrite(name, category); err != nil {
					t.Error(err)
				} else if _, err := f.Write([]byte("clone")); err != nil {
					t.Error(err)
				}
			}
		}
	})
	wg.Wait()
	if got := d.CallCount(); got != 4*401 {
		t.Errorf("%d calls, want %d", got, 4*401)
	}
}
