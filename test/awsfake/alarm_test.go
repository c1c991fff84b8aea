package awsfake

import (
	"encoding/json"
	"testing"
	"time"
)

// An alarm is evaluated from whole periods, looks back a little for those that have data,
// and takes what is missing behind that as it says.
func TestEvaluate(t *testing.T) {
	f := Start(t)
	a := &MetricAlarm{Name: "acme-silent", Namespace: "OriginChain/acme", Metric: "age", Statistic: "Maximum", Comparison: "GreaterThanThreshold", Missing: "breaching",
		Dimensions: map[string]string{"Instance": "acme"}, Threshold: 3, Period: 10 * time.Second, Periods: 1}
	begin := time.Now().Truncate(time.Minute)
	put := func(second int, value float64, instance string) {
		f.CloudWatch.mu.Lock()
		defer f.CloudWatch.mu.Unlock()
		f.CloudWatch.data = append(f.CloudWatch.data, Datum{Namespace: a.Namespace, Name: a.Metric, Dimensions: map[string]string{"Instance": instance}, Value: value, Count: 1, At: begin.Add(time.Duration(second) * time.Second)})
	}
	put(5, 0.2, "acme")
	put(15, 0.2, "acme")
	put(16, 9, "another")
	for _, c := range []struct {
		second int
		want   string
	}{
		{10, "OK"}, {20, "OK"}, {19, "OK"}, {30, "OK"}, {49, "OK"}, // late readings do nothing
		{50, "ALARM"}, // nothing in its range
	} {
		if got, why := f.CloudWatch.evaluate(a, begin.Add(time.Duration(c.second)*time.Second)); got != c.want {
			t.Errorf("after %d s: %s (%s), want %s", c.second, got, why, c.want)
		}
	}
	put(55, 8, "acme")
	if got, _ := f.CloudWatch.evaluate(a, begin.Add(59*time.Second)); got != "ALARM" {
		t.Errorf("a period that goes on counts: %s", got)
	}
	if got, _ := f.CloudWatch.evaluate(a, begin.Add(time.Minute)); got != "ALARM" {
		t.Errorf("a reading above the threshold: %s", got)
	}
	put(65, 0.1, "acme")
	if got, _ := f.CloudWatch.evaluate(a, begin.Add(70*time.Second)); got != "OK" {
		t.Errorf("it is well again: %s", got)
	}
	for missing, want := range map[string]string{"missing": "INSUFFICIENT_DATA", "ignore": "", "notBreaching": "OK"} {
		a.Missing = missing
		if got, _ := f.CloudWatch.evaluate(a, begin.Add(time.Hour)); got != want {
			t.Errorf("%s: %q, want %q", missing, got, want)
		}
	}
	event, err := stateChange(a, "OK", "ALARM", "why", begin)
	if err != nil {
		t.Fatal(err)
	}
	var e struct {
		Detail struct {
			State struct{ Value, Timestamp string }
		}
	}
	if err = json.Unmarshal(event, &e); err != nil || e.Detail.State.Value != "ALARM" || e.Detail.State.Timestamp == "" {
		t.Errorf("%v: %s", err, event)
	}
}
