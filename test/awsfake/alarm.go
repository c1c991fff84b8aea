package awsfake

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/google/uuid"
)

// MetricAlarm is an alarm that the fake evaluates by itself, from what was put.
type MetricAlarm struct {
	Name, Namespace, Metric, Statistic, Comparison, Missing string
	Dimensions                                              map[string]string
	Threshold                                               float64
	Period                                                  time.Duration
	Periods                                                 int
}

// evaluateEvery is how often an alarm is evaluated: as an alarm of high resolution is.
const evaluateEvery = 10 * time.Second

// Evaluate has an alarm evaluated until the test ends; changed is given the event of each
// change of its state, of the form that EventBridge has it in.
func (c *CloudWatch) Evaluate(a MetricAlarm, changed func(event []byte)) {
	state := "INSUFFICIENT_DATA"
	c.Set(a.Name, state, "Unchecked: Initial alarm creation")
	c.fake.work.Go(func() {
		tick := time.NewTicker(evaluateEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-c.fake.ctx.Done():
				return
			}
			now, why := c.evaluate(&a, time.Now())
			if now == "" || now == state {
				continue
			}
			event, err := stateChange(&a, state, now, why, c.set(a.Name, now, why))
			if err != nil {
				c.fake.t.Error(err)
				return
			}
			state = now
			changed(event)
		}
	})
}

// rangeBehind is how many periods the service looks back further than an alarm asks for,
// before it takes one for missing. It says only that it does.
const rangeBehind = 2

// evaluate is the state of an alarm by its last whole periods that have data, within its
// range; "" keeps the one it has.
func (c *CloudWatch) evaluate(a *MetricAlarm, now time.Time) (state, why string) {
	end := now.Truncate(a.Period)
	breaching, missing := 0, a.Periods
	for i := 0; i < a.Periods+rangeBehind && missing > 0; i++ {
		to := end.Add(-time.Duration(i) * a.Period)
		value, ok := c.statistic(a, to.Add(-a.Period), to)
		if !ok {
			continue
		}
		missing--
		if a.breaches(value) {
			breaching++
		}
	}
	if a.Missing == "breaching" {
		breaching += missing
	}
	switch {
	case breaching == a.Periods:
		return "ALARM", fmt.Sprintf("Threshold Crossed: %d of the last %d periods, %d of them without data.", breaching, a.Periods, missing)
	case missing == a.Periods && a.Missing == "missing":
		return "INSUFFICIENT_DATA", "Insufficient Data"
	case missing == a.Periods && a.Missing == "ignore":
		return "", ""
	}
	return "OK", fmt.Sprintf("Threshold Crossed: %d of the last %d periods.", breaching, a.Periods)
}

// statistic is that of an alarm over a period; false where nothing was put.
func (c *CloudWatch) statistic(a *MetricAlarm, from, to time.Time) (value float64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.data {
		if d.Namespace != a.Namespace || d.Name != a.Metric || !maps.Equal(d.Dimensions, a.Dimensions) || d.At.Before(from) || !d.At.Before(to) {
			continue
		}
		switch {
		case a.Statistic == "Sum":
			value += d.Value * d.Count
		case a.Statistic == "Maximum" && (!ok || d.Value > value), a.Statistic == "Minimum" && (!ok || d.Value < value):
			value = d.Value
		case a.Statistic != "Maximum" && a.Statistic != "Minimum":
			c.fake.t.Errorf("the statistic %s is not served here", a.Statistic)
		}
		ok = true
	}
	return value, ok
}

func (a *MetricAlarm) breaches(value float64) bool {
	switch a.Comparison {
	case "GreaterThanThreshold":
		return value > a.Threshold
	case "GreaterThanOrEqualToThreshold":
		return value >= a.Threshold
	case "LessThanThreshold":
		return value < a.Threshold
	}
	return value <= a.Threshold
}

// stateChange is the event of a change.
func stateChange(a *MetricAlarm, from, to, why string, at time.Time) ([]byte, error) {
	type object = map[string]any
	arn := "arn:aws:cloudwatch:" + Region + ":" + Account + ":alarm:" + a.Name
	when := strings.Replace(at.Format("2006-01-02T15:04:05.000Z07:00"), "Z", "+0000", 1)
	return json.Marshal(object{
		"version": "0", "id": uuid.NewString(), "detail-type": "CloudWatch Alarm State Change", "source": "aws.cloudwatch",
		"account": Account, "region": Region, "time": at.Format(time.RFC3339), "resources": []string{arn},
		"detail": object{
			"alarmName":     a.Name,
			"previousState": object{"value": from, "timestamp": when},
			"state":         object{"value": to, "reason": why, "reasonData": "{}", "timestamp": when},
			"configuration": object{"metrics": []any{object{"id": uuid.NewString(), "returnData": true, "metricStat": object{
				"metric": object{"namespace": a.Namespace, "name": a.Metric, "dimensions": a.Dimensions}, "period": int(a.Period / time.Second), "stat": a.Statistic}}}},
		},
	})
}
