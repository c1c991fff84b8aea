package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"originchain/scripts/demo/data"
)

func TestHistogramOfTheServer(t *testing.T) {
	text := `# TYPE oc_wal_fsync_seconds histogram
oc_wal_fsync_seconds_bucket{le="0.001"} %A
oc_wal_fsync_seconds_bucket{le="0.002"} %B
oc_wal_fsync_seconds_bucket{le="+Inf"} %C
oc_wal_fsync_seconds_sum 1
`
	read := func(a, b, c string) *histogram {
		h, err := parseHistogram([]byte(strings.NewReplacer("%A", a, "%B", b, "%C", c).Replace(text)), fsyncMetric)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	before, after := read("100", "100", "100"), read("190", "200", "200")
	p99, err := after.since(before).quantile(0.99)
	// 90 of 100 up to 1 ms, 10 up to 2 ms: the 99th is 9/10 of the way.
	if want := 1900 * time.Microsecond; err != nil || p99 != want {
		t.Errorf("p99 %s, %v, want %s", p99, err, want)
	}
	if _, err := after.since(after).quantile(0.5); err == nil {
		t.Error("a quantile of nothing")
	}
	if _, err := read("0", "0", "5").quantile(0.99); err == nil {
		t.Error("a quantile above the largest bucket is not known")
	}
	if _, err := parseHistogram([]byte("x 1\n"), fsyncMetric); err == nil {
		t.Error("a histogram that is not there")
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		f    figure
		want verdict
	}{
		{figure{Limit: 10, Measured: 11}, met},
		{figure{Limit: 10, Measured: 10}, met},
		{figure{Limit: 10, Measured: 9}, missed},
		{figure{Limit: 10, Measured: 9, AtMost: true}, met},
		{figure{Limit: 10, Measured: 11, AtMost: true}, missed},
		{figure{Measured: 11}, noLimit},
		{figure{Verdict: failed}, failed},
	} {
		b := &bench{}
		b.add(c.f)
		if got := b.figures[0].Verdict; got != c.want {
			t.Errorf("%+v: %s, want %s", c.f, got, c.want)
		}
	}
}

func TestLinesAreRowsWithFreshIDs(t *testing.T) {
	flights, err := data.Flights()
	if err != nil {
		t.Fatal(err)
	}
	const n = 45_000 // more than there are flights
	text, err := io.ReadAll(&lineReader{lines: flightLines(flights), left: n, id: 1000})
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	if len(lines) != n {
		t.Fatalf("%d lines, want %d", len(lines), n)
	}
	for i, line := range lines {
		var f data.Flight
		if err := json.Unmarshal(line, &f); err != nil {
			t.Fatalf("line %d: %v: %s", i, err, line)
		}
		want := flights[int(f.ID)%len(flights)]
		want.ID = f.ID
		if f.ID != int64(1001+i) || f != want {
			t.Fatalf("line %d: %+v, want %+v", i, f, want)
		}
	}
}

func TestReadmeBlockIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(path, []byte("before\n"+readmeBegin+"\nold\n"+readmeEnd+"\nafter\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := &bench{options: options{readme: path}}
	b.add(figure{Name: "batch-ingest", Unit: "rows/s", Target: "≥ 100,000 rows/s", Limit: 100_000, Measured: 123_456, What: "rows"})
	for range 2 { // a second time must find its marks again
		if err := b.writeReadme(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := string(text)
	if !strings.HasPrefix(got, "before\n"+readmeBegin+"\n") || !strings.HasSuffix(got, readmeEnd+"\nafter\n") || strings.Contains(got, "old") {
		t.Errorf("%s", got)
	}
	if want := "| **batch-ingest**: rows | ≥ 100,000 rows/s | 123,456 rows/s | 1.23 | met |"; strings.Count(got, want) != 1 {
		t.Errorf("%q is not there once:\n%s", want, got)
	}
}

// The benchmarks that need no server run here in small, so that they cannot rot.
func TestBenchmarksInProcessProduceTheirFigures(t *testing.T) {
	b := &bench{options: options{quick: true}, work: t.TempDir(), out: io.Discard}
	for _, g := range groups() {
		if g.name != "commit" && g.name != "recovery" && g.name != "archive-replay" {
			continue
		}
		if err := b.runGroup(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]bool{"group-commit": true, "one-writer": true, "recovery": true, "recovery-vs-pebble": true, "restore-replay": true, "restore-overlap": true}
	for _, f := range b.figures {
		if !want[f.Name] || f.Verdict == failed || f.Measured <= 0 || f.Fsync.P50 <= 0 {
			t.Errorf("%+v", f)
		}
		delete(want, f.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}
