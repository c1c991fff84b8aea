package pitrverify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"

	"originchain/shared/alarms"
	"originchain/shared/lease"
	"originchain/shared/object"
	"originchain/shared/restore"
)

// OfRecord is Streaming of the newest recovery point of the instance that a lease record
// is of.
func OfRecord(leases lease.Store, store object.Store, fs vfs.FS, scratch string, scratchBytes int64) Verify {
	return func(ctx context.Context) (Result, error) {
		rec, ok, err := leases.Load(ctx)
		if err != nil {
			return Result{}, fmt.Errorf("read which instance it is: %w", err)
		}
		instance, err := ulid.ParseStrict(rec.Instance)
		if !ok || err != nil {
			return Result{}, errors.New("there is no lease record, and so no instance whose archive could be verified")
		}
		return Streaming(store, restore.Request{Instance: instance, Latest: true}, fs, scratch, scratchBytes)(ctx)
	}
}

// Publish writes the age as CloudWatch reads metrics from a function's log.
func Publish(out io.Writer, instance string, now func() time.Time) func(age float64) {
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
	return func(age float64) {
		line, err := json.Marshal(map[string]any{
			"_aws":     header{now().UnixMilli(), []set{{alarms.Namespace(instance), [][]string{{"Instance"}}, []metric{{alarms.LastVerifiedAge, "Seconds"}}}}},
			"Instance": instance, alarms.LastVerifiedAge: age,
		})
		if err == nil {
			_, _ = fmt.Fprintf(out, "%s\n", line) // the next call publishes it again
		}
	}
}
