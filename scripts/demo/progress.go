package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"
)

// progress shows how far a load is: bars on a terminal, a line at each quarter
// anywhere else, so that a log holds no control codes.
type progress struct {
	out  io.Writer
	bars *mpb.Progress // nil without a terminal
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out}
	if f, ok := out.(*os.File); ok && isTerminal(f) {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(48))
	}
	return p
}

// isTerminal reports a terminal that a bar can be drawn on: one that does not
// know its width would show nothing.
func isTerminal(f *os.File) bool {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil && size.Col > 0
}

// note prints a line between bars.
func (p *progress) note(format string, args ...any) {
	var w = p.out
	if p.bars != nil {
		w = p.bars
	}
	// For the person in front of the terminal only; see demo.sayf.
	_, _ = fmt.Fprintf(w, "  "+format+"\n", args...)
}

// close waits until the bars are drawn to their end.
func (p *progress) close() {
	if p.bars != nil {
		p.bars.Wait()
	}
}

// task is one table being loaded.
type task struct {
	p           *progress
	name        string
	bar         *mpb.Bar
	total, done int
	started     time.Time
}

func (p *progress) start(name string, total int) *task {
	t := &task{p: p, name: name, total: total, started: time.Now()}
	if p.bars == nil {
		p.note("%-14s loading %s rows", name, thousands(total))
		return t
	}
	t.bar = p.bars.AddBar(int64(total),
		mpb.PrependDecorators(decor.Name(fmt.Sprintf("  %-14s ", name)), decor.CountersNoUnit("%d / %d rows", decor.WC{W: 20})),
		mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.OnComplete(decor.AverageSpeed(0, " %.0f rows/s"), " done")))
	return t
}

// add counts rows that the server has made durable.
func (t *task) add(n int) {
	before := t.done * 4 / t.total
	t.done += n
	if t.bar != nil {
		t.bar.IncrBy(n)
		return
	}
	if quarter := t.done * 4 / t.total; quarter > before {
		t.p.note("%-14s %s of %s rows durable after %s", t.name, thousands(t.done), thousands(t.total), time.Since(t.started).Round(time.Millisecond))
	}
}

// abort leaves the bar where it is, so that close does not wait for the rest.
func (t *task) abort() {
	if t.bar != nil {
		t.bar.Abort(false)
	}
}

// thousands writes 20000 as 20,000.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
