package dump

import (
	"bytes"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/wal"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
)

var update = flag.Bool("update", false, "rewrite golden files")

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sampleLog writes two segments, the first sealed: an epoch, rows, a clock
// jump, a delete, a range delete.
func sampleLog(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	log := logrus.New()
	log.SetOutput(io.Discard)
	l, err := wal.Open(wal.Options{
		FS: vfs.Default, Dir: dir, Instance: [16]byte{0xAA, 15: 0x01}, Log: log,
		NoPreallocate: true, Rand: rand.NewChaCha8([32]byte{1}),
	})
	must(t, err)
	var tail lsn.Digest
	at, stamp := lsn.LSN(0), int64(1_700_000_000_000_000)
	add := func(kind frame.Kind, record []byte, ops ...frame.Op) {
		tail, at, stamp = tail.Add(frame.Delta(ops)), at+1, stamp+1500
		must(t, l.Append([]wal.Entry{{Kind: kind, LSN: at, Timestamp: stamp, Wall: stamp, Digest: tail, Body: frame.AppendOps(record, ops)}}))
		must(t, l.Sync())
	}
	put := func(k, v string) frame.Op { return frame.Op{Type: frame.Put, Key: []byte(k), Value: []byte(v)} }
	hash := func(k, v string) lsn.Digest { return frame.PairHash([]byte(k), []byte(v)) }

	must(t, l.BeginEpoch(1))
	epoch := frame.EpochRecord{FirstLSN: 1}
	add(frame.KindEpoch, epoch.Append(nil))
	add(frame.KindData, nil, put("row/1", "a"), put("row/2\x00\xff", "b"))
	must(t, l.BeginEpoch(2))
	epoch = frame.EpochRecord{Parent: 1, FirstLSN: 3, ParentChain: l.Tail().Chain}
	add(frame.KindEpoch, epoch.Append(nil))
	clock := frame.ClockRecord{OldOffset: 10, NewOffset: -20}
	add(frame.KindClock, clock.Append(nil))
	replace := put("row/1", "c")
	replace.HadOld, replace.Old = true, hash("row/1", "a")
	add(frame.KindData, nil, replace, frame.Op{Type: frame.RangeDelete, Key: []byte("row/2"), End: []byte("row/3"), HadOld: true, Old: hash("row/2\x00\xff", "b")})
	add(frame.KindData, nil, frame.Op{Type: frame.Delete, Key: []byte("row/1"), HadOld: true, Old: hash("row/1", "c")})
	must(t, l.Close())
	return dir
}

// waldump runs the command as main does.
func waldump(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	cmd := Command("1.2.3 (abc)", QuoteKey)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs(args)
	code = Execute(cmd)
	return out.String(), errs.String(), code
}

