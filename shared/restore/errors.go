package restore

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"originchain/shared/lsn"
	"originchain/shared/object"
	recovery "originchain/shared/recover"
)

// Why says why a target cannot be reached.
type Why string

// The reasons.
const (
	// Future: the moment has not come yet.
	Future Why = "future"
	// Before: it is older than what the archive still holds.
	Before Why = "before_the_window"
	// After: the archive does not reach so far.
	After Why = "after_the_window"
	// Gap: frames are missing, there or on the way there from every checkpoint.
	Gap Why = "gap"
	// Nothing: the line has no recovery point at all.
	Nothing Why = "no_recovery_point"
	// NoLine: the archive does not know the epoch.
	NoLine Why = "unknown_epoch"
)

// Point is a frame, as a place to restore to.
type Point struct {
	LSN   lsn.LSN   `json:"lsn"`
	Epoch lsn.Epoch `json:"epoch"`
	Time  time.Time `json:"timestamp"`
	// Wall is what the writer's clock said; zero where only a checkpoint knows the frame.
	Wall time.Time `json:"wall,omitzero"`
}

func (p Point) String() string {
	return fmt.Sprintf("LSN %d (%s)", p.LSN, p.Time.Format(time.RFC3339Nano))
}

// TargetError says that a target cannot be reached, and what can.
type TargetError struct {
	Why   Why       `json:"why"`
	Asked string    `json:"asked"`
	Line  lsn.Epoch `json:"line_epoch"`
	// From and Until are the ends of what is recoverable on the line; nil if nothing is.
	From  *Point `json:"recoverable_from,omitempty"`
	Until *Point `json:"recoverable_until,omitempty"`
	// Below and Above are the nearest points that can be reached.
	Below *Point `json:"nearest_below,omitempty"`
	Above *Point `json:"nearest_above,omitempty"`
	// Missing is an object of an epoch that the line goes back to, and that is not there:
	// what is below it is out of reach.
	Missing string `json:"missing,omitempty"`
	// Lines are the epochs that a line can be asked of, for NoLine.
	Lines []lsn.Epoch `json:"lines,omitempty"`
}

// Error implements error.
func (e *TargetError) Error() string {
	var b strings.Builder
	switch e.Why {
	case NoLine:
		return fmt.Sprintf("the archive knows no epoch %d; oc-pitr list shows its lines, of epochs %v", e.Line, e.Lines)
	case Nothing:
		return fmt.Sprintf("the line of epoch %d has no recovery point: neither LSN 1 nor a checkpoint is in the archive; oc-pitr list shows what is", e.Line)
	case Future:
		fmt.Fprintf(&b, "%s has not come yet", e.Asked)
	case Before:
		fmt.Fprintf(&b, "%s is before everything that the archive still holds", e.Asked)
	case After:
		fmt.Fprintf(&b, "%s is after everything that the archive holds", e.Asked)
	case Gap:
		fmt.Fprintf(&b, "%s cannot be reached, because the archive lacks frames there", e.Asked)
	}
	fmt.Fprintf(&b, "; on the line of epoch %d the archive is recoverable from %s until %s", e.Line, e.From, e.Until)
	var near []string
	for _, p := range []*Point{e.Below, e.Above} {
		if p != nil {
			near = append(near, fmt.Sprintf("--target-lsn %d (%s)", p.LSN, p.Time.Format(time.RFC3339Nano)))
		}
	}
	fmt.Fprintf(&b, "; nearest: %s", strings.Join(near, " or "))
	if e.Missing != "" {
		fmt.Fprintf(&b, "; %s is missing or damaged, and the line is known no further back than that", e.Missing)
	}
	return b.String()
}

// ClockError says that stamps and the machine's clock disagree about where a moment
// is in the log.
type ClockError struct {
	Asked string `json:"asked"`
	// Frame decides the cut, and its stamp and wall time are apart.
	Frame Point `json:"frame"`
	// Stamp and Wall are where the cut is by either; nil where none is to be reached.
	Stamp *Point `json:"by_stamp,omitempty"`
	Wall  *Point `json:"by_wall,omitempty"`
}

// Error implements error.
func (e *ClockError) Error() string {
	candidate := func(p *Point) string {
		if p == nil {
			return "none that can be reached"
		}
		return fmt.Sprintf("LSN %d (stamped %s, wall clock %s)", p.LSN, p.Time.Format(time.RFC3339Nano), p.Wall.Format(time.RFC3339Nano))
	}
	return fmt.Sprintf("the clock of the writer had been stepped at %s: LSN %d is stamped %s, and the wall clock said %s. "+
		"By stamps the target is %s, by the wall clock %s; choose with --target-lsn, or with --clock stamp or --clock wall",
		e.Asked, e.Frame.LSN, e.Frame.Time.Format(time.RFC3339Nano), e.Frame.Wall.Format(time.RFC3339Nano), candidate(e.Stamp), candidate(e.Wall))
}

