package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// crashed is a directory as a crash left it: sealed segments, and an open one
// whose frames up to synced were acknowledged.
type crashed struct {
	dir    string
	src    *source
	synced lsn.LSN
	// last is the newest segment's file; syncedEnd is where its acknowledged
	// frames end and end where all do.
	last           string
	syncedEnd, end int64
}

// crashLog writes groups synced groups and one that is not, and crashes.
func crashLog(t testing.TB, groups int) crashed {
	t.Helper()
	dir := t.TempDir()
	l := mustOpen(t, testOptions(vfs.Default, dir))
	must(t, l.BeginEpoch(3))
	c := crashed{src: newSource(11)}
	for range groups {
		commit(t, l, c.src.group(2, 150))
	}
	c.synced, c.syncedEnd = l.Durable(), l.active.end
	must(t, l.Append(c.src.group(3, 150)))
	if l.Durable() != c.synced {
		t.Fatal("the last group begins a segment: choose another number of groups")
	}
	c.last, c.end = filepath.Base(l.active.path), l.active.end
	c.dir = copyDir(t, dir)
	must(t, l.Close())
	return c
}

// groupsOf gives three sealed segments and an open one in the middle.
const groupsOf = 14

func (c *crashed) read(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(c.dir, name))
	must(t, err)
	return raw
}

func (c *crashed) write(t testing.TB, name string, raw []byte) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(c.dir, name), raw, 0o644))
}

// poker returns a function that sets one byte of a file in place: rewriting
// the file thousands of times would wait for the disk each time.
func (c *crashed) poker(t testing.TB, name string) func(b byte, at int) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(c.dir, name), os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { must(t, f.Close()) })
	return func(b byte, at int) {
		_, err := f.WriteAt([]byte{b}, int64(at))
		must(t, err)
	}
}

// peek opens the crashed directory without changing it.
func (c *crashed) peek() ([]made, error) {
	o := testOptions(vfs.Default, c.dir)
	o.ReadOnly = true
	l, err := Open(o)
	if err != nil {
		return nil, err
	}
	got, err := readAll(l, 1)
	return got, errors.Join(err, l.Close())
}

// TestNoFlippedByteLosesAnAcknowledgedFrame flips every byte of every file, one
// at a time: the log either refuses, naming the damage, or gives back every
// acknowledged frame, and never one that was not written.
func TestNoFlippedByteLosesAnAcknowledgedFrame(t *testing.T) {
	c := crashLog(t, groupsOf)
	entries, err := os.ReadDir(c.dir)
	must(t, err)
	if len(entries) < 4 {
		t.Fatalf("only %d files", len(entries))
	}
	for _, entry := range entries {
		name := entry.Name()
		raw, poke := c.read(t, name), c.poker(t, name)
		refused := 0
		for i := 0; i < len(raw); i++ {
			if i > 512 && i < len(raw)-256 {
				i += 12 // every header and footer byte, and a sample between
			}
			poke(raw[i]^0x04, i)
			got, err := c.peek()
			poke(raw[i], i)
			var bad *fault.Corruption
			switch {
			case errors.As(err, &bad):
				refused++
				if !strings.Contains(bad.Error(), "oc-pitr restore --latest --data-dir") || bad.Want == bad.Got || !strings.HasPrefix(bad.File, c.dir) {
					t.Fatalf("%s byte %d: %v does not say what, where and what to do", name, i, err)
				}
			case err != nil:
				t.Fatalf("%s byte %d: %v, want a corruption", name, i, err)
			case len(got) < int(c.synced) || !same(got, c.src.frames[:len(got)]):
				t.Fatalf("%s byte %d: %d frames read of %d acknowledged, or other ones", name, i, len(got), c.synced)
			}
			if bad != nil && filepath.Base(bad.File) != name && (name == c.last || i > frame.SegmentHeaderSize) {
				t.Fatalf("%s byte %d: another file is blamed: %v", name, i, err)
			}
			if i < int(c.syncedEnd) && name == c.last && err == nil {
				t.Fatalf("%s byte %d: damage to an acknowledged frame passes", name, i)
			}
			if sealed := name != c.last && name != markName; sealed && err == nil && !inSHA(raw, i) {
				t.Fatalf("%s byte %d: damage to a sealed segment passes", name, i)
			}
		}
		if want := name != markName; want != (refused > 0) {
			t.Errorf("%s: %d of %d flips refused", name, refused, len(raw))
		}
	}
}

// same compares frames; go-cmp is too slow to do it thousands of times.
func same(a, b []made) bool {
	return slices.EqualFunc(a, b, func(a, b made) bool {
		return a.LSN == b.LSN && a.Digest == b.Digest && bytes.Equal(a.Body, b.Body)
	})
}

