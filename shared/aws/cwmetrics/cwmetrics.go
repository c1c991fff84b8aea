// Package cwmetrics puts metrics into CloudWatch, as many in a request as it takes.
package cwmetrics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"

	"originchain/shared/aws/session"
)

// Limits of the service.
const (
	// MaxMetrics is how many metrics one request may have; maxRequestBytes is below what it
	// may have bytes (1 MB), by an estimate that is above the truth.
	MaxMetrics      = 1000
	maxRequestBytes = 900_000
	// MaxValues is how many values a metric may have at one moment.
	MaxValues = 150
)

const (
	// answerTimeout bounds one request; attempts and maxBackoff what the SDK sends again.
	answerTimeout = 5 * time.Second
	attempts      = 3
	maxBackoff    = time.Second
	// resolution is how exactly times are kept, in seconds: alarms have periods of 10 s.
	// standard is what every metric had before there was another.
	resolution = 1
	standard   = 60
)

// Datum is what a metric was at a moment.
type Datum struct {
	Metric     string
	Dimensions map[string]string
	At         time.Time
	Values     []float64
	// Counts says how often each value was; nil: once.
	Counts []float64
	// Standard keeps its time to the minute alone: Route 53 takes alarms of no other metrics
	// for the state of a health check.
	Standard bool
}

// size is more than the datum has bytes in a request.
func (d *Datum) size() int {
	n := 200 + len(d.Metric) + 20*(len(d.Values)+len(d.Counts))
	for k, v := range d.Dimensions {
		n += 50 + len(k) + len(v)
	}
	return n
}

// RefusedError says that the service will never take a request as it is: sent again, it
// would be refused again.
type RefusedError struct{ Err error }

// Error implements error.
func (e *RefusedError) Error() string { return "CloudWatch refuses the metrics: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// Metrics is a namespace of CloudWatch.
type Metrics struct {
	namespace string
	client    *cloudwatch.Client
}

// New returns a namespace. It sends no request.
func New(ctx context.Context, namespace string, c session.Config) (*Metrics, error) {
	c.AnswerTimeout, c.Retryer = answerTimeout, session.Attempts(attempts, maxBackoff)
	loaded, err := session.Load(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("reach CloudWatch: %w", err)
	}
	return &Metrics{namespace: namespace, client: cloudwatch.NewFromConfig(loaded, func(o *cloudwatch.Options) { o.BaseEndpoint = c.Base(o.BaseEndpoint) })}, nil
}

// Put puts all data, in their order, and says how many are in, or were refused with a
// RefusedError for good: those need not be put again. A datum that was put may be put
// again: of an unknown outcome that is so, and its count is then too high.
func (m *Metrics) Put(ctx context.Context, data []Datum) (done int, err error) {
	for done < len(data) {
		n, bytes := 0, 0
		for _, d := range data[done:] {
			if bytes += d.size(); n == MaxMetrics || bytes > maxRequestBytes && n > 0 {
				break
			}
			n++
		}
		refused := m.put(ctx, data[done:done+n])
		var final *RefusedError
		if refused != nil && !errors.As(refused, &final) {
			return done, errors.Join(err, refused)
		}
		done, err = done+n, errors.Join(err, refused)
	}
	return done, err
}

func (m *Metrics) put(ctx context.Context, data []Datum) error {
	in := &cloudwatch.PutMetricDataInput{Namespace: aws.String(m.namespace)}
	for _, d := range data {
		if len(d.Values) == 0 || len(d.Values) > MaxValues || d.Counts != nil && len(d.Counts) != len(d.Values) {
			return &RefusedError{fmt.Errorf("%s has %d values with %d counts, want 1 to %d", d.Metric, len(d.Values), len(d.Counts), MaxValues)}
		}
		datum := types.MetricDatum{MetricName: aws.String(d.Metric), Timestamp: aws.Time(d.At), StorageResolution: aws.Int32(resolution)}
		if d.Standard {
			datum.StorageResolution = aws.Int32(standard)
		}
		if len(d.Values) == 1 && d.Counts == nil {
			datum.Value = aws.Float64(d.Values[0])
		} else {
			datum.Values, datum.Counts = d.Values, d.Counts
		}
		for _, k := range slices.Sorted(maps.Keys(d.Dimensions)) {
			datum.Dimensions = append(datum.Dimensions, types.Dimension{Name: aws.String(k), Value: aws.String(d.Dimensions[k])})
		}
		in.MetricData = append(in.MetricData, datum)
	}
	if _, err := m.client.PutMetricData(ctx, in); err != nil {
		if final(err) {
			return &RefusedError{err}
		}
		return fmt.Errorf("put metrics into CloudWatch: %w", err)
	}
	return nil
}

// final tells what is wrong with a request from what is wrong around it: a right that a
// role lacks can be given.
func final(err error) bool {
	var answer smithy.APIError
	if !errors.As(err, &answer) {
		return false
	}
	return slices.Contains([]string{
		"InvalidParameterValue", "InvalidParameterValueException", "InvalidParameterCombination", "InvalidParameterCombinationException",
		"MissingParameter", "MissingRequiredParameterException", "ValidationError", "ValidationException",
	}, answer.ErrorCode())
}
