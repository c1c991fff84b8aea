package simdisk

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const tries = 300

// durable returns a file that is wholly on the disk, name and all.
func durable(t *testing.T, d *Disk, name string, data []byte) *file {
	t.Helper()
	f := create(t, d, name, data)
	must(t, f.Sync())
	syncDir(t, d, "/")
	return f
}

func sectorsOf(fill byte, n int) []byte { return bytes.Repeat([]byte{fill}, n*sectorSize) }

// outcomes is what a name can hold after a crash, each once, "" if it is gone.
func outcomes(t *testing.T, d *Disk, name string, opts ...CrashOption) map[string]int {
	t.Helper()
	out := make(map[string]int)
	for seed := range uint64(tries) {
		c := d.CrashClone(seeded(seed), opts...)
		b, err := c.ReadFile(name)
		if err != nil {
			out["gone"]++
			continue
		}
		out[string(b)]++
	}
	return out
}

// wantOutcomes: all of these happen, and nothing else.
func wantOutcomes(t *testing.T, d *Disk, name string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(outcomes(t, d, name)))); diff != "" {
		t.Errorf("%s after a crash (-want +got):\n%s", name, diff)
	}
}

func TestSyncedDataSurvives(t *testing.T) {
	d := New()
	f := create(t, d, "/f", bytes.Repeat([]byte("0123456789"), 2000))
	must(t, f.Sync())
	_, err := f.WriteAt([]byte("middle"), 9_998)
	must(t, err)
	must(t, f.Truncate(15_000))
	_, err = f.WriteAt([]byte("far"), 40_000) // a hole before it
	must(t, err)
	must(t, f.SyncData())
	syncDir(t, d, "/")
	want := string(read(t, d, "/f"))
	if len(want) != 40_003 || want[9_998:10_004] != "middle" || strings.Trim(want[15_000:40_000], "\x00") != "" {
		t.Fatalf("the file does not read as written")
	}
	wantOutcomes(t, d, "/f", want)
}

func TestUnsyncedSectorsSurviveEachForItself(t *testing.T) {
	d := New()
	f := durable(t, d, "/f", sectorsOf('o', 12))
	// Bytes 256 to 5376: sector 0 and sector 10 in part, 9 whole ones between.
	_, err := f.WriteAt(sectorsOf('n', 10), sectorSize/2)
	must(t, err)
	mixed, torn := 0, [2]int{}
	for seed := range uint64(tries) {
		got := read(t, d.CrashClone(seeded(seed)), "/f")
		if len(got) != 12*sectorSize {
			t.Fatalf("seed %d: %d bytes", seed, len(got))
		}
		fresh := 0
		for i := range 12 {
			s := got[i*sectorSize : (i+1)*sectorSize]
			old, new := sectorsOf('o', 1), sectorsOf('n', 1)
			switch i {
			case 0:
				copy(new, old[:sectorSize/2])
			case 10:
				copy(new[sectorSize/2:], old)
			case 11:
				new = old
			}
			switch {
			case bytes.Equal(s, old):
			case bytes.Equal(s, new):
				fresh++
			default:
				t.Fatalf("seed %d: sector %d is neither old nor new", seed, i)
			}
		}
		switch fresh {
		case 0:
			torn[0]++
		case 11:
			torn[1]++
		default:
			mixed++
		}
	}
	if mixed < tries/4 || torn[0] < tries/10 || torn[1] < tries/10 {
		t.Errorf("of %d crashes %d mixed, %d lost all, %d kept all: all three must be common", tries, mixed, torn[0], torn[1])
	}
}

func TestWritesToOneSectorKeepTheirOrder(t *testing.T) {
	d := New()
	f := durable(t, d, "/f", []byte("----"))
	for _, s := range []string{"a", "b", "c"} {
		_, err := f.WriteAt([]byte(s), 0)
		must(t, err)
	}
	_, err := f.WriteAt([]byte("d"), 3)
	must(t, err)
	// d came after c: it is never there without it.
	wantOutcomes(t, d, "/f", "----", "a---", "b---", "c---", "c--d")
}

