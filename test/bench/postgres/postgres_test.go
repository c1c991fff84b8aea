package postgres

import "testing"

func TestRateOfPgbench(t *testing.T) {
	out := "transaction type: insert.sql\nlatency average = 5.233 ms\ninitial connection time = 77.5 ms\ntps = 12230.345 (without initial connection time)\n"
	m := tpsLine.FindStringSubmatch(out)
	if m == nil || m[1] != "12230.345" {
		t.Fatalf("%q", m)
	}
	if tpsLine.MatchString("latency tps = 3 \n") {
		t.Error("a line that does not begin with tps was taken")
	}
}