// NotEmptyError refuses a directory that holds something.
type NotEmptyError struct{ Path, Holds string }

// Error implements error.
func (e *NotEmptyError) Error() string {
	return fmt.Sprintf("%s is not empty, it holds %q: name a directory that does not exist yet, or an empty one; nothing was changed in it", e.Path, e.Holds)
}

// OtherRestoreError says that another restore was begun, and not ended, for the same
// directory.
type OtherRestoreError struct{ Staging, What string }

// Error implements error.
func (e *OtherRestoreError) Error() string {
	return fmt.Sprintf("%s holds a restore that was begun with other arguments (%s): run again with those, or remove it", e.Staging, e.What)
}

// PurgedError says that a copy cannot go on as its instance, because a purge has taken
// rows out of it that the log behind it would count.
type PurgedError struct {
	DataDir string
	LSN     lsn.LSN
}

// Error implements error.
func (e *PurgedError) Error() string {
	return fmt.Sprintf("%s stands at LSN %d, where a purge has taken rows out of the state: the archive's log goes on from a state that had them, so this copy cannot become its history. "+
		"Restore to a point behind the deletion of the rows, or make it an instance of its own with oc-pitr accept --new-instance", e.DataDir, e.LSN)
}

// PassedError says that a purge has come to its end since a copy was made, or begun: it
// may hold the rows.
type PassedError struct {
	// What is the directory, Record that of the newest purge.
	What, Record string
}

// Error implements error.
func (e *PassedError) Error() string {
	return fmt.Sprintf("%s was fetched before a purge (%s), and may hold rows that the archive has no more: destroy it, and restore anew", e.What, e.Record)
}

// DigestError says that what was restored is not what the log says it was.
type DigestError struct {
	LSN  lsn.LSN
	What string
	Want string
	Got  string
}

// Error implements error.
func (e *DigestError) Error() string {
	return fmt.Sprintf("what was restored is not what the log says at LSN %d: %s: want %s, got %s; nothing was put in place. "+
		"Restore to another point, or from another checkpoint by an earlier target, and report this; to have the state as it is say --accept-digest-mismatch, which is recorded",
		e.LSN, e.What, e.Want, e.Got)
}

// digestFault makes a DigestError of what replay and scan say, whose advice is for a
// node that runs.
func digestFault(err error) error {
	var wrong *recovery.MismatchError
	if !errors.As(err, &wrong) {
		return err
	}
	return &DigestError{LSN: wrong.LSN, What: wrong.What, Want: wrong.Want, Got: wrong.Got}
}

// Doubt is why an epoch may be live: what was looked at, and what that cannot say.
type Doubt string

// The doubts.
const (
	ArchiveAlone  Doubt = "only the archive was looked at, which cannot say whether its writer has stopped, because one that is idle ships nothing; the record of who writes can, where the instance has one (--control)"
	NoRecord      Doubt = "there is no record of who writes that says whether it has stopped, and nothing else can"
	RecordBehind  Doubt = "the record of who writes is of an older epoch, and does not say whether this one has stopped"
	RecordForeign Doubt = "the record of who writes has another node for this epoch, and does not say whether this one has stopped"
	RecordHeld    Doubt = "the record of who writes does not say that it has stopped"
	LeaseRenewed  Doubt = "the record of who writes was renewed while it was watched, so its holder runs"
	RecordChanged Doubt = "the record of who writes has changed since the restore was planned, so it was written by somebody whose commits the copy may not have"
	ArchiveGrown  Doubt = "the archive has grown since the restore was planned, so the copy does not have all that it holds; to have that, restore anew into another directory"
	BegunSince    Doubt = "it began while the copy was being accepted"
)

// LiveError says that a copy cannot be accepted without naming the epoch that it ends.
type LiveError struct {
	// Live is the epoch that is, or may be, live; Node what is known of its writer.
	Live lsn.Epoch
	Node string
	// Named is what was named instead; 0 for nothing.
	Named lsn.Epoch
	// Doubt is "" where it is known to have stopped, and another one was named.
	Doubt Doubt
}

// Error implements error.
func (e *LiveError) Error() string {
	what := fmt.Sprintf("epoch %d of node %s may be live, and none was named", e.Live, e.Node)
	if e.Named > 0 {
		what = fmt.Sprintf("epoch %d of node %s is the newest, and epoch %d was named", e.Live, e.Node, e.Named)
	}
	if e.Doubt != "" {
		what += ": " + string(e.Doubt)
	}
	return fmt.Sprintf("%s. What that node has acknowledged beyond the copy, and acknowledges until it meets the copy's epoch, is given up by accepting it. "+
		"Stop the node, see that its process is gone, and run the same command again with --ends-epoch %d", what, e.Live)
}

// NoSpace reports an error that says that a disk is full.
func NoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, object.ErrNoSpace)
}
