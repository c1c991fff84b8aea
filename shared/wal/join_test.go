package wal

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestReaderHoldsFilesAgainstTheLog swaps a file under an open log for one
// that is whole and another: the reader must notice at the join at the latest.
func TestReaderHoldsFilesAgainstTheLog(t *testing.T) {
	write := func(wall int64) (string, *Log) {
		dir := t.TempDir()
		l := mustOpen(t, testOptions(vfs.Default, dir))
		must(t, l.BeginEpoch(1))
		src := newSource(15)
		for range 6 {
			g := src.group(2, 300)
			g[1].Wall += wall
			commit(t, l, g)
		}
		return dir, l
	}
	dir, l := write(0)
	other, m := write(1)
	name := segmentName(1)
	for what, change := range map[string]func() ([]byte, error){
		"another history": func() ([]byte, error) { return os.ReadFile(filepath.Join(other, name)) },
		"another seed": func() ([]byte, error) {
			raw, err := os.ReadFile(filepath.Join(dir, name))
			must(t, err)
			h, err := frame.DecodeSegmentHeader(raw)
			h.Seed++
			return append(h.Append(nil), raw[frame.SegmentHeaderSize:]...), err
		},
	} {
		was, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		raw, err := change()
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), raw, 0o644))
		_, err = readAll(l, 1)
		var bad *fault.Corruption
		if !errors.As(err, &bad) || (what == "another seed") != (bad.What == "segment header") {
			t.Errorf("%s: %v", what, err)
		}
		must(t, os.WriteFile(filepath.Join(dir, name), was, 0o644))
	}
	must(t, l.Close())
	must(t, m.Close())
}

func TestSegmentsMustJoin(t *testing.T) {
	prev := Tail{Pos: lsn.Pos{Epoch: 4, LSN: 9}, Chain: lsn.Chain{1}, Digest: lsn.Digest{Lo: 2}, Timestamp: 3}
	good := frame.SegmentHeader{Instance: testInstance, Epoch: 4, First: 10, PrevChain: prev.Chain, PrevDigest: prev.Digest, PrevTimestamp: 3}
	must(t, checkSegment("x", 10, &good, testInstance, &prev))
	for what, change := range map[string]func(*frame.SegmentHeader){
		"first LSN": func(h *frame.SegmentHeader) { h.First++ }, "previous chain": func(h *frame.SegmentHeader) { h.PrevChain[31]++ },
		"previous digest": func(h *frame.SegmentHeader) { h.PrevDigest.Hi++ }, "previous timestamp": func(h *frame.SegmentHeader) { h.PrevTimestamp-- },
		"epoch": func(h *frame.SegmentHeader) { h.Epoch-- }, "instance": func(h *frame.SegmentHeader) { h.Instance[0]++ },
	} {
		h := good
		change(&h)
		if err := checkSegment("x", h.First, &h, testInstance, &prev); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestFooterMustFitTheHeader(t *testing.T) {
	h := frame.SegmentHeader{Instance: testInstance, Epoch: 4, First: 10, Seed: 3}
	for _, c := range []struct {
		frames uint64
		last   lsn.LSN
		ok     bool
	}{{0, 9, false}, {2, 10, false}, {2, 12, false}, {2, 11, true}} {
		raw := h.Append(nil)
		f := frame.Footer{Frames: c.frames, Last: c.last}
		raw = f.Append(raw, h.Seed, uint64(len(raw)), sha256.New())
		_, _, err := readFooter(bytes.NewReader(raw), &h, int64(len(raw)))
		var bad *frame.DecodeError
		if (err == nil) != c.ok || (err != nil && !errors.As(err, &bad)) {
			t.Errorf("%d frames up to LSN %d in a segment that begins at 10: %v", c.frames, c.last, err)
		}
	}
}

func TestMarkKeepsTheNewestGoodSlot(t *testing.T) {
	path := filepath.Join(t.TempDir(), markName)
	m, err := openMark(vfs.Default, path)
	must(t, err)
	if m.value.valid {
		t.Fatal("an empty mark is valid")
	}
	for i := lsn.LSN(1); i < 6; i++ {
		must(t, m.write(markValue{durable: i, writer: 3, instance: testInstance}))
		if _, v, err := readMark(m.file); err != nil || v != (markValue{valid: true, durable: i, writer: 3, instance: testInstance}) {
			t.Fatalf("write %d: %+v, %v", i, v, err)
		}
		if i == 1 {
			continue
		}
		_, err := m.file.WriteAt([]byte{0xFF}, int64(m.sequence%2)*markSlotStride+markLSN+7)
		must(t, err)
		if _, v, err := readMark(m.file); err != nil || v.durable != i-1 {
			t.Fatalf("newest slot damaged after write %d: %+v, %v", i, v, err)
		}
		m.sequence-- // write it again
		must(t, m.write(m.value))
	}
	must(t, m.file.Close())
}
