// Package embedded publishes metrics of functions: a line of a function's log in CloudWatch's
// embedded metric format becomes them.
package embedded

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Metric is one reading.
type Metric struct {
	Name string
	// Unit is one of CloudWatch's.
	Unit  string
	Value float64
}

// dimension is that of all of them.
const dimension = "Instance"

// Publish writes readings of an instance, or the fault that there was.
func Publish(out io.Writer, namespace, instance string, at time.Time, readings ...Metric) error {
	type (
		metric struct{ Name, Unit string }
		set    struct {
			Namespace  string
			Dimensions [][]string
			Metrics    []metric
		}
		header struct {
			Timestamp         int64
			CloudWatchMetrics []set
		}
	)
	s := set{Namespace: namespace, Dimensions: [][]string{{dimension}}}
	line := map[string]any{dimension: instance}
	for _, r := range readings {
		s.Metrics = append(s.Metrics, metric{r.Name, r.Unit})
		line[r.Name] = r.Value
	}
	line["_aws"] = header{at.UnixMilli(), []set{s}}
	b, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", b)
	return err
}
