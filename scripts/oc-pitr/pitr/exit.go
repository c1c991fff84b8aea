package pitr

import (
	"errors"

	"originchain/shared/archive"
	"originchain/shared/datadir"
	"originchain/shared/frame"
	"originchain/shared/object"
	"originchain/shared/purge"
	"originchain/shared/restore"
)

// The exit codes.
const (
	ExitOK      = 0
	ExitFailure = 1
	ExitUsage   = 2

	ExitFuture    = 10
	ExitBefore    = 11
	ExitGap       = 12
	ExitAfter     = 13
	ExitClock     = 14
	ExitNoLine    = 15
	ExitNotEmpty  = 20
	ExitBusy      = 21
	ExitNoCopy    = 22
	ExitInstance  = 30
	ExitNoArchive = 31
	ExitRegion    = 32
	ExitNewer     = 33
	ExitDamaged   = 40
	ExitMissing   = 41
	ExitForeign   = 42
	ExitDenied    = 50
	ExitNoSpace   = 51
	ExitDigest    = 60
	ExitFaults    = 61
	ExitLive      = 70
	ExitPurged    = 71
	ExitPassed    = 72
	ExitStillLive = 80
	ExitPlan      = 81
	ExitFound     = 82
)

// exitCodes is the table as --help prints it.
const exitCodes = `Exit codes:
   0  done
   1  failed, such as an archive that does not answer, or stopped by a signal: run
      it again with the same arguments, and it goes on
   2  usage
  10  the target is in the future
  11  the target is before what the archive still holds
  12  the target is in a gap, or the line has no recovery point
  13  the target is after what the archive holds
  14  the writer's clock had been stepped there: choose with --target-lsn or --clock
  15  the archive knows no such epoch
  20  the directory is not empty
  21  another restore, or a server, works in the directory
  22  the directory is no restored copy that waits to be accepted, or no data directory
  30  the archive is of another instance
  31  there is no archive
  32  the archive is of another region
  33  written by a newer version
  40  an object of the archive is damaged: cut short, flipped, or another history
  41  an object of the archive is missing
  42  an object of the archive is of another instance
  50  the store denied access: credentials are missing, wrong or expired
  51  no space left
  60  the restored state does not have the digest that its frame carries
  61  verify: faults were found
  70  another epoch may be live: name it with --ends-epoch
  71  the copy cannot be accepted: a purge has taken rows out of it
  72  a purge came to its end since the copy was made or begun: restore anew
  80  purge: the rows, or answers that tell of them, are still in the live state
  81  purge: the plan that was named is not that of the archive as it is
  82  purge --find: files of a node hold the rows`

// coded is an error that chose its exit code.
type coded struct {
	code int
	error
}

// Unwrap gives the cause to errors.Is and errors.As.
func (c *coded) Unwrap() error { return c.error }

// usage marks a mistake on the command line.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return &coded{ExitUsage, err}
}

// exitCode is the code of a command that ends with err.
func exitCode(err error) int {
	var chosen *coded
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &chosen):
		return chosen.code
	case errors.Is(err, object.ErrURL):
		return ExitUsage
	case errors.Is(err, object.ErrDenied):
		return ExitDenied
	case restore.NoSpace(err):
		return ExitNoSpace
	}
	for _, of := range []func(error) int{targetCode, directoryCode, archiveCode} {
		if code := of(err); code != ExitOK {
			return code
		}
	}
	return ExitFailure
}

func targetCode(err error) int {
	var target *restore.TargetError
	var clock *restore.ClockError
	var live *restore.LiveError
	var purged *restore.PurgedError
	var stillLive *purge.LiveError
	var plan *purge.PlanError
	switch {
	case errors.As(err, &purged):
		return ExitPurged
	case errors.As(err, new(*restore.PassedError)):
		return ExitPassed
	case errors.As(err, &stillLive):
		return ExitStillLive
	case errors.As(err, &plan), errors.Is(err, archive.ErrOvertaken):
		return ExitPlan
	case errors.Is(err, purge.ErrSelector):
		return ExitUsage
	case errors.As(err, &clock):
		return ExitClock
	case errors.As(err, &live):
		return ExitLive
	case errors.As(err, &target):
		switch target.Why {
		case restore.Future:
			return ExitFuture
		case restore.Before:
			return ExitBefore
		case restore.After:
			return ExitAfter
		case restore.NoLine:
			return ExitNoLine
		default:
			return ExitGap
		}
	}
	return ExitOK
}

func directoryCode(err error) int {
	var notEmpty *restore.NotEmptyError
	var other *restore.OtherRestoreError
	var mismatch *restore.DigestError
	switch {
	case errors.As(err, &notEmpty):
		return ExitNotEmpty
	case errors.As(err, &other), errors.Is(err, datadir.ErrLocked):
		return ExitBusy
	case errors.Is(err, restore.ErrNotRestored), errors.Is(err, datadir.ErrForeign):
		return ExitNoCopy
	case errors.Is(err, datadir.ErrNewer):
		return ExitNewer
	case errors.As(err, &mismatch):
		return ExitDigest
	}
	return ExitOK
}

func archiveCode(err error) int {
	var (
		foreign *archive.ForeignError
		missing *archive.MissingError
		region  *archive.RegionError
		newer   *archive.NewerError
		frames  *frame.NewerError
		damaged *archive.DamagedError
	)
	// What names the archive as a whole is told by the object that stands for it.
	whole := archive.InstanceKey{}.String()
	switch {
	case errors.As(err, &foreign):
		if foreign.Key == whole {
			return ExitInstance
		}
		return ExitForeign
	case errors.As(err, &missing):
		if missing.Key == whole {
			return ExitNoArchive
		}
		return ExitMissing
	case errors.As(err, &region):
		return ExitRegion
	case errors.As(err, &newer), errors.As(err, &frames):
		return ExitNewer
	case errors.As(err, &damaged):
		return ExitDamaged
	}
	return ExitOK
}
