package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"originchain/test/bench/litestream"
	"originchain/test/bench/postgres"
)

func TestLossesAreSummedUp(t *testing.T) {
	var all []losses
	for i := range 100 { // in no order
		all = append(all, losses{bound: time.Duration((i*37)%100+1) * time.Millisecond, acked: 10, lost: int64(i % 2)})
	}
	got := sumLosses(all)
	want := lossSum{p50: 51 * time.Millisecond, p99: 100 * time.Millisecond, max: 100 * time.Millisecond, acked: 1000, lost: 50}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestBytesUploadedForEachLogged(t *testing.T) {
	tail, all := (&shipment{logged: 200, tail: 210, segments: 190}).ratios()
	if tail != 1.05 || all != 2 {
		t.Errorf("%g and %g, want 1.05 and 2", tail, all)
	}
	b := &bench{}
	for _, c := range []struct {
		objects int
		want    verdict
	}{{0, met}, {1, missed}} {
		b.add(figure{Measured: float64(c.objects), Verdict: verdictOfNone(c.objects)})
		if got := b.figures[len(b.figures)-1].Verdict; got != c.want {
			t.Errorf("%d objects: %s, want %s", c.objects, got, c.want)
		}
	}
}

func TestEstimatesAreHeldAgainstWhatCame(t *testing.T) {
	for _, c := range []struct{ estimate, real, want float64 }{{8, 10, 20}, {12, 10, 20}, {10, 10, 0}, {20, 10, 100}} {
		if got := apart(c.estimate, c.real); got != c.want {
			t.Errorf("%g for %g: %g %%, want %g", c.estimate, c.real, got, c.want)
		}
	}
}

func TestMiddleLeavesItsInputAlone(t *testing.T) {
	all := []float64{9, 1, 5, 7, 3}
	if got := middle(all); got != 5 || all[0] != 9 {
		t.Errorf("%g of %v, want 5", got, all)
	}
}

// The rows that the peers get are those that the server gets, and a change is one of a
// row that is there.
func TestDocumentsAreTheSameEachTime(t *testing.T) {
	c := corpus{base: 1000, log: 50}
	base := map[int64]string{}
	read := func(r *documentReader, visit func(id int64, text string)) (n int) {
		for id, text, ok := r.row(); ok; id, text, ok = r.row() {
			n++
			visit(id, text)
		}
		return n
	}
	if n := read(c.rows(), func(id int64, text string) { base[id] = text }); n != c.base || len(base) != c.base {
		t.Fatalf("%d rows, %d ids, want %d", n, len(base), c.base)
	}
	read(c.rows(), func(id int64, text string) {
		if base[id] != text || len(text) != documentBytes {
			t.Fatalf("row %d is another one the second time, or has %d bytes", id, len(text))
		}
	})
	n := read(c.changes(), func(id int64, text string) {
		if old, ok := base[id]; !ok || old == text {
			t.Errorf("the change of row %d is none (there before: %v)", id, ok)
		}
	})
	if n != c.base/changedEach {
		t.Errorf("%d changes, want %d", n, c.base/changedEach)
	}
	n = read(c.more(), func(id int64, _ string) {
		if _, ok := base[id]; ok {
			t.Errorf("row %d is there already", id)
		}
	})
	if n != c.log {
		t.Errorf("%d rows more, want %d", n, c.log)
	}
}

func TestSlowStoreHasOnePace(t *testing.T) {
	s := &slowStore{pace: 1000}
	now := time.Unix(100, 0)
	for i, c := range []struct {
		n    int
		at   time.Time
		want time.Duration // since now
	}{
		{500, now, 500 * time.Millisecond},
		{500, now, time.Second}, // another reader at the same time waits for the first
		{1000, now.Add(3 * time.Second), 4 * time.Second},
	} {
		if got := s.through(c.n, c.at).Sub(now); got != c.want {
			t.Errorf("%d: through after %s, want %s", i, got, c.want)
		}
	}
}

func TestObjectsAreCounted(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"a/b/one": 3, "a/two": 4, "three": 0} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, make([]byte, size), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if n, bytes, err := objects(dir); n != 3 || bytes != 7 || err != nil {
		t.Errorf("%d objects of %d bytes, %v, want 3 of 7", n, bytes, err)
	}
}

// A peer that is not here is told, and so is one that fails; the next one is still asked.
func TestPeersAreNotSkippedInSilence(t *testing.T) {
	b := &bench{options: options{quick: true}, work: t.TempDir(), out: io.Discard}
	err := b.askPeers(t.Context(), corpus{}, []peer{
		{"one", func(context.Context, corpus) error { return errors.Join(litestream.ErrNotHere) }},
		{"two", func(context.Context, corpus) error { return postgres.ErrNotHere }},
		{"three", func(context.Context, corpus) error { return errors.New("broken") }},
		{"four", func(context.Context, corpus) error { b.add(figure{Name: "four", Measured: 1}); return nil }},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []verdict{absent, absent, failed, noLimit}
	if len(b.figures) != len(want) {
		t.Fatalf("%d figures, want %d: %+v", len(b.figures), len(want), b.figures)
	}
	for i, f := range b.figures {
		if f.Verdict != want[i] || f.Verdict != noLimit && f.Note == "" {
			t.Errorf("%s: %s %q, want %s and why", f.Name, f.Verdict, f.Note, want[i])
		}
	}
}

// A program's memory is its own, whatever the benchmarks before it have held.
func TestTheMemoryOfAProgramIsItsOwn(t *testing.T) {
	func() {
		held := make([]byte, 512<<20)
		for i := 0; i < len(held); i += 4096 {
			held[i] = 1
		}
		runtime.KeepAlive(held)
	}()
	r, err := runProgram(t.Context(), nil, "/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	if r.rss <= 0 || r.rss > 256<<20 {
		t.Errorf("/bin/true had %d MiB resident", r.rss>>20)
	}
}
