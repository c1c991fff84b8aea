package archive

import (
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/lsn"
	"originchain/shared/object"
)

// FencedError says that another node is, or was, the writer of what this one took
// for its own: it ships nothing more.
type FencedError struct {
	// Own is the epoch that has ended, Epoch the one that the archive knows above it;
	// they are equal if another history stands under Own.
	Own, Epoch lsn.Epoch
	// Key is the object that says so, Node who created it; "" where it was not read.
	Key, Node string
}

// Error implements error.
func (e *FencedError) Error() string {
	by := ""
	if e.Node != "" {
		by = " of node " + e.Node
	}
	switch {
	case e.Epoch > e.Own:
		return fmt.Sprintf("the archive has epoch %d%s (%s): the writer of epoch %d has been superseded; follow the newer one", e.Epoch, by, e.Key, e.Own)
	case e.Epoch < e.Own:
		return fmt.Sprintf("the archive's newest is epoch %d%s (%s), and the log of this node has reached epoch %d without it: two nodes have written; stop this one and let it follow the other", e.Epoch, by, e.Key, e.Own)
	}
	return fmt.Sprintf("%s holds another history of epoch %d than this node's: two nodes have written it; stop this one and let it follow the other", e.Key, e.Own)
}

// BehindError says that the archive has frames of a log's last epoch that the log has
// not: who began a new epoch behind it would give them up.
type BehindError struct {
	Store string
	// Last is where the log ends, Has the last frame of that epoch in the archive.
	Last lsn.Pos
	Has  lsn.LSN
}

// Error implements error.
func (e *BehindError) Error() string {
	return fmt.Sprintf("the log of this node ends at LSN %d, and %s has the frames of epoch %d up to LSN %d: this is an older copy of the data, or has lost its end, and no writer; "+
		"take what is there with oc-pitr restore --latest and oc-pitr accept, or start this node as a follower", e.Last.LSN, e.Store, e.Last.Epoch, e.Has)
}

// DamagedError says that an object is not what its name says, or not readable.
type DamagedError struct {
	Store, Key string
	Err        error
}

// Error implements error.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s in %s is damaged: %v; restore an older version of the object, or remove it if the node that shipped it still has the segment", e.Key, e.Store, e.Err)
}

// Unwrap gives the cause.
func (e *DamagedError) Unwrap() error { return e.Err }

// MissingError says that an object is not there that should be.
type MissingError struct{ Store, Key string }

// Error implements error.
func (e *MissingError) Error() string {
	return fmt.Sprintf("%s is not in %s: it was never shipped, or retention has removed it; list the archive again and take another recovery point", e.Key, e.Store)
}

// ForeignError says that an object, or the archive, is of another instance.
type ForeignError struct {
	Store, Key string
	Theirs     ulid.ULID
	Ours       ulid.ULID
}

// Error implements error.
func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s in %s is of instance %s, this is instance %s; give each instance an archive of its own", e.Key, e.Store, e.Theirs, e.Ours)
}

// RegionError says that the archive is in another region than the node.
type RegionError struct{ Store, Theirs, Ours string }

// Error implements error.
func (e *RegionError) Error() string {
	return fmt.Sprintf("the archive %s belongs to region %q, this node is in %q; use an archive of its own region, or allow it by name with --allow-cross-region", e.Store, e.Theirs, e.Ours)
}

// ConflictError says that an object of an earlier epoch holds another history than
// this node's log: at most one of them happened.
type ConflictError struct{ Store, Key, Want, Got string }

// Error implements error.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s in %s holds another history than this node's log: want %s, got %s; nothing more is shipped: compare both with waldump before either is removed", e.Key, e.Store, e.Want, e.Got)
}

// ClockError says that this machine and the store do not agree on what time it is: by the
// wrong one of the two a retention would remove what is not too old.
type ClockError struct {
	Store        string
	Theirs, Ours time.Time
}

// Error implements error.
func (e *ClockError) Error() string {
	return fmt.Sprintf("it is %s by the clock of %s, and %s by this machine's: one of them is wrong by more than %s, and nothing is removed for its age; set this machine's clock, and start the node again",
		e.Theirs.UTC().Format(time.RFC3339), e.Store, e.Ours.UTC().Format(time.RFC3339), maxClocksApart)
}

// UnpurgedError says that a node holds what a purge has removed from the archive, or may
// hold it: it was not built anew since. It ships nothing more.
type UnpurgedError struct {
	Store string
	// Purges is how many the archive has had, Behind how many the node was built behind.
	Purges, Behind uint64
	// Newest is the record of the newest one.
	Newest string
}

// Error implements error.
func (e *UnpurgedError) Error() string {
	return fmt.Sprintf("%s has had %d purges (%s is the newest), and this node was built behind %d of them: its log and its state may hold rows that were purged, and nothing of it is shipped. Stop it, restore the archive into a new directory with oc-pitr, and destroy this one", e.Store, e.Purges, e.Newest, e.Behind)
}

// StragglerError says that a node has shipped an object past a purge that it was not
// built behind.
type StragglerError struct{ Store, Key string }

// Error implements error.
func (e *StragglerError) Error() string {
	return fmt.Sprintf("%s in %s was shipped past a purge, by a node that was not built anew: it may hold rows that were purged, and does not count. Stop that node, and run the newest purge again with oc-pitr purge --confirm: it erases the object", e.Key, e.Store)
}

// ErrAboveCommit says that a checkpoint holds frames that may yet be taken back.
var ErrAboveCommit = errors.New("the checkpoint stands above the commit LSN")

// ErrSuperseded says that retention has gone past what was just created.
var ErrSuperseded = errors.New("retention has passed this point of the log already")

// permanent reports an error that no retry mends.
func permanent(err error) bool { return Permanent(err) }

// Permanent says that trying again cannot help: somebody else, or a person, must do
// something first.
func Permanent(err error) bool {
	var (
		fenced   *FencedError
		foreign  *ForeignError
		region   *RegionError
		conflict *ConflictError
		newer    *NewerError
		unpurged *UnpurgedError
		behind   *BehindError
		unnoted  *noteError
	)
	return errors.As(err, &unpurged) || errors.As(err, &fenced) || errors.As(err, &behind) || errors.As(err, &unnoted) || errors.As(err, &foreign) || errors.As(err, &region) || errors.As(err, &conflict) || errors.As(err, &newer) ||
		errors.Is(err, ErrSuperseded) || errors.Is(err, ErrIncomplete) || errors.Is(err, object.ErrKey)
}
