package pitr

import (
	"errors"
	"fmt"
	"strings"

	"originchain/shared/archive"
	"originchain/shared/datadir"
	"originchain/shared/frame"
	"originchain/shared/lease"
	"originchain/shared/object"
	"originchain/shared/purge"
	recovery "originchain/shared/recover"
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
	ExitNoBegin   = 16
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
	ExitScratch   = 52
	ExitDigest    = 60
	ExitFaults    = 61
	ExitLive      = 70
	ExitPurged    = 71
	ExitRecord    = 72
	ExitPassed    = 73
	ExitStillLive = 80
	ExitPlan      = 81
	ExitUnfit     = 82
	ExitFound     = 83
)

// exitRow is an exit code and what it says.
type exitRow struct {
	code int
	says string
}

// exitTable has every exit code: --help prints it, and the runbook has what to do.
func exitTable() []exitRow {
	return []exitRow{
		{ExitOK, "done"},
		{ExitFailure, "failed, such as an archive that does not answer, or stopped by a signal: run it again with the same arguments, and it goes on"},
		{ExitUsage, "usage"},
		{ExitFuture, "the target is in the future"},
		{ExitBefore, "the target is before what the archive still holds"},
		{ExitGap, "the target is in a gap, or the line has no recovery point"},
		{ExitAfter, "the target is after what the archive holds"},
		{ExitClock, "the writer's clock had been stepped there: choose with --target-lsn or --clock"},
		{ExitNoLine, "the archive knows no such epoch"},
		{ExitNoBegin, "--checkpoint names no checkpoint that leads to the target"},
		{ExitNotEmpty, "the directory is not empty"},
		{ExitBusy, "another restore, or a server, works in the directory"},
		{ExitNoCopy, "the directory is no restored copy that waits to be accepted, or no data directory"},
		{ExitInstance, "the archive is of another instance"},
		{ExitNoArchive, "there is no archive, or no such bucket"},
		{ExitRegion, "the archive is of another region"},
		{ExitNewer, "written by a newer version"},
		{ExitDamaged, "an object of the archive is damaged: cut short, flipped, or another history"},
		{ExitMissing, "an object of the archive is missing"},
		{ExitForeign, "an object of the archive is of another instance"},
		{ExitDenied, "the store denied access: credentials are missing, wrong or expired"},
		{ExitNoSpace, "no space left"},
		{ExitScratch, "verify --mode streaming: the log changes more than --scratch-bytes may hold"},
		{ExitDigest, "the restored state does not have the digest that its frame carries"},
		{ExitFaults, "verify: faults were found"},
		{ExitLive, "another epoch may be live: stop its node, and name it with --ends-epoch"},
		{ExitPurged, "the copy cannot be accepted: a purge has taken rows out of it"},
		{ExitRecord, "accept: the record of who writes, or the archive, did not take the new epoch"},
		{ExitPassed, "a purge came to its end since the copy was made or begun: restore anew"},
		{ExitStillLive, "purge: the rows, or answers that tell of them, are still in the live state"},
		{ExitPlan, "purge: the plan that was named is not that of the archive as it is"},
		{ExitUnfit, "purge: the archive cannot be purged completely as it is"},
		{ExitFound, "purge --find: files of a node hold the rows"},
	}
}

// exitWidth is where a line of the table is broken.
const exitWidth = 80

// exitCodes is the table as --help prints it.
func exitCodes() string {
	var b strings.Builder
	b.WriteString("Exit codes:")
	for _, r := range exitTable() {
		line := fmt.Sprintf("  %2d ", r.code)
		for word := range strings.FieldsSeq(r.says) {
			if len(line)+1+len(word) > exitWidth {
				b.WriteString("\n" + line)
				line = "     "
			}
			line += " " + word
		}
		b.WriteString("\n" + line)
	}
	return b.String()
}

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
	case errors.Is(err, object.ErrNoStore):
		return ExitNoArchive
	case restore.NoSpace(err):
		return ExitNoSpace
	}
	for _, of := range []func(error) int{targetCode, purgeCode, directoryCode, recordCode, archiveCode} {
		if code := of(err); code != ExitOK {
			return code
		}
	}
	return ExitFailure
}

func targetCode(err error) int {
	var target *restore.TargetError
	var clock *restore.ClockError
	switch {
	case errors.As(err, &clock):
		return ExitClock
	case errors.As(err, new(*restore.CheckpointError)):
		return ExitNoBegin
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

func purgeCode(err error) int {
	var live *purge.LiveError
	var plan *purge.PlanError
	var unfit *purge.UnfitError
	switch {
	case errors.As(err, new(*restore.PassedError)):
		return ExitPassed
	case errors.As(err, &live):
		return ExitStillLive
	case errors.As(err, &plan), errors.Is(err, archive.ErrOvertaken):
		return ExitPlan
	case errors.As(err, &unfit):
		return ExitUnfit
	case errors.Is(err, purge.ErrSelector):
		return ExitUsage
	}
	return ExitOK
}

func directoryCode(err error) int {
	var (
		notEmpty *restore.NotEmptyError
		other    *restore.OtherRestoreError
		digest   *restore.DigestError
		mismatch *recovery.MismatchError
		scratch  *restore.ScratchError
		purged   *restore.PurgedError
	)
	switch {
	case errors.As(err, &notEmpty):
		return ExitNotEmpty
	case errors.As(err, &other), errors.Is(err, datadir.ErrLocked):
		return ExitBusy
	case errors.Is(err, restore.ErrNotRestored), errors.Is(err, datadir.ErrForeign):
		return ExitNoCopy
	case errors.Is(err, datadir.ErrNewer):
		return ExitNewer
	case errors.As(err, &scratch):
		return ExitScratch
	case errors.As(err, &digest), errors.As(err, &mismatch):
		return ExitDigest
	case errors.As(err, &purged):
		return ExitPurged
	}
	return ExitOK
}

// recordCode is of an acceptance: who writes, as the record or the archive has it.
func recordCode(err error) int {
	var (
		live     *restore.LiveError
		fenced   *archive.FencedError
		conflict *lease.ConflictError
		refused  *lease.RefusedError
		ended    *lease.FencedError
		unknown  *lease.OutcomeUnknownError
	)
	switch {
	case errors.As(err, &live):
		return ExitLive
	case errors.Is(err, lease.ErrOtherInstance):
		return ExitInstance
	case errors.Is(err, lease.ErrNewerFormat):
		return ExitNewer
	case errors.As(err, &fenced), errors.As(err, &conflict), errors.As(err, &refused), errors.As(err, &ended), errors.As(err, &unknown):
		return ExitRecord
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
		history *archive.ConflictError
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
	case errors.As(err, &damaged), errors.As(err, &history), errors.Is(err, object.ErrContent):
		return ExitDamaged
	}
	return ExitOK
}