func TestGrowthWithoutDataIsZeros(t *testing.T) {
	d := New()
	f := durable(t, d, "/f", []byte("head"))
	_, err := f.WriteAt(sectorsOf('n', 2), 4)
	must(t, err)
	sizes, zeros := map[int]int{}, 0
	for got, n := range outcomes(t, d, "/f") {
		sizes[len(got)] += n
		if !strings.HasPrefix(got, "head") || strings.Trim(got[4:], "n\x00") != "" {
			t.Fatalf("a crash left %q", got)
		}
		if strings.Contains(got, "\x00") {
			zeros += n
		}
	}
	// As it was, as it should be, or grown up to a sector between.
	if diff := cmp.Diff([]int{4, 512, 1024, 1028}, slices.Sorted(maps.Keys(sizes))); diff != "" {
		t.Errorf("sizes (-want +got):\n%s", diff)
	}
	if zeros == 0 {
		t.Error("no crash left zeros where data was lost")
	}
}

// TestAppendsAreLostFromTheEnd: sizes keep their order, so one lost append takes
// those after it along.
func TestAppendsAreLostFromTheEnd(t *testing.T) {
	d := New()
	f := durable(t, d, "/f", nil)
	for range 20 {
		_, err := f.Write(sectorsOf('n', 1))
		must(t, err)
	}
	early, late := 0, 0
	for got, n := range outcomes(t, d, "/f") {
		if len(got) < 10*sectorSize {
			early += n
		} else {
			late += n
		}
	}
	if early < tries/2 || late < tries/10 {
		t.Errorf("of %d crashes %d left less than half and %d more", tries, early, late)
	}
}

func TestUnsyncedTruncation(t *testing.T) {
	d := New()
	f := durable(t, d, "/f", []byte("abcdefgh"))
	must(t, f.Truncate(4))
	wantOutcomes(t, d, "/f", "abcdefgh", "abcd")
	must(t, f.Truncate(12))
	wantOutcomes(t, d, "/f", "abcdefgh", "abcd", "abcd"+strings.Repeat("\x00", 8))
	must(t, f.Truncate(4))
	// What is written after a truncation that is lost goes to blocks the file
	// does not have; what was there does not come back in a longer file.
	_, err := f.WriteAt([]byte("XY"), 6)
	must(t, err)
	wantOutcomes(t, d, "/f", "abcdefgh", "abcd", "abcd"+strings.Repeat("\x00", 8), "abcd\x00\x00XY", "abcd\x00\x00\x00\x00")
	must(t, f.Truncate(5))
	must(t, f.Sync())
	wantOutcomes(t, d, "/f", "abcd\x00")
	must(t, f.Truncate(7))
	wantOutcomes(t, d, "/f", "abcd\x00", "abcd\x00\x00\x00")
}

func TestFailedSyncLosesWhatARetryReports(t *testing.T) {
	d := New()
	f := durable(t, d, "/f", []byte("old-"))
	_, err := f.WriteAt([]byte("new"), 0)
	must(t, err)
	must(t, f.Truncate(6))
	d.Inject(Fault{Ops: OpSync, Err: syscall.EIO})
	wantErr(t, "sync", f.Sync(), syscall.EIO)
	must(t, f.Sync()) // clean pages: nothing to do, nothing to fail
	if got := string(read(t, d, "/f")); got != "new-\x00\x00" {
		t.Errorf("the page cache reads %q", got)
	}
	wantOutcomes(t, d, "/f", "old-")
	// A later write brings its own sectors and the size, not what was dropped.
	_, err = f.WriteAt([]byte("later"), 600)
	must(t, err)
	must(t, f.Truncate(604))
	must(t, f.Sync())
	wantOutcomes(t, d, "/f", "old-"+strings.Repeat("\x00", 596)+"late")
	must(t, f.Truncate(2))
	must(t, f.Truncate(4))
	must(t, f.Sync())
	wantOutcomes(t, d, "/f", "ol\x00\x00")

	g := create(t, d, "/g", nil)
	must(t, g.Sync())
	d.Inject(Fault{Ops: OpSyncDir, Err: syscall.EIO})
	dir, err := d.OpenDir("/")
	must(t, err)
	wantErr(t, "sync of the directory", dir.Sync(), syscall.EIO)
	must(t, dir.Sync())
	wantOutcomes(t, d, "/g", "gone")
}

