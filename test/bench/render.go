package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// table is the report for a terminal.
func (b *bench) table() string {
	rows := [][]string{{"figure", "target", "measured", "ratio", "verdict", "fsync p50 / p99"}}
	for _, f := range b.figures {
		rows = append(rows, f.cells())
	}
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for c, text := range r {
			width[c] = max(width[c], len([]rune(text)))
		}
	}
	var out strings.Builder
	for _, r := range rows {
		for c, text := range r {
			fmt.Fprintf(&out, "%s%s  ", text, strings.Repeat(" ", width[c]-len([]rune(text))))
		}
		out.WriteString("\n")
	}
	for _, f := range b.figures {
		fmt.Fprintf(&out, "\n%s: %s", f.Name, f.What)
		if f.Note != "" {
			fmt.Fprintf(&out, "; %s", f.Note)
		}
	}
	return out.String() + "\n"
}

func (f *figure) cells() []string {
	ratio := "-"
	if f.Limit > 0 {
		ratio = fmt.Sprintf("%.2f", f.Ratio)
	}
	return []string{
		f.Name, f.Target, number(f.Measured) + " " + f.Unit, ratio, string(f.Verdict),
		fmt.Sprintf("%s / %s", brief(f.Fsync.P50), brief(f.Fsync.P99)),
	}
}

func brief(d time.Duration) string { return fmt.Sprintf("%.2f ms", millis(d)) }

// number writes three significant digits of small numbers and all of large ones.
func number(v float64) string {
	switch {
	case v >= 1000:
		s := fmt.Sprintf("%.0f", v)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

const (
	readmeBegin = "<!-- bench:begin -->"
	readmeEnd   = "<!-- bench:end -->"
)

// writeReadme replaces the block between the two marks.
func (b *bench) writeReadme() error {
	text, err := os.ReadFile(b.readme)
	if err != nil {
		return fmt.Errorf("write the benchmark block: %w", err)
	}
	before, rest, ok := bytes.Cut(text, []byte(readmeBegin))
	_, after, ok2 := bytes.Cut(rest, []byte(readmeEnd))
	if !ok || !ok2 {
		return fmt.Errorf("%s lacks %s or %s; put both where the figures belong", b.readme, readmeBegin, readmeEnd)
	}
	out := fmt.Sprintf("%s%s\n%s%s%s", before, readmeBegin, b.markdown(), readmeEnd, after)
	if err := os.WriteFile(b.readme, []byte(out), 0o644); err != nil {
		return fmt.Errorf("write the benchmark block: %w", err)
	}
	return nil
}

// markdown is the report for the README.
func (b *bench) markdown() string {
	var out strings.Builder
	fmt.Fprintf(&out, "Measured by `make bench` on %s, Linux, %d cores, client and server on the same ones. The last column is a 4 KiB write with fdatasync on the same disk in the same run.\n\n", processor(), runtime.NumCPU())
	out.WriteString("| figure | target | measured | ratio | verdict | fsync p50 / p99 |\n|---|---|---|---|---|---|\n")
	for _, f := range b.figures {
		cells := f.cells()
		cells[0] = "**" + f.Name + "**: " + f.What
		if f.Note != "" {
			cells[0] += " (" + f.Note + ")"
		}
		fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | "))
	}
	return out.String()
}

// processor is the machine's model of processor, as Linux names it.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
