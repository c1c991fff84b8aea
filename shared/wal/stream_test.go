package wal

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"originchain/shared/fault"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// streamed reads a stream to its end.
func streamed(t testing.TB, b []byte, size int64) (got []made, err error) {
	t.Helper()
	s, err := NewStream("s", bytes.NewReader(b), size)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for {
		f, err := s.Next()
		if errors.Is(err, io.EOF) {
			return got, nil
		} else if err != nil {
			return got, err
		}
		got = append(got, made{LSN: f.LSN, Digest: f.Digest, Body: bytes.Clone(f.Body)})
	}
}

// TestStreamReadsWhatASegmentFileDoes: whole, without its footer, and with every byte
// flipped or missing, which is a corruption that names the source.
func TestStreamReadsWhatASegmentFileDoes(t *testing.T) {
	o := testOptions(vfs.Default, t.TempDir())
	src := newSource(3)
	l := mustOpen(t, o)
	must(t, l.BeginEpoch(1))
	for len(l.Segments()) < 2 {
		commit(t, l, src.group(1, 60))
	}
	info := l.Segments()[0]
	must(t, l.Close())
	b := readFS(t, o.FS, info.Path)
	want := src.frames[:info.Last]
	got, err := streamed(t, b, int64(len(b)))
	must(t, err)
	if !same(want, got) {
		t.Fatal(cmp.Diff(want, got))
	}
	end := bytes.LastIndex(b, []byte{0xFF, 0xFF, 0xFF, 0xFF})
	if got, err = streamed(t, b[:end], int64(end)); err != nil || !same(want, got) {
		t.Errorf("without a footer: %v", err)
	}
	var damaged *fault.Corruption
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 4
		if _, err := streamed(t, bad, int64(len(bad))); !errors.As(err, &damaged) || damaged.File != "s" || damaged.Remedy != "" {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
		if _, err := streamed(t, b[:i], int64(len(b))); !errors.As(err, &damaged) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if _, err := streamed(t, append(bytes.Clone(b), 0), int64(len(b))+1); !errors.As(err, &damaged) {
		t.Errorf("a byte behind the footer: %v", err)
	}
}