func TestNamesNeedTheirDirectorySynced(t *testing.T) {
	d := New()
	f := create(t, d, "/f", []byte("x"))
	must(t, f.Sync())
	wantOutcomes(t, d, "/f", "gone", "x")
	syncDir(t, d, "/")
	wantOutcomes(t, d, "/f", "x")

	must(t, d.Remove("/f"))
	wantOutcomes(t, d, "/f", "gone", "x")
	syncDir(t, d, "/")
	wantOutcomes(t, d, "/f", "gone")

	must(t, d.MkdirAll("/dir", 0o755))
	g := create(t, d, "/dir/g", []byte("y"))
	must(t, g.Sync())
	syncDir(t, d, "/dir") // the directory itself is not in its parent yet
	wantOutcomes(t, d, "/dir/g", "gone", "y")
	syncDir(t, d, "/")
	wantOutcomes(t, d, "/dir/g", "y")
	must(t, d.Link("/dir/g", "/h"))
	wantOutcomes(t, d, "/h", "gone", "y")
}

// TestCreateOverAFile removes it first: it may be gone before the new one is
// there.
func TestCreateOverAFile(t *testing.T) {
	d := New()
	durable(t, d, "/f", []byte("old"))
	must(t, create(t, d, "/f", []byte("new")).Sync())
	wantOutcomes(t, d, "/f", "old", "gone", "new")
}

func TestReplacingByRename(t *testing.T) {
	d := New()
	durable(t, d, "/f", []byte("old"))
	tmp := create(t, d, "/tmp", []byte("new"))
	must(t, d.Rename("/tmp", "/f"))
	// Without a sync of the file first, the name may point at nothing.
	wantOutcomes(t, d, "/f", "old", "new", "", "\x00\x00\x00")
	must(t, tmp.Sync())
	wantOutcomes(t, d, "/f", "old", "new")
	wantOutcomes(t, d, "/tmp", "gone", "new")
	syncDir(t, d, "/")
	wantOutcomes(t, d, "/f", "new")
	wantOutcomes(t, d, "/tmp", "gone")
}

// TestNamesSurviveInOrder: without AnyNames the changes of names survive up to
// a point in time; with it, in any combination.
func TestNamesSurviveInOrder(t *testing.T) {
	d := New()
	for i := range 5 {
		must(t, create(t, d, fmt.Sprint("/", i), []byte("x")).Sync())
	}
	ordered, anyOrder := map[string]int{}, map[string]int{}
	for seed := range uint64(tries) {
		ordered[strings.Join(d.CrashClone(seeded(seed)).Names(), "")]++
		anyOrder[strings.Join(d.CrashClone(seeded(seed), AnyNames).Names(), "")]++
	}
	want := []string{"", "/0", "/0/1", "/0/1/2", "/0/1/2/3", "/0/1/2/3/4"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(ordered))); diff != "" {
		t.Errorf("ordered (-want +got):\n%s", diff)
	}
	if len(anyOrder) != 32 {
		t.Errorf("%d of the 32 subsets were seen", len(anyOrder))
	}
}

