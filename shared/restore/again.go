package restore

import (
	"context"
	"errors"
	"time"

	"originchain/shared/archive"
	"originchain/shared/object"
)

// Tries of a read that failed in a way that may pass.
const (
	readTries    = 5
	damagedTries = 3
	firstBackoff = 100 * time.Millisecond
)

// again tries a read until it succeeds, or fails in a way that no further try mends.
// What looks damaged is read again too: it may have been damaged on its way.
func again(ctx context.Context, read func() error) error {
	backoff := firstBackoff
	for try := 1; ; try++ {
		err := read()
		if err == nil || spent(err, try) || ctx.Err() != nil {
			return err
		}
		if err := pause(ctx, backoff); err != nil {
			return err
		}
		backoff *= 2
	}
}

// spent reports an error that is not to be tried again after so many tries.
func spent(err error, tries int) bool {
	var damaged *archive.DamagedError
	return final(err) || tries >= readTries || tries >= damagedTries && errors.As(err, &damaged)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// final reports an error that another try would meet again.
func final(err error) bool {
	var (
		missing *archive.MissingError
		foreign *archive.ForeignError
		newer   *archive.NewerError
	)
	return errors.As(err, &missing) || errors.As(err, &foreign) || errors.As(err, &newer) ||
		errors.Is(err, object.ErrDenied) || errors.Is(err, object.ErrKey) || errors.Is(err, object.ErrNotFound) || errors.Is(err, object.ErrRange) || NoSpace(err) || errors.Is(err, errLocal)
}

// errLocal marks what this machine's disk did: the archive is not to be asked again.
var errLocal = errors.New("write the restored directory")
