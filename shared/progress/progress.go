// Package progress shows a person how far a long command is: bars on a terminal,
// a line at each quarter anywhere else, so that a log holds no control codes.
package progress

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

// Display is where the tasks of one command are shown. Failures to write are
// left alone: it is for the person in front of it, and the work goes on.
type Display struct {
	out  io.Writer
	bars *mpb.Progress // nil without a terminal
}

// New shows progress on out.
func New(out io.Writer) *Display {
	d := &Display{out: out}
	if f, ok := out.(*os.File); ok && isTerminal(f) {
		d.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(48))
	}
	return d
}

// isTerminal reports a terminal that a bar can be drawn on: one that does not
// know its width would show nothing.
func isTerminal(f *os.File) bool {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil && size.Col > 0
}

// Note prints a line between bars.
func (d *Display) Note(format string, args ...any) {
	w := d.out
	if d.bars != nil {
		w = d.bars
	}
	_, _ = fmt.Fprintf(w, "  "+format+"\n", args...)
}

// Close waits until the bars are drawn to their end; every task has to be done
// or aborted before.
func (d *Display) Close() {
	if d.bars != nil {
		d.bars.Wait()
	}
}

// Task is one piece of work, of a size that is known or estimated.
type Task struct {
	d           *Display
	name, unit  string
	bar         *mpb.Bar
	total, done int64
	started     time.Time
}

// Start shows a task of total units, named in the plural.
func (d *Display) Start(name, unit string, total int64) *Task {
	t := &Task{d: d, name: name, unit: unit, total: max(total, 1), started: time.Now()}
	if d.bars == nil {
		d.Note("%-14s 0 of %s %s", name, Thousands(total), unit)
		return t
	}
	t.bar = d.bars.AddBar(t.total,
		mpb.PrependDecorators(decor.Name(fmt.Sprintf("  %-14s ", name)), decor.CountersNoUnit("%d / %d "+unit, decor.WC{W: 20})),
		mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.OnComplete(decor.AverageSpeed(0, " %.0f/s"), " done")))
	return t
}

// Add counts units that are done.
func (t *Task) Add(n int64) {
	before := min(t.done, t.total) * 4 / t.total
	t.done += n
	if t.bar != nil {
		t.bar.IncrInt64(n)
		return
	}
	if quarter := min(t.done, t.total) * 4 / t.total; quarter > before {
		t.line(max(t.done, t.total))
	}
}

// Done ends a task whose size was an estimate, which it may not have come to.
func (t *Task) Done() {
	switch {
	case t.bar != nil:
		t.bar.SetTotal(t.done, true)
	case t.done < t.total:
		t.line(t.done)
	}
}

// line says how far the task is, of a size that is known by now.
func (t *Task) line(total int64) {
	t.d.Note("%-14s %s of %s %s after %s", t.name, Thousands(t.done), Thousands(total), t.unit, time.Since(t.started).Round(time.Millisecond))
}

// Abort leaves the bar where it is, so that Close does not wait for the rest.
func (t *Task) Abort() {
	if t.bar != nil {
		t.bar.Abort(false)
	}
}

// Thousands writes 20000 as 20,000.
func Thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