// TestRenameAcrossDirectoriesIsAtomic: whichever directory is synced, the file
// has exactly one name.
func TestRenameAcrossDirectoriesIsAtomic(t *testing.T) {
	for _, synced := range []string{"", "/a", "/b"} {
		d := New()
		must(t, d.MkdirAll("/a", 0o755))
		must(t, d.MkdirAll("/b", 0o755))
		syncDir(t, d, "/")
		must(t, create(t, d, "/a/f", []byte("x")).Sync())
		if synced == "" {
			syncDir(t, d, "/a")
		}
		must(t, d.Rename("/a/f", "/b/f"))
		if synced != "" {
			syncDir(t, d, synced)
		}
		seen := map[string]int{}
		for seed := range uint64(tries) {
			seen[strings.Join(d.CrashClone(seeded(seed)).Names(), " ")]++
		}
		want := []string{"/b/f"}
		if synced == "" {
			want = []string{"/a/f", "/b/f"}
		}
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(seen))); diff != "" {
			t.Errorf("synced %q (-want +got):\n%s", synced, diff)
		}
	}
}

func TestKillCloneKeepsTheCacheAndSyncsNothing(t *testing.T) {
	d := New()
	f := durable(t, d, "/f", []byte("old"))
	_, err := f.WriteAt([]byte("new"), 0)
	must(t, err)
	open := durable(t, d, "/open", []byte("gone when closed"))
	create(t, d, "/g", []byte("fresh"))
	must(t, d.Remove("/open"))
	c := d.KillClone()
	if diff := cmp.Diff(map[string]string{"/f": "new", "/g": "fresh"}, dump(t, c)); diff != "" {
		t.Errorf("after the kill (-want +got):\n%s", diff)
	}
	if c.Used() != 8 || c.CallCount() != 0 {
		t.Errorf("%d bytes used, %d calls", c.Used(), c.CallCount())
	}
	wantOutcomes(t, c, "/f", "old", "new")
	if outcomes(t, c, "/g")["gone"] == 0 {
		t.Error("an unsynced name was made durable by the kill")
	}
	// Neither disk sees what is written to the other.
	_, err = f.WriteAt([]byte("D"), 2)
	must(t, err)
	_, err = openRW(t, c, "/f").WriteAt([]byte("C"), 0)
	must(t, err)
	if a, b := string(read(t, d, "/f")), string(read(t, c, "/f")); a != "neD" || b != "Cew" {
		t.Errorf("the disk reads %q, the clone %q", a, b)
	}
	must(t, open.Close())
}

// TestCrashedDiskCanBeClonedAgainAndAgain, with the same result for the same rng.
func TestCrashedDiskCanBeClonedAgainAndAgain(t *testing.T) {
	build := func() *Disk {
		d := New()
		rng := seeded(77)
		var open []*file
		for i := range 30 {
			open = append(open, create(t, d, fmt.Sprint("/", i), sectorsOf(byte(i), 3)))
			f := open[rng.IntN(len(open))]
			_, err := f.WriteAt(sectorsOf('w', 4), rng.Int64N(4000))
			must(t, err)
			if rng.IntN(3) == 0 {
				must(t, f.Sync())
			}
			if rng.IntN(5) == 0 {
				syncDir(t, d, "/")
			}
		}
		d.Crash()
		return d
	}
	a, b := build(), build()
	distinct := map[string]bool{}
	for seed := range uint64(20) {
		first := dump(t, a.CrashClone(seeded(seed)))
		if diff := cmp.Diff(first, dump(t, b.CrashClone(seeded(seed)))); diff != "" {
			t.Fatalf("seed %d gave another disk (-first +second):\n%s", seed, diff)
		}
		if diff := cmp.Diff(first, dump(t, a.CrashClone(seeded(seed)))); diff != "" {
			t.Fatalf("seed %d gave another disk the second time (-first +second):\n%s", seed, diff)
		}
		distinct[fmt.Sprint(first)] = true
	}
	if len(distinct) < 15 {
		t.Errorf("20 seeds gave %d different disks", len(distinct))
	}
	c := a.CrashClone(seeded(1))
	for seed := range uint64(5) {
		if diff := cmp.Diff(dump(t, c), dump(t, c.CrashClone(seeded(seed)))); diff != "" {
			t.Fatalf("a second crash took what the first had left (-first +second):\n%s", diff)
		}
	}
	f := openRW(t, c, "/0")
	_, err := f.Write([]byte("the clone lives"))
	must(t, err)
	must(t, f.Sync())
}
