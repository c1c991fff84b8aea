package progress

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vbauerster/mpb/v8"
)

// A log must hold lines, not a bar's control codes.
func TestProgressWithoutATerminalIsPlainText(t *testing.T) {
	var out bytes.Buffer
	p := New(&out)
	task := p.Start("demo.flights", "rows", 2000)
	for range 4 {
		task.Add(500)
	}
	p.Close()
	if strings.ContainsAny(out.String(), "\x1b\r") {
		t.Errorf("control codes in %q", out.String())
	}
	if lines := strings.Count(out.String(), "\n"); lines != 5 {
		t.Errorf("want a line at the start and one at each quarter, got:\n%s", &out)
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 20000: "20,000", 1234567: "1,234,567", -5: "-5", -123: "-123", -1234: "-1,234"} {
		if got := Thousands(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

// A size that was an estimate is corrected at the end, whichever way it was wrong.
func TestAnEstimateIsCorrectedAtTheEnd(t *testing.T) {
	for total, want := range map[int64]string{100: "state          40 of 40 keys after ", 10: "state          40 of 40 keys after ", 40: "state          40 of 40 keys after "} {
		var out bytes.Buffer
		d := New(&out)
		task := d.Start("state", "keys", total)
		task.Add(40)
		task.Done()
		d.Close()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if last := lines[len(lines)-1]; !strings.HasPrefix(strings.TrimSpace(last), want) {
			t.Errorf("of %d: %q", total, out.String())
		}
	}
}

// lastLine is what stands there at the end.
func lastLine(out *bytes.Buffer) string {
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// withBars is a Display as on a terminal.
func withBars(out *bytes.Buffer) *Display {
	return &Display{out: out, bars: mpb.New(mpb.WithOutput(out), mpb.WithWidth(48), mpb.WithAutoRefresh())}
}

// both runs a test without a terminal and as on one.
func both(t *testing.T, f func(t *testing.T, bars bool, d *Display, out *bytes.Buffer)) {
	t.Run("lines", func(t *testing.T) {
		var out bytes.Buffer
		f(t, false, New(&out), &out)
	})
	t.Run("bars", func(t *testing.T) {
		var out bytes.Buffer
		f(t, true, withBars(&out), &out)
	})
}

// closes fails the test if Close waits for ever.
func closes(t *testing.T, d *Display) {
	t.Helper()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		d.Close()
	}()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("Close waits for ever")
	}
}

// An estimate that was too low is passed step by step: the task is not done
// before it says so, and ends with what was counted.
func TestATaskThatPassesItsEstimateGoesOn(t *testing.T) {
	for _, total := range []int64{0, 10} {
		both(t, func(t *testing.T, bars bool, d *Display, out *bytes.Buffer) {
			task := d.Start("state", "keys", total)
			for range 4 {
				task.Add(10)
			}
			task.Done()
			closes(t, d)
			want := "state          40 of 40 keys after "
			if bars {
				want = "40 / 40 keys"
			}
			if got := lastLine(out); !strings.Contains(got, want) {
				t.Errorf("of %d: %q, want %q", total, got, want)
			}
		})
	}
}

// A task of nothing ends like any other.
func TestATaskOfNothingEnds(t *testing.T) {
	both(t, func(t *testing.T, bars bool, d *Display, out *bytes.Buffer) {
		d.Start("log", "bytes", 0).Done()
		closes(t, d)
		want := "log            0 bytes after "
		if bars {
			want = "100 % done"
		}
		if got := lastLine(out); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// A command that fails in the middle of a task must not wait for its end.
func TestCloseDoesNotWaitForATaskThatWasLeft(t *testing.T) {
	both(t, func(t *testing.T, _ bool, d *Display, _ *bytes.Buffer) {
		d.Start("log", "bytes", 100).Add(10)
		closes(t, d)
	})
}

func TestATaskEndsOnce(t *testing.T) {
	both(t, func(t *testing.T, bars bool, d *Display, out *bytes.Buffer) {
		task := d.Start("log", "bytes", 100)
		task.Add(10)
		task.Done()
		task.Done()
		task.Add(90)
		task.Abort()
		closes(t, d)
		if !bars && strings.Count(out.String(), "\n") != 2 {
			t.Errorf("want one line at the start and one at the end, got:\n%s", out)
		}
	})
}

func TestTasksAreCountedByManyAtOnce(t *testing.T) {
	const workers, each = 8, 1000
	both(t, func(t *testing.T, bars bool, d *Display, out *bytes.Buffer) {
		task := d.Start("rows", "rows", 1)
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range each {
					task.Add(1)
				}
				d.Note("a worker is done")
			})
		}
		wg.Wait()
		task.Done()
		closes(t, d)
		want := "8,000 of 8,000 rows"
		if bars {
			want = "8000 / 8000 rows"
		}
		if got := lastLine(out); !strings.Contains(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// What is noted when all bars are drawn is not lost.
func TestANoteAfterTheEndIsPrinted(t *testing.T) {
	both(t, func(t *testing.T, _ bool, d *Display, out *bytes.Buffer) {
		closes(t, d)
		d.Note("all of it is there")
		if got := lastLine(out); got != "all of it is there" {
			t.Errorf("%q", got)
		}
	})
}

// lines are those of a task on no terminal, without how long it took.
func lines(total int64, work func(t *Task)) []string {
	var out bytes.Buffer
	d := New(&out)
	t := d.Start("scan", "keys", total)
	work(t)
	t.Done()
	d.Close()
	got := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	for i, l := range got {
		got[i], _, _ = strings.Cut(strings.Join(strings.Fields(l), " "), " after ")
		got[i] = strings.TrimSuffix(got[i], ",")
	}
	return got
}

// TestNoLineSaysNothingOrTheSameTwice: no "0 of 0" where the size is not known, and one
// last line, whatever the last steps were.
func TestNoLineSaysNothingOrTheSameTwice(t *testing.T) {
	step := func(n ...int64) func(*Task) {
		return func(t *Task) {
			for _, n := range n {
				t.Add(n)
			}
		}
	}
	for name, x := range map[string]struct {
		total int64
		work  func(*Task)
		want  []string
	}{
		"nothing, of unknown size": {0, step(), []string{"scan 0 keys"}},
		"of unknown size":          {0, step(999, 1, 2999, 1, 100), []string{"scan 1,000 keys so far", "scan 4,000 keys so far", "scan 4,100 of 4,100 keys"}},
		"to the end":               {4, step(2, 2), []string{"scan 0 of 4 keys", "scan 2 of 4 keys", "scan 4 of 4 keys"}},
		"an empty last step":       {4, step(4, 0), []string{"scan 0 of 4 keys", "scan 4 of 4 keys"}},
		"past the estimate":        {4, step(3, 2, 1), []string{"scan 0 of 4 keys", "scan 3 of 4 keys", "scan 6 of 6 keys"}},
		"short of the estimate":    {8, step(1), []string{"scan 0 of 8 keys", "scan 1 of 1 keys"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lines(x.total, x.work); !slices.Equal(got, x.want) {
				t.Errorf("%q, want %q", got, x.want)
			}
		})
	}
}