// inSHA reports whether byte i of a sealed segment is in the footer's SHA-256,
// which only a read of the whole file can check.
func inSHA(raw []byte, i int) bool {
	end := len(raw) - frame.TrailerSize
	return i >= end-frame.HashSize && i < end
}

// TestVerifySegmentSeesEveryFlippedByte is the same for one sealed file, with
// nothing but the file.
func TestVerifySegmentSeesEveryFlippedByte(t *testing.T) {
	c := crashLog(t, groupsOf)
	path := filepath.Join(c.dir, segmentName(1))
	report, err := VerifySegment(vfs.Default, path)
	if err != nil || !report.Sealed || report.Frames == 0 || report.Torn != nil {
		t.Fatalf("%+v, %v", report, err)
	}
	raw, poke := c.read(t, segmentName(1)), c.poker(t, segmentName(1))
	for i := range raw {
		poke(raw[i]^0x10, i)
		report, err := VerifySegment(vfs.Default, path)
		poke(raw[i], i)
		if err == nil && report.Sealed {
			t.Fatalf("byte %d: damage passes", i)
		}
	}
}

// TestTornTailIsCut damages what was never acknowledged, in every way a crash
// can, and reopens for writing.
func TestTornTailIsCut(t *testing.T) {
	c := crashLog(t, groupsOf)
	whole := c.read(t, c.last)
	torn := map[string][]byte{}
	for cut := c.syncedEnd; cut < c.end; cut += 61 {
		torn[fmt.Sprintf("short at %d", cut)] = whole[:cut]
		zeroed := bytes.Clone(whole)
		clear(zeroed[cut:])
		torn[fmt.Sprintf("zeroed from %d", cut)] = zeroed
		hole := bytes.Clone(whole)
		clear(hole[cut:min(cut+64, c.end)])
		torn[fmt.Sprintf("hole at %d", cut)] = hole
	}
	torn["garbage behind"] = append(bytes.Clone(whole), bytes.Repeat([]byte{0xEE}, 100)...)
	torn["torn footer behind"] = binary.LittleEndian.AppendUint64(bytes.Clone(whole), frame.Marker)
	torn["lonely byte behind"] = append(bytes.Clone(whole), 0, 0, 1)
	for name, raw := range torn {
		c.write(t, c.last, raw)
		work := crashed{dir: copyDir(t, c.dir), src: c.src, last: c.last}
		l := mustOpen(t, testOptions(vfs.Default, work.dir))
		kept := l.Tail().Pos.LSN
		if kept < c.synced {
			t.Fatalf("%s: %d frames left of %d acknowledged", name, kept, c.synced)
		}
		expect(t, l, c.src.frames[:kept])
		if tail := work.read(t, c.last); len(bytes.TrimRight(tail[l.active.end:], "\x00")) != 0 {
			t.Fatalf("%s: torn bytes are left behind the cut", name)
		}
		must(t, l.BeginEpoch(4))
		must(t, l.Close())
		l = mustOpen(t, testOptions(vfs.Default, work.dir))
		expect(t, l, c.src.frames[:kept])
		must(t, l.Close())
	}
}

