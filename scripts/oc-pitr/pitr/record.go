package pitr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"originchain/lambdas/documents"
	"originchain/lambdas/pitrverify"
	"originchain/shared/registry/registryopen"
	"originchain/shared/telemetry"
)

// verifyAndRecord verifies and keeps how that ended, as the function pitrverify does. The
// instance has to be named: another one's archive says nothing of it.
func (c *command) verifyAndRecord(ctx context.Context, f *verifyFlags) error {
	if c.instance == "" {
		return usage(errors.New("--record goes with --instance-id: the archive of another instance would count as this one's"))
	}
	reg, err := registryopen.Open(ctx, c.FS, f.record)
	if errors.Is(err, registryopen.ErrURL) {
		return usage(fmt.Errorf("--record: %w", err))
	} else if err != nil {
		return fmt.Errorf("--record: %w", err)
	}
	var v verified
	began := time.Now()
	verifier := pitrverify.New(pitrverify.Deps{Documents: documents.Of(reg), Conflict: documents.Conflict, Now: time.Now,
		Clock: func() time.Duration { return time.Since(began) }, Metrics: telemetry.NewMetrics(),
		Verify: func(ctx context.Context) (pitrverify.Result, error) {
			err := c.verify(ctx, f, &v)
			return v.result(err), err
		}})
	// Before the hours that it takes: what cannot be recorded would be in vain.
	if _, err := verifier.Load(ctx); err != nil {
		return fmt.Errorf("nothing was verified: %w", err)
	}
	_, err = verifier.Handle(ctx)
	return err
}

// result is what a verification found, as it is recorded.
func (v *verified) result(err error) pitrverify.Result {
	if v.Restore == nil || v.Contents == nil {
		return pitrverify.Result{}
	}
	return pitrverify.Result{LSN: uint64(v.Restore.LSN), Epoch: uint64(v.Restore.Epoch), Faults: v.Contents.FoundFaults,
		OK: err == nil && v.OK, Full: v.Error == "" && v.Contents.Complete && len(v.Unread) == 0}
}
