// Package cwalarms reads how the alarms of CloudWatch stand.
package cwalarms

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// maxPages bounds how many pages of alarms are read, of 100 each.
const maxPages = 10

// Alarm is how one stands.
type Alarm struct {
	Name  string
	State string
	// Since is when it came into the state.
	Since time.Time
}

// Reader reads alarms.
type Reader struct{ client *cloudwatch.Client }

// New makes a Reader. It sends nothing.
func New(cfg aws.Config) *Reader { return &Reader{cloudwatch.NewFromConfig(cfg)} }

// Named are the metric alarms whose names begin so.
func (r *Reader) Named(ctx context.Context, prefix string) (out []Alarm, err error) {
	in := &cloudwatch.DescribeAlarmsInput{AlarmNamePrefix: &prefix, AlarmTypes: []types.AlarmType{types.AlarmTypeMetricAlarm}, MaxRecords: aws.Int32(100)}
	for range maxPages {
		page, err := r.client.DescribeAlarms(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("read how the alarms %s… stand: %w", prefix, err)
		}
		for i := range page.MetricAlarms {
			a := &page.MetricAlarms[i]
			out = append(out, Alarm{Name: aws.ToString(a.AlarmName), State: string(a.StateValue), Since: since(a)})
		}
		if aws.ToString(page.NextToken) == "" {
			return out, nil
		}
		in.NextToken = page.NextToken
	}
	return nil, fmt.Errorf("there are more than %d alarms named %s…", maxPages*100, prefix)
}

// NoAlarmError says that there is no such alarm.
type NoAlarmError struct{ Name string }

// Error implements error.
func (e *NoAlarmError) Error() string {
	return fmt.Sprintf("there is no alarm %s: deploy it again", e.Name)
}

// One is how the metric alarm of a name stands.
func (r *Reader) One(ctx context.Context, name string) (Alarm, error) {
	out, err := r.client.DescribeAlarms(ctx, &cloudwatch.DescribeAlarmsInput{AlarmNames: []string{name}, AlarmTypes: []types.AlarmType{types.AlarmTypeMetricAlarm}})
	if err != nil {
		return Alarm{}, fmt.Errorf("read how the alarm %s stands: %w", name, err)
	}
	for i := range out.MetricAlarms {
		if a := &out.MetricAlarms[i]; aws.ToString(a.AlarmName) == name {
			return Alarm{Name: name, State: string(a.StateValue), Since: since(a)}, nil
		}
	}
	return Alarm{}, &NoAlarmError{name}
}

// since is when the state began; the service tells it apart from when it looked last.
func since(a *types.MetricAlarm) time.Time {
	if a.StateTransitionedTimestamp != nil {
		return a.StateTransitionedTimestamp.UTC()
	}
	return aws.ToTime(a.StateUpdatedTimestamp).UTC()
}
