package wal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/simdisk"

	"github.com/google/go-cmp/cmp"
)

const asideDir = "/data/divergent"

// divergedDisk holds a log of epochs 2 and 4 with sealed segments and an open
// one, which is closed.
func divergedDisk(t testing.TB) (*simdisk.Disk, *source) {
	t.Helper()
	d := simdisk.New()
	must(t, d.MkdirAll("/data", 0o755))
	must(t, syncDir(d, "/"))
	src := newSource(91)
	l := leaderLog(t, simOptions(d), src, 2, 4)
	must(t, l.Close())
	return d, src
}

// heldIn reads the frames of the divergent files, in the order given.
func heldIn(t testing.TB, d *simdisk.Disk, set []Divergent) (all []made) {
	t.Helper()
	for _, one := range set {
		n := uint64(0)
		r, err := verifySegment(d, one.Path, func(f *frame.Frame) error {
			n++
			all = append(all, made{LSN: f.LSN, Digest: f.Digest, Body: bytes.Clone(f.Body)})
			return nil
		})
		must(t, err)
		if !r.Sealed || r.Torn != nil || n != one.Frames || r.Header.First != one.First || r.Tail.Pos != (lsn.Pos{Epoch: one.Epoch, LSN: one.Last}) {
			t.Fatalf("%+v does not describe its file: %+v", one, r)
		}
	}
	return all
}

// asideFiles are the files in the divergent directory, temporary ones too.
func asideFiles(t testing.TB, d *simdisk.Disk) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range d.Names() {
		if strings.HasPrefix(name, asideDir) {
			raw, err := d.ReadFile(name)
			must(t, err)
			all[path.Base(name)] = string(raw)
		}
	}
	return all
}

