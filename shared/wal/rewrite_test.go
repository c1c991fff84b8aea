package wal

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"originchain/shared/frame"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// remade reads a segment and writes it anew, with the frames redacted that redact says.
func remade(t testing.TB, b []byte, redact func(f *frame.Frame) bool) []byte {
	t.Helper()
	s, err := NewStream("s", bytes.NewReader(b), int64(len(b)))
	must(t, err)
	defer s.Close()
	w, err := NewRewrite(s.Header())
	must(t, err)
	defer func() { must(t, w.Close()) }()
	for {
		f, err := s.Next()
		if errors.Is(err, io.EOF) {
			out := w.Bytes(s.Footer() != nil)
			if w.Size() != len(out) {
				t.Errorf("it says %d bytes, and has %d", w.Size(), len(out))
			}
			return out
		}
		must(t, err)
		if redact(f) {
			err = w.Redact(f, emptied(t, f))
		} else {
			err = w.Keep(f, s.Raw())
		}
		must(t, err)
	}
}

// emptied is the body of a frame without its operations.
func emptied(t testing.TB, f *frame.Frame) []byte {
	t.Helper()
	encoded, err := frame.OpsOf(f.Kind, f.Body)
	must(t, err)
	return frame.AppendOps(bytes.Clone(f.Body[:len(f.Body)-len(encoded)]), nil)
}

// read is what a frame is, whatever is left of its body.
type read struct {
	header   frame.Header
	h, chain [32]byte
	redacted bool
	body     string
}

func framesIn(t testing.TB, b []byte) (out []read) {
	t.Helper()
	s, err := NewStream("s", bytes.NewReader(b), int64(len(b)))
	must(t, err)
	defer s.Close()
	for {
		f, err := s.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		must(t, err)
		out = append(out, read{f.Header, f.H, f.Chain, f.Redacted, string(f.Body)})
	}
}

// TestARewriteKeepsTheChain: whichever frames are redacted, each keeps its header (the
// digest in it), its H and its chain value; those that are kept keep their bytes; the
// footer is that of what is there; and what was rewritten can be rewritten again.
func TestARewriteKeepsTheChain(t *testing.T) {
	o := testOptions(vfs.Default, t.TempDir())
	src := newSource(5)
	l := mustOpen(t, o)
	must(t, l.BeginEpoch(1))
	for len(l.Segments()) < 3 {
		commit(t, l, src.group(3, 200))
	}
	info := l.Segments()[1]
	must(t, l.Close())
	sealed := readFS(t, o.FS, info.Path)
	open := sealed[:bytes.LastIndex(sealed, []byte{0xFF, 0xFF, 0xFF, 0xFF})]
	for name, b := range map[string][]byte{"sealed": sealed, "open": open} {
		want := framesIn(t, b)
		if len(want) < 4 {
			t.Fatalf("%s: only %d frames", name, len(want))
		}
		if !bytes.Equal(remade(t, b, func(*frame.Frame) bool { return false }), b) {
			t.Errorf("%s: with nothing redacted it is another", name)
		}
		for mask := range 1 << min(len(want), 7) {
			redact := func(f *frame.Frame) bool { return mask>>(uint64(f.LSN-info.First)%7)&1 == 1 }
			once := remade(t, b, redact)
			if twice := remade(t, once, func(f *frame.Frame) bool { return f.LSN == info.First }); !framesIn(t, twice)[0].redacted {
				t.Fatalf("%s: it cannot be rewritten again", name)
			}
			got := framesIn(t, once) // the stream holds chain, CRC, footer and its SHA-256
			if len(got) != len(want) {
				t.Fatalf("%s, mask %b: %d frames of %d", name, mask, len(got), len(want))
			}
			for i := range want {
				w := want[i]
				if gone := mask>>(i%7)&1 == 1; gone {
					w.redacted = true
					w.body = got[i].body
					if len(want[i].body) > 8 && len(got[i].body) >= len(want[i].body) {
						t.Fatalf("%s, mask %b: frame %d has its body still", name, mask, i)
					}
				}
				if got[i] != w {
					t.Fatalf("%s, mask %b: frame %d is %+v, want %+v", name, mask, i, got[i], w)
				}
			}
		}
	}
}

// TestARewriteRefusesWhatDoesNotFollow: a frame out of its place would get another chain
// value.
func TestARewriteRefusesWhatDoesNotFollow(t *testing.T) {
	o := testOptions(vfs.Default, t.TempDir())
	src := newSource(6)
	l := mustOpen(t, o)
	must(t, l.BeginEpoch(1))
	commit(t, l, src.group(4, 50))
	must(t, l.Close())
	b := readFS(t, o.FS, l.Segments()[0].Path)
	s, err := NewStream("s", bytes.NewReader(b), int64(len(b)))
	must(t, err)
	defer s.Close()
	w, err := NewRewrite(s.Header())
	must(t, err)
	defer func() { must(t, w.Close()) }()
	_, err = s.Next()
	must(t, err)
	f, err := s.Next()
	must(t, err)
	if err := w.Redact(f, emptied(t, f)); err == nil || !strings.Contains(err.Error(), "would have") {
		t.Errorf("the second frame first: %v", err)
	}
	if err := w.Redact(f, []byte{1, 2, 3}); err == nil {
		t.Error("a body that is none was taken")
	}
}
