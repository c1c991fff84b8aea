package lease

import (
	"fmt"
	"math"
	"slices"

	"originchain/shared/lsn"
)

// Decision is what a node that starts, or is to be promoted, does.
type Decision string

// The decisions. The zero value is none of them, and opens nothing.
const (
	// Open: the node may take the record and become the writer.
	Open Decision = "open"
	// Follow: the node follows the holder, whatever its unit says.
	Follow Decision = "follow"
	// Refuse: the node may not open, and there is nobody to follow.
	Refuse Decision = "refuse"
)

// Reason says why a node may not open.
type Reason string

// The reasons.
const (
	// NotEntitled: neither holder nor member of the in-sync set nor eligible.
	NotEntitled Reason = "not_entitled"
	// NoHistory: the log is empty and the instance has a history.
	NoHistory Reason = "no_history"
	// Diverged: the log ends off the record's line, or in an epoch that the record
	// no longer remembers.
	Diverged Reason = "diverged"
	// Behind: the log ends below what may have been acknowledged.
	Behind Reason = "behind"
)

// Verdict is the answer of MayOpen.
type Verdict struct {
	Decision Decision
	// Reason is empty for Open; Detail is a sentence for people.
	Reason Reason
	Detail string
	// Leader is the id of the node to follow, ReplicationAddress its host:port and
	// URL where its clients go; set for Follow only.
	Leader             string
	ReplicationAddress string
	URL                string
}

// MayOpen says whether a node whose durable log ends at last may open as writer.
// On the zero Record any may: whether there was never one is for the caller to know.
// Else it must be the holder, in the in-sync set or eligible, and its log must end on
// the record's line and reach CommitLSN. It does not say that the time has come:
// before another node takes the record, the holder's lease has to run out or be
// released.
//
// The log of a node that stood in the set may hold frames that its successor
// never had. They are off the line once the successor is confirmed, and not
// before: until then nothing was acknowledged on the other side of that fork.
func (r Record) MayOpen(node string, last lsn.Pos) Verdict {
	if r.Epoch == 0 {
		return Verdict{Decision: Open}
	}
	v := Verdict{Decision: Follow, Leader: r.Holder, ReplicationAddress: r.ReplicationAddress, URL: r.URL}
	if node == r.Holder || r.ReplicationAddress == "" {
		v = Verdict{Decision: Refuse}
	}
	switch {
	case node != r.Holder && !slices.Contains(r.InSync, node) && !slices.Contains(r.Eligible, node):
		v.Reason = NotEntitled
		v.Detail = fmt.Sprintf("%s holds epoch %d, and %s is neither in its in-sync set nor eligible", r.Holder, r.Epoch, node)
	case last.LSN == 0 && !r.beganEmpty():
		v.Reason = NoHistory
		v.Detail = fmt.Sprintf("the log of %s is empty, the instance has reached epoch %d", node, r.Epoch)
	case !r.onLine(last):
		v.Reason = Diverged
		v.Detail = fmt.Sprintf("the log of %s ends at %s, which is not on the line of epoch %d", node, last, r.Epoch)
	case last.LSN < r.CommitLSN:
		v.Reason = Behind
		v.Detail = fmt.Sprintf("the log of %s ends at LSN %d, and %d may be acknowledged", node, last.LSN, r.CommitLSN)
	default:
		return Verdict{Decision: Open}
	}
	return v
}

// remedy is what a person can do about a refusal.
func (v Verdict) remedy() string {
	if v.Reason == NoHistory {
		return "start a node that has the data, or restore this one from the archive: an empty directory never becomes the writer of an instance that exists"
	}
	return "start a node that is in the set, or give up what this one lacks by name (accept data loss)"
}

// beganEmpty reports whether an empty log is all there is: the instance began with
// one, and no epoch was ever confirmed.
func (r Record) beganEmpty() bool {
	return r.Epoch == 0 || (r.ConfirmedEpoch == 0 && r.Line[0].Parent == 0)
}

// onLine reports whether a log that ends at p holds only frames of the line of
// the last confirmed epoch, or of branches that were opened since.
func (r Record) onLine(p lsn.Pos) bool {
	known, first, end := r.extent(p.Epoch)
	return p.LSN == 0 || (known && first <= p.LSN && p.LSN <= end)
}

// extent is which LSNs of an epoch are on the line, as far as it is known. An
// epoch ends where a confirmed one begins; one that is not confirmed ends nothing.
func (r Record) extent(epoch lsn.Epoch) (known bool, first, end lsn.LSN) {
	first, end = 1, math.MaxUint64
	for _, o := range r.Line {
		if o.Epoch == epoch {
			known, first = true, o.FirstLSN
		}
		if o.Parent == epoch && epoch != 0 {
			known = true
			if o.Epoch <= r.ConfirmedEpoch {
				end = o.FirstLSN - 1
			}
		}
	}
	return known, first, end
}

// AtRisk returns the committed LSNs, from first to end, both included, that a log
// which ends at last does not hold; none if end < first. They are what
// Candidate.AcceptLoss gives up. Commits since the holder's last renewal come on
// top. Where the record cannot tell how much the log shares with the line, all of
// it is at risk.
func (r Record) AtRisk(last lsn.Pos) (first, end lsn.LSN) {
	known, begin, stop := r.extent(last.Epoch)
	if !known || last.LSN < begin {
		return 1, r.CommitLSN
	}
	return min(last.LSN, stop) + 1, r.CommitLSN
}
