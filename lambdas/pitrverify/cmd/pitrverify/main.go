// Pitrverify is the function that verifies recovery points, as far as it has space and
// time for them.
package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"

	"originchain/lambdas/awsenv"
	"originchain/lambdas/documents"
	"originchain/lambdas/pitrverify"
	"originchain/shared/telemetry"
)

func main() {
	awsenv.Main(awsenv.Function{Name: "pitrverify", Needs: []string{awsenv.Instance, awsenv.Leases, awsenv.Registry, awsenv.Archive}, May: []string{awsenv.ScratchBytes}, Open: open})
}

func open(ctx context.Context, e *awsenv.Env, _ *logrus.Logger) (awsenv.Handler, error) {
	reg, err := e.Documents(ctx, awsenv.Registry)
	if err != nil {
		return nil, err
	}
	verify, err := streaming(ctx, e)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	v := pitrverify.New(pitrverify.Deps{Documents: documents.Of(reg), Conflict: documents.Conflict, Verify: pitrverify.Within(verify),
		Now: time.Now, Clock: func() time.Duration { return time.Since(began) }, Metrics: telemetry.NewMetrics()})
	h := pitrverify.NewHandler(v, pitrverify.Publish(os.Stdout, e.Get(awsenv.Instance), time.Now))
	return awsenv.Payload(h.Handle), nil
}

// streaming verifies the newest point of the instance that the lease record is of.
func streaming(ctx context.Context, e *awsenv.Env) (pitrverify.Verify, error) {
	leases, err := e.Lease(ctx)
	if err != nil {
		return nil, err
	}
	store, err := e.Objects(ctx)
	if err != nil {
		return nil, err
	}
	scratch := filepath.Join(os.TempDir(), "originchain-verify")
	return pitrverify.OfRecord(leases, store, vfs.Default, scratch, e.Scratch), nil
}
