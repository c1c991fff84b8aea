// Package progress shows a person how far a long command is: bars on a terminal,
// a line at each quarter anywhere else, so that a log holds no control codes.
package progress

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"
)

// Display is where the tasks of one command are shown. Failures to write are
// left alone: it is for the person in front of it, and the work goes on. Display
// and Task may be used by several goroutines at once.
type Display struct {
	out  io.Writer
	bars *mpb.Progress // nil without a terminal

	mu    sync.Mutex // held while a line is written, and for tasks
	tasks []*Task
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
	d.mu.Lock()
	defer d.mu.Unlock()
	line := fmt.Appendf(nil, "  "+format+"\n", args...)
	if d.bars != nil {
		if _, err := d.bars.Write(line); err == nil {
			return
		} // they are drawn to their end
	}
	_, _ = d.out.Write(line)
}

// Close ends the display; the bars of tasks that were left stay where they are.
func (d *Display) Close() {
	d.mu.Lock()
	tasks := d.tasks
	d.tasks = nil
	d.mu.Unlock()
	for _, t := range tasks {
		t.Abort()
	}
	if d.bars != nil {
		d.bars.Wait()
	}
}

// Task is one piece of work, of a size that is known or estimated.
type Task struct {
	d          *Display
	name, unit string
	bar        *mpb.Bar
	started    time.Time

	mu          sync.Mutex
	total, done int64
	// known says that there was a size to begin with; without one a line is due when
	// done comes to next.
	known bool
	next  int64
	// ended says that it is done or aborted, told that the last line said all of it.
	ended, told bool
}

// firstCount is the first count of unknown size that is a line, moreEach by how much it
// grows from one line to the next.
const (
	firstCount = 1000
	moreEach   = 4
)

// Start shows a task of total units, named in the plural. It lasts until Done,
// whatever has been added. A total of 0 says that the size is not known.
func (d *Display) Start(name, unit string, total int64) *Task {
	t := &Task{d: d, name: name, unit: unit, total: max(total, 1), known: total > 0, next: firstCount, started: time.Now()}
	d.mu.Lock()
	d.tasks = append(d.tasks, t)
	d.mu.Unlock()
	if d.bars == nil {
		if t.known {
			d.Note("%-14s 0 of %s %s", name, Thousands(total), unit)
		}
		return t
	}
	// A bar that is made with a total ends by itself when it comes to it, which
	// an estimate may be far from the end.
	t.bar = d.bars.AddBar(0,
		mpb.PrependDecorators(decor.Name(fmt.Sprintf("  %-14s ", name)), decor.CountersNoUnit("%d / %d "+unit, decor.WC{W: 20})),
		mpb.AppendDecorators(decor.OnComplete(decor.Percentage(decor.WC{W: 5}), "100 %"), decor.OnComplete(decor.AverageSpeed(0, " %.0f/s"), " done"),
			decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8}), "")))
	t.bar.SetTotal(t.total, false)
	return t
}

// Add counts units that are done.
func (t *Task) Add(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || n == 0 {
		return
	}
	before := min(t.done, t.total) * 4 / t.total
	t.done += n
	t.told = false
	if t.bar != nil {
		t.bar.IncrInt64(n)
		if t.done > t.total {
			t.bar.SetTotal(t.done, false)
		}
		return
	}
	switch quarter := min(t.done, t.total) * 4 / t.total; {
	case !t.known:
		if t.done >= t.next {
			t.next = t.done * moreEach
			t.d.Note("%-14s %s %s so far, after %s", t.name, Thousands(t.done), t.unit, time.Since(t.started).Round(time.Millisecond))
		}
	case quarter > before && t.done <= t.total:
		// One that has passed its estimate is at its end when it says so.
		t.line(t.total)
	}
}

// Done ends a task. Its size may have been an estimate, and is known now.
func (t *Task) Done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	t.ended = true
	switch {
	case t.bar != nil:
		t.bar.SetTotal(t.done, true)
	case !t.told:
		t.line(t.done)
	}
}

// line says how far the task is, of a size that is known by now.
func (t *Task) line(total int64) {
	t.told = t.done == total
	took := time.Since(t.started)
	if total == 0 {
		t.d.Note("%-14s 0 %s after %s", t.name, t.unit, took.Round(time.Millisecond))
		return
	}
	left := ""
	if t.done > 0 && t.done < total {
		left = fmt.Sprintf(", about %s left", time.Duration(float64(took)*float64(total-t.done)/float64(t.done)).Round(time.Second))
	}
	t.d.Note("%-14s %s of %s %s after %s%s", t.name, Thousands(t.done), Thousands(total), t.unit, took.Round(time.Millisecond), left)
}

// Abort leaves a task where it is.
func (t *Task) Abort() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	t.ended = true
	if t.bar != nil {
		t.bar.Abort(false)
	}
}

// Thousands writes 20000 as 20,000.
func Thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	first := 0
	if n < 0 {
		first = 1 // behind the sign
	}
	for i := len(s) - 3; i > first; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
