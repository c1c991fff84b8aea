package progress

import (
	"bytes"
	"strings"
	"testing"
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
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 20000: "20,000", 1234567: "1,234,567"} {
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
