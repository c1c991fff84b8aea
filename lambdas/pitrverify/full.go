package pitrverify

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/verification"
)

// Full restores a recovery point into a scratch directory and checks all of it as
// oc-server verify does. The directory is this function's alone: what is in it is
// removed, before and after.
func Full(store object.Store, req restore.Request, fs vfs.FS, scratch string) Verify {
	return func(ctx context.Context) (_ Result, err error) {
		if err := sweep(fs, scratch); err != nil {
			return Result{}, err
		}
		defer func() { err = errors.Join(err, sweep(fs, scratch)) }()
		var unread []string
		restored, err := restore.Run(ctx, restore.Options{Store: store, Request: req, FS: fs, DataDir: scratch, Planned: func(p *restore.Plan) { unread = p.Unread() }})
		if err != nil {
			return Result{}, err
		}
		report, err := verification.Run(ctx, verification.Options{FS: fs, DataDir: scratch})
		result := Result{LSN: uint64(restored.LSN), Epoch: uint64(restored.Epoch)}
		if report != nil {
			result.Faults = report.FoundFaults
			result.OK = restored.Verified && report.OK
			// What documents that cannot be read lead to was not looked at.
			result.Full = err == nil && report.Complete && len(unread) == 0
		}
		return result, err
	}
}

// sweep removes a scratch directory, and what a restore that was broken off has left.
func sweep(fs vfs.FS, scratch string) error {
	for _, dir := range []string{scratch + ".restoring", scratch} {
		if err := fs.RemoveAll(dir); err != nil {
			return fmt.Errorf("the scratch directory cannot be cleared: %w", err)
		}
	}
	return nil
}