func TestGolden(t *testing.T) {
	dir := sampleLog(t)
	for name, args := range map[string][]string{
		"text.golden": {"--ops", "--verify", dir}, "lines.golden": {dir}, "json.golden": {"--json", "--ops", "--verify", dir}, "quiet.golden": {"-q", dir},
	} {
		out, errs, code := waldump(args...)
		if code != ExitOK || errs != "" {
			t.Errorf("%s: exit %d: %s", name, code, errs)
		}
		got := strings.ReplaceAll(out, dir, "$DIR")
		path := filepath.Join("testdata", name)
		if *update {
			must(t, os.MkdirAll("testdata", 0o755))
			must(t, os.WriteFile(path, []byte(got), 0o644))
		}
		want, err := os.ReadFile(path)
		must(t, err)
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func TestExitCodes(t *testing.T) {
	first, second := "0000000000000001.log", "0000000000000003.log"
	edit := func(name string, change func([]byte) []byte) func(string) error {
		return func(dir string) error {
			path := filepath.Join(dir, name)
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, change(raw), 0o644)
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			b[(at+len(b))%len(b)] ^= 1
			return b
		}
	}
	none := func(string) error { return nil }
	const noMark = "durable.mark"
	for name, c := range map[string]struct {
		change func(dir string) error
		args   []string // $DIR stands for the log
		code   int
		says   string
	}{
		"intact":                  {none, []string{"--verify", "$DIR"}, ExitOK, "sealed, 2 frames"},
		"one file":                {none, []string{"--verify", "$DIR/" + second}, ExitOK, "open, 4 frames, 3 operations"},
		"a frame":                 {edit(first, flip(300)), []string{"$DIR"}, ExitCorruption, "frame CRC32C"},
		"a frame, one file":       {edit(first, flip(300)), []string{"$DIR/" + first}, ExitCorruption, "frame CRC32C"},
		"a footer's SHA":          {edit(first, flip(-20)), []string{"--verify", "$DIR"}, ExitCorruption, "SHA-256"},
		"a footer's SHA, no look": {edit(first, flip(-20)), []string{"$DIR"}, ExitOK, ""},
		"a seal":                  {edit(first, flip(-1)), []string{"$DIR"}, ExitCorruption, "a later segment exists"},
		"an acknowledged frame":   {edit(second, flip(-1)), []string{"$DIR"}, ExitCorruption, "which was durable"},
		"a torn tail": {func(dir string) error {
			if err := os.Remove(filepath.Join(dir, noMark)); err != nil {
				return err
			}
			return edit(second, flip(-1))(dir)
		}, []string{"$DIR"}, ExitOK, "open, torn tail at offset"},
		"a segment is missing": {func(dir string) error { return os.Remove(filepath.Join(dir, second)) }, []string{"$DIR"}, ExitCorruption, "which was durable"},
		"not a segment":        {none, []string{"$DIR/durable.mark"}, ExitCorruption, "segment magic"},
		"no such file":         {none, []string{"$DIR/nothing"}, ExitUnreadable, "no such file"},
		"an empty directory":   {none, []string{t.TempDir()}, ExitUnreadable, "no segment"},
		"no argument":          {none, nil, ExitUsage, "name at least one"},
		"an unknown flag":      {none, []string{"--no-such", "$DIR"}, ExitUsage, "unknown flag"},
		"an unknown shell":     {none, []string{"completion", "tcl"}, ExitUsage, "invalid argument"},
		"version":              {none, []string{"--version"}, ExitOK, "1.2.3 (abc)"},
		"help":                 {none, []string{"--help"}, ExitOK, "Exit codes"},
		"completion":           {none, []string{"completion", "bash"}, ExitOK, "waldump"},
	} {
		dir := sampleLog(t)
		must(t, c.change(dir))
		var args []string
		for _, a := range c.args {
			args = append(args, strings.ReplaceAll(a, "$DIR", dir))
		}
		out, errs, code := waldump(args...)
		if code != c.code || !strings.Contains(out+errs, c.says) {
			t.Errorf("%s: exit %d, want %d and %q\nstdout: %s\nstderr: %s", name, code, c.code, c.says, out, errs)
		}
		if code == ExitCorruption && !strings.Contains(out, "BAD") && !strings.Contains(errs, "which was durable") {
			t.Errorf("%s: no verdict says so:\n%s", name, out)
		}
	}
}

// TestKeyTwiceInAFrame: the log takes it, --verify does not.
func TestKeyTwiceInAFrame(t *testing.T) {
	dir := sampleLog(t)
	log := logrus.New()
	log.SetOutput(io.Discard)
	l, err := wal.Open(wal.Options{FS: vfs.Default, Dir: dir, Instance: [16]byte{0xAA, 15: 0x01}, Log: log, NoPreallocate: true})
	must(t, err)
	must(t, l.BeginEpoch(3))
	tail := l.Tail()
	ops := []frame.Op{{Type: frame.Put, Key: []byte("k"), Value: []byte("1")}, {Type: frame.Put, Key: []byte("k"), Value: []byte("2")}}
	must(t, l.Append([]wal.Entry{{Kind: frame.KindData, LSN: tail.Pos.LSN + 1, Timestamp: tail.Timestamp, Digest: tail.Digest.Add(frame.Delta(ops)), Body: frame.AppendOps(nil, ops)}}))
	must(t, l.Close())
	if _, errs, code := waldump(dir); code != ExitOK {
		t.Errorf("without --verify: exit %d, %s", code, errs)
	}
	if _, errs, code := waldump("--verify", dir); code != ExitCorruption || !strings.Contains(errs, "one per key") {
		t.Errorf("with --verify: exit %d, %s", code, errs)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestOutputErrorsAreReported(t *testing.T) {
	err := Run(Options{FS: vfs.Default, Out: brokenPipe{}, FormatKey: QuoteKey}, []string{sampleLog(t)})
	if err == nil {
		t.Fatal("a closed output passes for success")
	}
}

// TestDivergentFilePrintsItsRows: what was set aside is printed like a segment.
func TestDivergentFilePrintsItsRows(t *testing.T) {
	dir, aside := sampleLog(t), t.TempDir()
	log := logrus.New()
	log.SetOutput(io.Discard)
	l, err := wal.Open(wal.Options{FS: vfs.Default, Dir: dir, Instance: [16]byte{0xAA, 15: 0x01}, Log: log, NoPreallocate: true})
	must(t, err)
	set, err := l.SetAside(4, aside)
	must(t, err)
	must(t, l.Close())
	if len(set) != 1 {
		t.Fatalf("set aside %+v", set)
	}
	out, errs, code := waldump("--ops", "--verify", set[0].Path)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	for _, want := range []string{"row/1", "row/2", "sealed, 2 frames, 3 operations"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}
