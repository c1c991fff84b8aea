// Package cwmetrics puts metrics into CloudWatch, as many in a request as it takes.
package cwmetrics

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
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
	// maxValue and minValue are the range of a value that is not 0.
	maxValue = 0x1p360
	minValue = 0x1p-360
)

const (
	// resolution is how exactly times are kept, in seconds: alarms have periods of 10 s.
	resolution = 1
)

// Datum is what a metric was at a moment.
type Datum struct {
	Metric     string
	Dimensions map[string]string
	At         time.Time
	Values     []float64
	// Counts says how often each value was; nil: once.
	Counts []float64
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
		put, refused := m.put(ctx, data[done:done+n])
		done, err = done+put, errors.Join(err, refused)
		var final *RefusedError
		if refused != nil && !errors.As(refused, &final) || put < n {
			return done, err
		}
	}
	return done, err
}

// check says why a datum can never be put.
func (d *Datum) check() error {
	if len(d.Values) == 0 || len(d.Values) > MaxValues || d.Counts != nil && len(d.Counts) != len(d.Values) {
		return fmt.Errorf("%s has %d values with %d counts, want 1 to %d", d.Metric, len(d.Values), len(d.Counts), MaxValues)
	}
	for _, v := range d.Values {
		if math.IsNaN(v) || math.Abs(v) > maxValue || v != 0 && math.Abs(v) < minValue {
			return fmt.Errorf("%s has the value %g, which CloudWatch does not take", d.Metric, v)
		}
	}
	return nil
}

// put sends what fits into one request. One datum that is refused takes no other with it:
// it is left out if that can be told here, and found by halves if the service has refused
// the request it is in. It says how many are done with.
func (m *Metrics) put(ctx context.Context, data []Datum) (done int, err error) {
	good := make([]Datum, 0, len(data))
	for _, d := range data {
		if fault := d.check(); fault != nil {
			err = errors.Join(err, &RefusedError{fault})
			continue
		}
		good = append(good, d)
	}
	if len(good) == 0 {
		return len(data), err
	}
	sent := m.send(ctx, good)
	var final *RefusedError
	switch {
	case sent == nil:
		return len(data), err
	case !errors.As(sent, &final):
		return 0, errors.Join(err, sent)
	case len(data) == 1:
		return 1, errors.Join(err, sent)
	}
	half := len(data) / 2
	done, first := m.put(ctx, data[:half])
	if done < half {
		return done, first
	}
	rest, second := m.put(ctx, data[half:])
	return done + rest, errors.Join(first, second)
}

func (m *Metrics) send(ctx context.Context, data []Datum) error {
	in := &cloudwatch.PutMetricDataInput{Namespace: aws.String(m.namespace)}
	for _, d := range data {
		datum := types.MetricDatum{MetricName: aws.String(d.Metric), Timestamp: aws.Time(d.At), StorageResolution: aws.Int32(resolution)}
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
