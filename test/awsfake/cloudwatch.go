package awsfake

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"originchain/test/awsfake/model"
)

// What PutMetricData takes of a timestamp: older and newer ones are refused.
const (
	maxMetricAge   = 14 * 24 * time.Hour
	maxMetricAhead = 2 * time.Hour
)

// CloudWatch is Amazon CloudWatch: metrics that are put, and the state of alarms.
type CloudWatch struct {
	*service
	data   []Datum
	alarms []Alarm
}

// Datum is one value of a metric, or as many as Count says.
type Datum struct {
	Namespace, Name string
	Dimensions      map[string]string
	Value           float64
	Count           float64
	Unit            string
	At              time.Time
}

// Alarm is an alarm on one metric.
type Alarm struct {
	Name, State, Reason string
	// Since is when it came into the state, Updated when it was last looked at.
	Since, Updated time.Time
}

func newCloudWatch(f *Fake) *CloudWatch {
	c := &CloudWatch{}
	c.service = f.serve("cloudwatch", "monitoring", map[string]operation{"PutMetricData": c.putMetricData, "DescribeAlarms": c.describeAlarms})
	return c
}

// Data is all that was put, in its order.
func (c *CloudWatch) Data() []Datum {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.data)
}

// Set makes an alarm, or changes its state: OK, ALARM or INSUFFICIENT_DATA.
func (c *CloudWatch) Set(name, state, reason string) { c.set(name, state, reason) }

// set is Set, and says since when the alarm is in its state: to a millisecond, as the
// service has it.
func (c *CloudWatch) set(name, state, reason string) (since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now().UTC().Truncate(time.Millisecond)
	a := Alarm{name, state, reason, now, now}
	for i, there := range c.alarms {
		if there.Name == name {
			if there.State == state {
				a.Since = there.Since
			}
			c.alarms[i] = a
			return a.Since
		}
	}
	c.alarms = append(c.alarms, a)
	slices.SortFunc(c.alarms, func(a, b Alarm) int { return strings.Compare(a.Name, b.Name) })
	return a.Since
}

// putMetricData takes a request whole, or not at all.
func (c *CloudWatch) putMetricData(in model.Struct) (model.Struct, error) {
	list, _ := in["MetricData"].([]any)
	if len(list) == 0 {
		return nil, refuse("MissingParameter", "The parameter MetricData is required.")
	}
	var taken []Datum
	for _, item := range list {
		m := item.(model.Struct)
		if m["StatisticValues"] != nil {
			c.fake.t.Errorf("StatisticValues are not served here")
		}
		d := Datum{Namespace: text(in, "Namespace"), Name: text(m, "MetricName"), Unit: text(m, "Unit"), Dimensions: map[string]string{}, At: time.Now().UTC()}
		if at, ok := m["Timestamp"].(time.Time); ok {
			d.At = at
		}
		if age := time.Since(d.At); age > maxMetricAge || age < -maxMetricAhead {
			return nil, refuse("InvalidParameterValue", "The parameter MetricData.member.Timestamp must specify a time within the past two weeks.")
		}
		dimensions, _ := m["Dimensions"].([]any)
		for _, dim := range dimensions {
			d.Dimensions[text(dim.(model.Struct), "Name")] = text(dim.(model.Struct), "Value")
		}
		if len(d.Dimensions) != len(dimensions) {
			return nil, refuse("InvalidParameterValue", "A dimension of %s comes twice.", d.Name)
		}
		values, counts, err := metricValues(m)
		if err != nil {
			return nil, err
		}
		for i, v := range values {
			if d.Value, d.Count = v, counts[i]; math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, refuse("InvalidParameterValue", "The value %v of %s is not supported.", v, d.Name)
			}
			taken = append(taken, d)
		}
	}
	c.data = append(c.data, taken...)
	return nil, nil
}

// metricValues are those of one datum: Value, or Values with their Counts.
func metricValues(m model.Struct) (values, counts []float64, err error) {
	one, single := m["Value"].(float64)
	many, several := m["Values"].([]any)
	if single == several {
		return nil, nil, refuse("InvalidParameterCombination", "A datum has Value, or Values, and not both.")
	}
	if single {
		return []float64{one}, []float64{1}, nil
	}
	given, counted := m["Counts"].([]any)
	if counted && len(given) != len(many) {
		return nil, nil, refuse("InvalidParameterValue", "Values and Counts must have the same length.")
	}
	for i, v := range many {
		values, counts = append(values, v.(float64)), append(counts, 1)
		if counted {
			counts[i], _ = given[i].(float64)
		}
	}
	return values, counts, nil
}

// defaultAlarms is how many alarms a page has if nobody says.
const defaultAlarms = 50

func (c *CloudWatch) describeAlarms(in model.Struct) (model.Struct, error) {
	names, byName := in["AlarmNames"].([]any)
	prefix, state := text(in, "AlarmNamePrefix"), text(in, "StateValue")
	var found []any
	for _, a := range c.alarms {
		if byName && !slices.Contains(names, any(a.Name)) || !strings.HasPrefix(a.Name, prefix) || state != "" && a.State != state {
			continue
		}
		found = append(found, model.Struct{
			"AlarmName": a.Name, "AlarmArn": "arn:aws:cloudwatch:" + Region + ":" + Account + ":alarm:" + a.Name,
			"StateValue": a.State, "StateReason": a.Reason, "StateUpdatedTimestamp": a.Updated,
		})
	}
	from := 0
	if token := text(in, "NextToken"); token != "" {
		n, err := strconv.Atoi(token)
		if err != nil || n > len(found) {
			return nil, refuse("InvalidNextToken", "The token is none of this service's.")
		}
		from = n
	}
	most, ok := in["MaxRecords"].(int64)
	if !ok {
		most = defaultAlarms
	}
	out := model.Struct{}
	found = found[from:]
	if int64(len(found)) > most {
		found, out["NextToken"] = found[:most], strconv.Itoa(from+int(most))
	}
	out["MetricAlarms"] = append([]any{}, found...)
	return out, nil
}

// text is a member that is a string, or "".
func text(s model.Struct, name string) string {
	v, _ := s[name].(string)
	return v
}
