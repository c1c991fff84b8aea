package pitrverify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"

	"originchain/lambdas/embedded"
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
	return func(age float64) {
		// The next call publishes it again.
		_ = embedded.Publish(out, alarms.Namespace(instance), instance, now(), embedded.Metric{Name: alarms.LastVerifiedAge, Unit: "Seconds", Value: age})
	}
}
