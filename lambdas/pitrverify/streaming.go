package pitrverify

import (
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/verification"
)

// Streaming checks all of a recovery point as Full does, without the space of the whole
// state: the checkpoint is read where it is, and only what the log behind it has changed
// is in the scratch directory, scratchBytes at most (0: restore.DefaultScratchBytes).
// Where that is too little nothing is verified. The directory is this function's alone.
func Streaming(store object.Store, req restore.Request, fs vfs.FS, scratch string, scratchBytes int64) Verify {
	return func(ctx context.Context) (_ Result, err error) {
		if err := sweep(fs, scratch); err != nil {
			return Result{}, err
		}
		defer func() { err = errors.Join(err, sweep(fs, scratch)) }()
		var unread []string
		begun := time.Now()
		s, err := restore.Stream(ctx, restore.StreamOptions{
			Store: store, Request: req, FS: fs, Scratch: scratch, ScratchBytes: scratchBytes, Planned: func(p *restore.Plan) { unread = p.Unread() },
		})
		if err != nil {
			return Result{}, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		report, err := verification.RunView(ctx, verification.ViewOptions{View: s, At: s.At})
		// What could not be read is no fault of the state: nothing is said of that then.
		if failed := s.Failed(); failed != nil {
			return Result{}, failed
		}
		at := s.Result(begun)
		result := Result{LSN: uint64(at.LSN), Epoch: uint64(at.Epoch), Faults: report.FoundFaults}
		result.OK = err == nil && report.OK
		result.Full = err == nil && report.Complete && len(unread) == 0
		return result, err
	}
}