// TestGoodFrameBehindIsAWitness: with a stale or lost mark, a later frame that
// was written after the damaged one was durable still proves the damage.
func TestGoodFrameBehindIsAWitness(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(vfs.Default, dir)
	o.SegmentBytes = 1 << 20
	l := mustOpen(t, o)
	must(t, l.BeginEpoch(3))
	src := newSource(12)
	commit(t, l, src.group(2, 100))
	stale, err := os.ReadFile(filepath.Join(dir, markName))
	must(t, err)
	target := l.active.end
	commit(t, l, src.group(1, 100)) // LSN 3, the one to be damaged
	follower := bytes.Clone(stale)
	for slot := range 2 { // a mark of a node that wrote another epoch
		b := follower[slot*markSlotStride:][:markSlotSize]
		binary.LittleEndian.PutUint64(b[markWriter:], 2)
		binary.LittleEndian.PutUint32(b[markCRC:], crc32.Checksum(b[:markCRC], castagnoli))
	}
	alone := copyDir(t, dir)
	commit(t, l, src.group(1, 100)) // LSN 4 knows that 3 was durable
	withWitness := copyDir(t, dir)
	must(t, l.Close())

	for name, c := range map[string]struct {
		dir    string
		mark   []byte
		refuse bool
	}{
		"stale mark, witness":            {withWitness, stale, true},
		"no mark, witness":               {withWitness, nil, true},
		"stale mark, no witness":         {alone, stale, false},
		"follower's mark, and a witness": {withWitness, follower, false},
	} {
		work := crashed{dir: copyDir(t, c.dir)}
		work.write(t, markName, c.mark)
		raw := work.read(t, segmentName(1))
		raw[target+frame.HeaderSize+3] ^= 1
		work.write(t, segmentName(1), raw)
		l, err := Open(testOptions(vfs.Default, work.dir))
		var bad *fault.Corruption
		if c.refuse {
			if !errors.As(err, &bad) || bad.Offset != target {
				t.Errorf("%s: got %v, want a corruption at %d", name, err, target)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		expect(t, l, src.frames[:2])
		must(t, l.Close())
	}
}

// refusal is a change to a crashed log that must keep it from opening.
type refusal struct {
	change func(dir string, o *Options) error
	want   string // part of the error
}

// rewrite changes the bytes of one file.
func rewrite(name string, change func([]byte) []byte) func(string, *Options) error {
	return func(dir string, _ *Options) error {
		path := filepath.Join(dir, name)
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, change(raw), 0o644)
	}
}

// lost is what may be missing from the directory, or be another's.
func lost(segments []string) map[string]refusal {
	last := segments[len(segments)-1]
	foreign := func(_ string, o *Options) error { o.Instance[0] = 77; return nil }
	return map[string]refusal{
		"a middle segment is gone": {func(dir string, _ *Options) error { return os.Remove(filepath.Join(dir, segments[1])) }, "first LSN of the segment"},
		"the last segment is gone": {func(dir string, _ *Options) error { return os.Remove(filepath.Join(dir, last)) }, "which was durable"},
		"all segments are gone": {func(dir string, _ *Options) error {
			var errs []error
			for _, s := range segments {
				errs = append(errs, os.Remove(filepath.Join(dir, s)))
			}
			return errors.Join(errs...)
		}, "which was durable"},
		"a segment has another's name": {func(dir string, _ *Options) error {
			return os.Rename(filepath.Join(dir, segments[0]), filepath.Join(dir, segmentName(2)))
		}, "first LSN of the segment"},
		"another instance": {foreign, "belongs to instance"},
		"another instance, no mark": {func(dir string, o *Options) error {
			return errors.Join(foreign(dir, o), os.Remove(filepath.Join(dir, markName)))
		}, "belongs to instance"},
	}
}

// damaged is what may have happened to a file.
func damaged(c *crashed, segments []string) map[string]refusal {
	return map[string]refusal{
		"a middle segment lost its seal": {rewrite(segments[1], func(b []byte) []byte { return b[:2000] }), "trailer"},
		"a newer format": {rewrite(segments[0], func(b []byte) []byte {
			b[8] = 2
			binary.LittleEndian.PutUint32(b[252:], crc32.Checksum(b[:252], castagnoli))
			return b
		}), "written by a newer version"},
		"an acknowledged frame is damaged": {rewrite(c.last, func(b []byte) []byte {
			b[c.syncedEnd-20] ^= 1
			return b
		}), "the log was durable up to"},
		"the last segment is zeroed": {rewrite(c.last, func(b []byte) []byte { return make([]byte, len(b)) }), "segment magic"},
		"a header is zeroed in front of frames, no mark": {func(dir string, o *Options) error {
			zero := rewrite(c.last, func(b []byte) []byte {
				clear(b[:frame.SegmentHeaderSize])
				return b
			})
			return errors.Join(zero(dir, o), os.Remove(filepath.Join(dir, markName)))
		}, "segment magic"},
	}
}

func TestOpenRefuses(t *testing.T) {
	c := crashLog(t, groupsOf)
	paths, err := SegmentPaths(vfs.Default, c.dir)
	must(t, err)
	var segments []string
	for _, p := range paths {
		segments = append(segments, filepath.Base(p))
	}
	for _, tests := range []map[string]refusal{lost(segments), damaged(&c, segments)} {
		for name, test := range tests {
			dir := copyDir(t, c.dir)
			o := testOptions(vfs.Default, dir)
			must(t, test.change(dir, &o))
			before := listing(t, dir)
			if _, err := Open(o); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got %v, want an error with %q", name, err, test.want)
			}
			if diff := cmp.Diff(before, listing(t, dir)); diff != "" {
				t.Errorf("%s: a refused opening changed the directory\n%s", name, diff)
			}
		}
	}
}

// listing maps names to contents, but for the mark, which opening creates.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	m := map[string]string{}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		if e.Name() != markName {
			m[e.Name()] = string(raw)
		}
	}
	return m
}