// forksOf are places worth a cut: within segments, at their ends, at both ends
// of the log.
func forksOf(l *Log) []lsn.LSN {
	all := []lsn.LSN{0}
	for _, s := range l.Segments() {
		all = append(all, s.First, s.Last-1, s.Last)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// checkCut holds a log that was cut back to the fork.
func checkCut(t testing.TB, name string, l *Log, src *source, fork lsn.LSN) {
	t.Helper()
	if l.Tail().Pos.LSN != fork || l.Durable() != fork {
		t.Fatalf("%s: the log ends at %s, durable %d, not at the fork, %d", name, l.Tail(), l.Durable(), fork)
	}
	got, err := readAll(l, 1)
	if err != nil || !same(got, src.frames[:fork]) {
		t.Fatalf("%s: %d frames, %v", name, len(got), err)
	}
}

func TestSetAside(t *testing.T) {
	base, src := divergedDisk(t)
	l := mustOpen(t, simOptions(base.KillClone()))
	forks, last := forksOf(l), l.Tail().Pos.LSN
	must(t, l.Close())
	for _, fork := range forks {
		name := fmt.Sprintf("fork %d", fork)
		d := base.KillClone()
		l := mustOpen(t, simOptions(d))
		sealed := l.Segments()
		set, err := l.SetAside(fork, asideDir)
		must(t, err)
		checkCut(t, name, l, src, fork)
		if got := heldIn(t, d, set); !same(got, src.frames[fork:]) {
			t.Fatalf("%s: %d frames set aside of %d", name, len(got), len(src.frames[fork:]))
		}
		for _, one := range set {
			want := fmt.Sprintf("divergent-%016x-%016x.log", uint64(one.Epoch), uint64(one.First))
			if path.Base(one.Path) != want || path.Dir(one.Path) != asideDir {
				t.Errorf("%s: the file is %s, not %s", name, one.Path, want)
			}
		}
		if fork == last && len(set) != 0 {
			t.Errorf("%s: %+v set aside at the end of the log", name, set)
		}
		if n := len(l.Segments()); n > 0 && !l.Segments()[n-1].Sealed != (fork != sealed[n-1].Last || !sealed[n-1].Sealed) {
			t.Errorf("%s: the last segment is sealed: %t", name, l.Segments()[n-1].Sealed)
		}
		again, err := l.SetAside(fork, asideDir)
		if diff := cmp.Diff(set, again); err != nil || diff != "" {
			t.Errorf("%s: called again: %v\n%s", name, err, diff)
		}
		must(t, l.Close())
		l = mustOpen(t, simOptions(d))
		checkCut(t, name+", reopened", l, src, fork)
		if again, err = l.SetAside(fork, asideDir); err != nil || !cmp.Equal(set, again) {
			t.Errorf("%s: called again after an opening: %v", name, err)
		}
		must(t, l.Close())
	}
}

// TestSetAsideThenFollow: the log that is left takes the other history.
func TestSetAsideThenFollow(t *testing.T) {
	for _, sealAtFork := range []bool{false, true} {
		a, b := twins(t, 3, 4)
		o := followerOptions(a.opts.FS, t.TempDir())
		f := mustOpen(t, o)
		follow(t, f, a, 1)
		if sealAtFork {
			must(t, f.BeginEpoch(7))
			must(t, f.Close())
			f = mustOpen(t, o)
		}
		if err := f.Copy(chunksOf(t, b, 1, 1<<20)[0]); !errors.Is(err, ErrFork) {
			t.Fatal(err)
		}
		set, err := f.SetAside(3, t.TempDir())
		must(t, err)
		if len(set) != 1 || set[0].First != 4 || set[0].Frames != 4 {
			t.Fatalf("%+v", set)
		}
		follow(t, f, b, 1000)
		equalLogs(t, b, f)
		must(t, f.Close())
		f = mustOpen(t, o)
		equalLogs(t, b, f)
		must(t, errors.Join(a.Close(), b.Close(), f.Close()))
	}
}

// TestSetAsideAll: a log that begins above LSN 1 and has nothing in common with
// the line is emptied; an empty one says what was set aside.
func TestSetAsideAll(t *testing.T) {
	d, src := divergedDisk(t)
	l := mustOpen(t, simOptions(d))
	must(t, l.RemoveBefore(l.Segments()[2].First))
	first := l.FirstLSN()
	if _, err := l.SetAside(first-2, asideDir); !errors.Is(err, ErrRemoved) {
		t.Fatalf("a fork below the log: %v", err)
	}
	if _, err := l.SetAside(l.Tail().Pos.LSN+1, asideDir); err == nil || !strings.Contains(err.Error(), "the log ends at LSN") {
		t.Fatalf("a fork above the log: %v", err)
	}
	set, err := l.SetAside(first-1, asideDir)
	must(t, err)
	if got := heldIn(t, d, set); !same(got, src.frames[first-1:]) || len(l.Segments()) != 0 || l.Tail() != (Tail{}) {
		t.Fatalf("%d frames set aside, %d segments left, tail %s", len(got), len(l.Segments()), l.Tail())
	}
	must(t, l.Close())
	l = mustOpen(t, simOptions(d))
	if again, err := l.SetAside(first-1, asideDir); err != nil || !cmp.Equal(set, again) {
		t.Fatalf("again, in an empty log: %v", err)
	}
	must(t, l.BeginEpoch(9))
	if _, err := l.SetAside(0, asideDir); err == nil {
		t.Fatal("a writer's log is cut")
	}
	must(t, l.Close())
}

// TestSetAsideKeepsWhatIsThere: a file of the same name with more frames is
// kept, one with fewer is replaced, one with another history is an error and
// the log stays.
func TestSetAsideKeepsWhatIsThere(t *testing.T) {
	base, src := divergedDisk(t)
	l := mustOpen(t, simOptions(base))
	end := l.Segments()[0].Last
	must(t, l.Close())
	aside := func(d *simdisk.Disk, cuts ...lsn.LSN) []Divergent {
		var set []Divergent
		for _, fork := range cuts {
			l := mustOpen(t, simOptions(d))
			var err error
			set, err = l.SetAside(fork, asideDir)
			must(t, err)
			must(t, l.Close())
		}
		return set
	}
	whole := base.KillClone()
	aside(whole, 3)
	fewer := base.KillClone()
	aside(fewer, 5, 3) // the first file begins at 4 and ends at 5
	fill := func(d *simdisk.Disk, from *simdisk.Disk) {
		must(t, d.MkdirAll(asideDir, 0o700))
		for name, raw := range asideFiles(t, from) {
			f, err := d.Create(asideDir+"/"+name, diskCategory)
			must(t, err)
			_, err = f.Write([]byte(raw))
			must(t, err)
			must(t, f.Close())
		}
	}
	for what, from := range map[string]*simdisk.Disk{"fewer": fewer, "as many": whole} {
		d := base.KillClone()
		fill(d, from)
		got := heldIn(t, d, aside(d, 3))
		if want := src.frames[3:]; !same(got[:len(want)], want) && what == "as many" {
			t.Errorf("%s: %d frames", what, len(got))
		}
		raw, err := d.ReadFile(asideDir + "/" + divergentName(2, 4))
		must(t, err)
		if string(raw) != asideFiles(t, whole)[divergentName(2, 4)] {
			t.Errorf("%s: the file does not hold LSN 4 to %d", what, end)
		}
	}
	d := base.KillClone()
	aside(d, 5) // the log now ends at 5
	fill(d, whole)
	aside(d, 3)
	if raw, err := d.ReadFile(asideDir + "/" + divergentName(2, 4)); err != nil || string(raw) != asideFiles(t, whole)[divergentName(2, 4)] {
		t.Errorf("more frames were replaced by fewer: %v", err)
	}
	for seed := range uint64(20) {
		if c := d.CrashClone(rand.New(rand.NewPCG(seed, 1))); asideFiles(t, c)[divergentName(2, 4)] != asideFiles(t, whole)[divergentName(2, 4)] {
			t.Fatalf("seed %d: the file that was kept is not durable", seed)
		}
	}
	d = base.KillClone()
	other := simdisk.New()
	must(t, other.MkdirAll("/data", 0o755))
	l = mustOpen(t, simOptions(other))
	must(t, l.BeginEpoch(2))
	commit(t, l, newSource(92).group(6, 100))
	must(t, l.Close())
	aside(other, 3)
	fill(d, other)
	l = mustOpen(t, simOptions(d))
	if _, err := l.SetAside(3, asideDir); err == nil || !strings.Contains(err.Error(), "another history") {
		t.Errorf("another history is overwritten: %v", err)
	}
	expect(t, l, src.frames)
	must(t, l.Close())
}

// TestSetAsideCrashAtEveryDiskCall loses power, kills, or fails a call anywhere,
// and runs it again: no frame is ever out of log and files, and the end is the
// same, byte for byte.
func TestSetAsideCrashAtEveryDiskCall(t *testing.T) {
	base, src := divergedDisk(t)
	l := mustOpen(t, simOptions(base.KillClone()))
	segs := l.Segments()
	must(t, l.Close())
	for _, fork := range []lsn.LSN{0, segs[0].First, segs[2].Last, segs[len(segs)-2].Last - 1, segs[len(segs)-1].First} {
		whole := base.KillClone()
		made, set, err := runAside(simOptions(whole), fork)
		must(t, err)
		want := asideFiles(t, whole)
		check := func(name string, d *simdisk.Disk) {
			t.Helper()
			l, err := Open(simOptions(d))
			if err != nil {
				t.Fatalf("%s: open: %v", name, err)
			}
			left, err := readAll(l, 1)
			if err != nil || len(left) < int(fork) || !same(left, src.frames[:len(left)]) {
				t.Fatalf("%s: %d frames left, %v", name, len(left), err)
			}
			above, err := l.divergentFrom(asideDir, fork, nil)
			must(t, err)
			if held := int(fork) + len(heldIn(t, d, above)); len(left) < len(src.frames) && held < len(src.frames) {
				t.Fatalf("%s: %d frames are left in the log, and %d of %d in it or set aside", name, len(left), held, len(src.frames))
			}
			again, err := l.SetAside(fork, asideDir)
			if err != nil || !cmp.Equal(set, again) {
				t.Fatalf("%s: again: %v\n%s", name, err, cmp.Diff(set, again))
			}
			checkCut(t, name, l, src, fork)
			must(t, l.Close())
			if got := asideFiles(t, d); !maps.Equal(want, got) {
				t.Fatalf("%s: other files than without the crash: %v", name, slices.Sorted(maps.Keys(got)))
			}
			if strings.HasSuffix(name, "failed, then killed") {
				return // a name whose fsync failed may come back at a second fault
			}
			l = mustOpen(t, simOptions(d.CrashClone(rand.New(rand.NewPCG(1, 1)))))
			checkCut(t, name+", reopened", l, src, fork)
			must(t, l.Close())
		}
		for n := made; n < whole.CallCount(); n++ {
			d := base.KillClone()
			d.CrashAfter(n)
			if _, _, err := runAside(simOptions(d), fork); !errors.Is(err, simdisk.ErrCrashed) {
				t.Fatalf("fork %d, call %d: %v", fork, n, err)
			}
			for seed := range uint64(2) {
				rng := rand.New(rand.NewPCG(seed, uint64(n)))
				check(fmt.Sprintf("fork %d, power lost after call %d, seed %d", fork, n, seed), d.CrashClone(rng))
				check(fmt.Sprintf("fork %d, power lost after call %d, any names, seed %d", fork, n, seed), d.CrashClone(rng, simdisk.AnyNames))
			}
			check(fmt.Sprintf("fork %d, killed after call %d", fork, n), d.KillClone())
			d = base.KillClone()
			d.FailAt(n+1, syscall.EIO)
			if _, _, err := runAside(simOptions(d), fork); err == nil {
				t.Fatalf("fork %d: call %d failed and nobody noticed: %+v", fork, n+1, d.Calls()[n])
			}
			rng := rand.New(rand.NewPCG(7, uint64(n)))
			check(fmt.Sprintf("fork %d, call %d failed, then power lost", fork, n+1), d.CrashClone(rng))
			check(fmt.Sprintf("fork %d, call %d failed, then killed", fork, n+1), d.KillClone())
		}
	}
}

// runAside opens, sets aside and closes; made is the number of the last call
// before SetAside.
func runAside(o Options, fork lsn.LSN) (made int, set []Divergent, err error) {
	l, err := Open(o)
	if err != nil {
		return 0, nil, err
	}
	made = o.FS.(*simdisk.Disk).CallCount()
	set, err = l.SetAside(fork, asideDir)
	return made, set, errors.Join(err, l.Close())
}

// divergedCut is a disk on which SetAside has returned and nothing was closed.
func divergedCut(t testing.TB) *simdisk.Disk {
	t.Helper()
	d, _ := divergedDisk(t)
	l := mustOpen(t, simOptions(d))
	_, err := l.SetAside(5, asideDir)
	must(t, err)
	c := d.KillClone()
	must(t, l.Close())
	return c
}

// TestSetAsideLowersBothSlots: the mark's older slot must not say more than the
// log has left, for the day the newer one is damaged.
func TestSetAsideLowersBothSlots(t *testing.T) {
	d, _ := divergedDisk(t)
	_, _, err := runAside(simOptions(d), 5)
	must(t, err)
	cut := divergedCut(t)
	for seed := range uint64(20) {
		l := mustOpen(t, simOptions(cut.CrashClone(rand.New(rand.NewPCG(seed, 1)))))
		if l.Tail().Pos.LSN != 5 {
			t.Fatalf("seed %d: the cut is not durable, the log ends at %s", seed, l.Tail())
		}
		must(t, l.Close())
	}
	for slot := range int64(2) {
		damaged := d.KillClone()
		must(t, damaged.FlipBit(simDir+"/"+markName, slot*markSlotStride+markLSN))
		l := mustOpen(t, simOptions(damaged))
		if l.Tail().Pos.LSN != 5 {
			t.Errorf("slot %d damaged: the log ends at %s", slot, l.Tail())
		}
		must(t, l.Close())
	}
}

// TestSetAsideAfterAFailedName: a directory whose fsync failed once may look
// clean to the next one, so the file gets its name anew.
func TestSetAsideAfterAFailedName(t *testing.T) {
	d, src := divergedDisk(t)
	l := mustOpen(t, simOptions(d))
	d.Inject(simdisk.Fault{Ops: simdisk.OpSyncDir, Path: path.Base(asideDir), Err: syscall.EIO})
	if _, err := l.SetAside(3, asideDir); !errors.Is(err, syscall.EIO) || l.Err() != nil {
		t.Fatalf("%v, the log's failure is %v", err, l.Err())
	}
	expect(t, l, src.frames)
	set, err := l.SetAside(3, asideDir)
	must(t, err)
	for seed := range uint64(20) {
		if got := heldIn(t, d.CrashClone(rand.New(rand.NewPCG(seed, 1))), set); !same(got, src.frames[3:]) {
			t.Fatalf("seed %d: %d frames", seed, len(got))
		}
	}
	must(t, l.Close())
}

// TestSetAsideListsItsOwn: files of another history in the directory are not
// said to have been set aside from this one.
func TestSetAsideListsItsOwn(t *testing.T) {
	d, src := divergedDisk(t)
	o := simOptions(d)
	o.Dir = "/data/other"
	l := mustOpen(t, o)
	must(t, l.BeginEpoch(3))
	commit(t, l, newSource(92).group(6, 100))
	must(t, l.Close())
	l = mustOpen(t, o)
	_, err := l.SetAside(3, asideDir)
	must(t, err)
	must(t, l.Close())
	_, set, err := runAside(simOptions(d), 3)
	must(t, err)
	if got := heldIn(t, d, set); !same(got, src.frames[3:]) {
		t.Fatalf("%+v", set)
	}
}

// TestSetAsideUnsynced: frames that wait for a sync are set aside like others.
func TestSetAsideUnsynced(t *testing.T) {
	leader := leaderLog(t, testOptions(simdisk.New(), "/l"), newSource(93), 1)
	d, _ := newDisk(t)
	l := mustOpen(t, copyOptions(d))
	last := lsn.LSN(0)
	for _, c := range chunksOf(t, leader, 1, 1000)[:2] {
		must(t, l.Copy(c))
		last = c.Last
	}
	if l.Durable() == last {
		t.Fatal("synced by itself")
	}
	set, err := l.SetAside(1, asideDir)
	must(t, err)
	if got := heldIn(t, d, set); len(got) != int(last-1) || l.Durable() != 1 {
		t.Fatalf("%d frames set aside of %d, durable %d", len(got), last-1, l.Durable())
	}
	follow(t, l, leader, 1000)
	equalLogs(t, leader, l)
	must(t, errors.Join(l.Close(), leader.Close()))
}