func TestEmptyLastSegmentIsReplaced(t *testing.T) {
	for name, raw := range map[string][]byte{
		"no byte": {}, "half a header": []byte("OCSEG"), "zeros": make([]byte, 5000), "a header": nil, "a header and zeros": make([]byte, 5000),
	} {
		dir := t.TempDir()
		l := mustOpen(t, testOptions(vfs.Default, dir))
		must(t, l.BeginEpoch(1))
		src := newSource(13)
		commit(t, l, src.group(3, 50))
		must(t, l.BeginEpoch(2))
		if strings.HasPrefix(name, "a header") {
			tail := l.Tail()
			h := frame.SegmentHeader{Instance: testInstance, Epoch: 2, First: 4, PrevChain: tail.Chain, PrevDigest: tail.Digest, PrevTimestamp: tail.Timestamp, Seed: 5}
			raw = append(h.Append(nil), raw...)
		}
		must(t, l.Close())
		must(t, os.WriteFile(filepath.Join(dir, segmentName(4)), raw, 0o644))
		must(t, os.WriteFile(filepath.Join(dir, nextName), raw, 0o644))

		l = mustOpen(t, testOptions(vfs.Default, dir))
		if s := l.Segments(); len(s) != 1 {
			t.Errorf("%s: segments %+v", name, s)
		}
		if _, err := os.Stat(filepath.Join(dir, nextName)); !os.IsNotExist(err) {
			t.Errorf("%s: next.tmp is left: %v", name, err)
		}
		must(t, l.BeginEpoch(3))
		commit(t, l, src.group(1, 50))
		expect(t, l, src.frames)
		must(t, l.Close())
	}
}

func TestReadOnlyChangesNothing(t *testing.T) {
	c := crashLog(t, groupsOf)
	raw := c.read(t, c.last)
	c.write(t, c.last, raw[:c.end-5]) // a torn tail, not to be cut
	before := listing(t, c.dir)
	o := testOptions(vfs.Default, c.dir)
	o.ReadOnly = true
	l := mustOpen(t, o)
	expect(t, l, c.src.frames[:len(c.src.frames)-1])
	for what, err := range map[string]error{
		"append": l.Append(c.src.group(1, 1)), "sync": l.Sync(), "begin": l.BeginEpoch(9), "remove": l.RemoveBefore(99),
	} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, l.Close())
	if diff := cmp.Diff(before, listing(t, c.dir)); diff != "" {
		t.Errorf("changed:\n%s", diff)
	}
}

// TestWrongFramesAreRefused writes frames that verify by themselves and do not
// continue the log.
func TestWrongFramesAreRefused(t *testing.T) {
	enc, err := frame.NewEncoder()
	must(t, err)
	defer func() { must(t, enc.Close()) }()
	for what, change := range map[string]func(h *frame.Header, prev *lsn.Chain){
		"position":   func(h *frame.Header, _ *lsn.Chain) { h.LSN++ },
		"epoch":      func(h *frame.Header, _ *lsn.Chain) { h.Epoch++ },
		"synced LSN": func(h *frame.Header, _ *lsn.Chain) { h.Synced = h.LSN },
		"timestamp":  func(h *frame.Header, _ *lsn.Chain) { h.Timestamp = 1 },
		"chain":      func(_ *frame.Header, prev *lsn.Chain) { prev[0]++ },
		"digest":     func(h *frame.Header, _ *lsn.Chain) { h.Digest.Lo++ },
	} {
		dir := t.TempDir()
		head := frame.SegmentHeader{Instance: testInstance, Epoch: 1, First: 1, Seed: 8}
		raw := head.Append(nil)
		src := newSource(14)
		var chain lsn.Chain
		for range 3 {
			e := src.entry(50)
			h := frame.Header{LSN: e.LSN, Epoch: 1, Timestamp: e.Timestamp, Kind: e.Kind, Digest: e.Digest}
			if e.LSN == 3 {
				change(&h, &chain)
			}
			p, err := enc.Prepare(&h.Salt, e.Body)
			must(t, err)
			raw, chain = frame.AppendFrame(raw, chain, &h, &p, head.Seed, uint64(len(raw)))
		}
		path := filepath.Join(dir, segmentName(1))
		must(t, os.WriteFile(path, raw, 0o644))
		var bad *fault.Corruption
		if _, err := VerifySegment(vfs.Default, path); !errors.As(err, &bad) || !strings.HasPrefix(bad.What, what) {
			t.Errorf("%s: verified: %v", what, err)
		}
		if _, err := Open(testOptions(vfs.Default, dir)); !errors.As(err, &bad) {
			t.Errorf("%s: opened: %v", what, err)
		}
	}
}

// TestReaderRefusesAWrongDigest: the log takes the sequencer's word for the
// digest, and the first reader holds it against the operations.
func TestReaderRefusesAWrongDigest(t *testing.T) {
	l := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
	must(t, l.BeginEpoch(1))
	src := newSource(14)
	commit(t, l, src.group(2, 50))
	e := src.entry(50)
	e.Digest.Hi++
	commit(t, l, []Entry{e})
	got, err := readAll(l, 1)
	var bad *fault.Corruption
	if !errors.As(err, &bad) || !same(got, src.frames[:2]) {
		t.Errorf("%d frames, %v", len(got), err)
	}
	must(t, l.Close())
}
