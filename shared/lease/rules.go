package lease

import (
	"errors"
	"fmt"
	"slices"

	"originchain/shared/lsn"
)

// Errors of the rules, beside FencedError and RefusedError.
var (
	// ErrOtherInstance: the record and the data directory are of two instances.
	ErrOtherInstance = errors.New("the lease record is of another instance")
	// ErrUnconfirmed: the epoch must be confirmed first.
	ErrUnconfirmed = errors.New("the epoch is not confirmed")
	// ErrConfirmed: the epoch was confirmed before.
	ErrConfirmed = errors.New("the epoch is confirmed already")
	// ErrCommitFalls: a renewal names a commit LSN below the recorded one.
	ErrCommitFalls = errors.New("the commit LSN would fall")
	// ErrNotMember: the holder can be no follower of itself, or the id is not valid.
	ErrNotMember = errors.New("this node cannot be in the set")
	// ErrSetFull: the in-sync set would have more than MaxMembers nodes.
	ErrSetFull = errors.New("the in-sync set has no room")
)

// Claim is who wants to change the record, and as the holder of which epoch.
type Claim struct {
	Node  string
	Epoch lsn.Epoch
}

// FencedError says that the record is no longer the caller's, which must
// acknowledge nothing more in its epoch.
type FencedError struct {
	By Claim
	// Holder and Epoch are who holds the record now, URL where it serves clients.
	Holder string
	Epoch  lsn.Epoch
	URL    string
	// Released: the epoch was given up, by the caller or its supervisor.
	Released bool
}

// Error implements error.
func (e *FencedError) Error() string {
	if e.Holder == e.By.Node && e.Epoch == e.By.Epoch {
		return fmt.Sprintf("fenced: epoch %d of %s was released", e.Epoch, e.Holder)
	}
	return fmt.Sprintf("fenced: %s has epoch %d, and %s holds epoch %d (%s)", e.By.Node, e.By.Epoch, e.Holder, e.Epoch, e.URL)
}

// RefusedError says that the node may not open, and why.
type RefusedError struct{ Verdict Verdict }

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("may not open as writer (%s): %s; %s", e.Verdict.Reason, e.Verdict.Detail, e.Verdict.remedy())
}

// Candidate is the node that is to hold the next epoch.
type Candidate struct {
	// Instance is the ULID of the instance its data directory belongs to.
	Instance string
	Node     string
	// ReplicationAddress and URL are where it will serve, as in Record.
	ReplicationAddress string
	URL                string
	// Place is where its data directory is, as in Record.
	Place string
	// Last is where its durable log ends; zero for an empty log. When another
	// process takes the record on the node's behalf it may end later by the time
	// the node opens, which Confirm puts right.
	Last lsn.Pos
	// AtLeast is the highest epoch known elsewhere: to the data directory, the log
	// and the archive. The new epoch is above it.
	AtLeast lsn.Epoch
	// AcceptLoss lets a node open that may not, and gives up what AtRisk says.
	// The line becomes that of its log, and what the log holds counts as
	// acknowledged. It does not make a writer of an empty log.
	AcceptLoss bool
}

// Take is the first compare-and-set of an epoch: it names the next epoch and the
// node that holds it, before that node's first append. From then on the node follows
// no stream of a lower epoch, across restarts too. The new epoch inherits who
// is eligible: the previous holder and its set, or, if that epoch was never
// confirmed, whoever was eligible then. On the zero Record it starts the lease of
// an instance; what the log holds by then counts as acknowledged.
//
// It fails with RefusedError and ErrOtherInstance.
func (r Record) Take(c Candidate) (Record, error) {
	if r.Epoch != 0 && r.Instance != c.Instance {
		return Record{}, fmt.Errorf("%w: %s, not %s", ErrOtherInstance, r.Instance, c.Instance)
	}
	verdict := r.MayOpen(c.Node, c.Last)
	if verdict.Decision != Open && (!c.AcceptLoss || (c.Last.LSN == 0 && !r.beganEmpty())) {
		return Record{}, &RefusedError{verdict}
	}
	next := r.clone()
	next.Instance = c.Instance
	if r.Epoch == 0 || verdict.Decision != Open {
		// Not min: a node that was in no set may follow a stale leader before it opens,
		// and would lose more than was accepted.
		next.CommitLSN = c.Last.LSN
		next.rebase(c.Last)
	}
	if r.Confirmed() {
		next.Eligible, next.InSync = set(append(next.InSync, r.Holder)), nil
	}
	next.Epoch = max(r.Epoch, c.AtLeast, c.Last.Epoch) + 1
	next.Holder, next.ReplicationAddress, next.URL, next.Place, next.Released = c.Node, c.ReplicationAddress, c.URL, c.Place, false
	next.Line = append(next.Line, Opening{Epoch: next.Epoch, FirstLSN: c.Last.LSN + 1, Parent: c.Last.Epoch})
	if len(next.Line) > MaxLine {
		oldest := 0
		if next.Line[0].Epoch == next.ConfirmedEpoch {
			oldest = 1
		}
		next.Line = slices.Delete(next.Line, oldest, oldest+1)
	}
	return next, nil
}

// Given says that the record was taken on a node's behalf and nobody has opened it
// yet: the node has no lease of a former self to wait for.
func (r Record) Given(node string) bool {
	return r.Holder == node && r.Epoch != 0 && !r.Confirmed() && !r.Released && r.Place == ""
}

// Adopted says that the holder has a process that opens the record's epoch, or has opened it.
func (r Record) Adopted() bool { return r.Epoch != 0 && r.Place != "" && !r.Released }

// Adopt is how a node opens in an epoch that was taken on its behalf, in place of
// Take: it says where it is, which only one can. It fails with RefusedError, with
// ErrOtherInstance, and where the record was not given so.
func (r Record) Adopt(c Candidate) (Record, error) {
	switch {
	case r.Instance != c.Instance:
		return Record{}, fmt.Errorf("%w: %s, not %s", ErrOtherInstance, r.Instance, c.Instance)
	case !r.Given(c.Node) || c.Place == "":
		return Record{}, fmt.Errorf("epoch %d of %s is not given to %s at %q", r.Epoch, r.Holder, c.Node, c.Place)
	}
	if v := r.MayOpen(c.Node, c.Last); v.Decision != Open {
		return Record{}, &RefusedError{v}
	}
	next := r.clone()
	next.ReplicationAddress, next.URL, next.Place = c.ReplicationAddress, c.URL, c.Place
	// Whoever took it saw the log a moment earlier.
	next.Line[len(next.Line)-1] = Opening{Epoch: r.Epoch, FirstLSN: c.Last.LSN + 1, Parent: c.Last.Epoch}
	return next, nil
}

// HandOver is a planned switchover as one compare-and-set: the holder, which decides
// nothing any more and has acknowledged everything up to commit, gives the next epoch
// to a follower that has all of that durable. It must be in the in-sync set; with alone,
// which says that acknowledgements wait for nobody, the holder's word stands in for that.
// Nobody waits for a lease then: the record is given (Given).
//
// It fails with FencedError, ErrUnconfirmed, ErrNotMember, and as Take does.
func (r Record) HandOver(by Claim, c Candidate, commit lsn.LSN, alone bool) (Record, error) {
	if err := r.fence(by); err != nil {
		return Record{}, err
	}
	if !r.Confirmed() {
		return Record{}, fmt.Errorf("%w: %d", ErrUnconfirmed, r.Epoch)
	}
	if err := r.joinable(c.Node); err != nil {
		return Record{}, err
	}
	next, err := r.Renew(by, max(commit, r.CommitLSN))
	if err == nil && alone {
		next, err = next.Enter(by, c.Node)
	}
	if err != nil {
		return Record{}, err
	}
	c.Place, c.AcceptLoss = "", false
	return next.Take(c)
}

// rebase cuts the line to what a log that ends at last shares with it.
func (r *Record) rebase(last lsn.Pos) {
	if r.onLine(last) {
		return
	}
	i := slices.IndexFunc(r.Line, func(o Opening) bool { return o.Epoch == last.Epoch })
	if i < 0 || last.Epoch > r.ConfirmedEpoch || last.LSN < r.Line[i].FirstLSN {
		r.Line, r.ConfirmedEpoch = nil, 0
		return
	}
	r.Line, r.ConfirmedEpoch = r.Line[:i+1], last.Epoch
}

// Confirm is the second compare-and-set of an epoch, after full recovery and
// before its first acknowledgement or visible frame. last is where the log ended
// when the epoch's first frame was appended behind it. inSync are the followers
// that acknowledgements wait for from now on; each has all of the log up to last
// durable, since any of it may have been acknowledged. replicas is SyncReplicas.
//
// It fails with FencedError, ErrConfirmed, ErrNotMember, and with RefusedError if
// a log that ends at last may not open; and with ErrSetFull.
func (r Record) Confirm(by Claim, last lsn.Pos, inSync []string, replicas int) (Record, error) {
	if err := r.fence(by); err != nil {
		return Record{}, err
	}
	if r.Confirmed() {
		return Record{}, fmt.Errorf("%w: %d", ErrConfirmed, r.Epoch)
	}
	if v := r.MayOpen(r.Holder, last); v.Decision != Open {
		return Record{}, &RefusedError{v}
	}
	members := set(slices.Clone(inSync))
	if len(members) > MaxMembers {
		return Record{}, fmt.Errorf("%w: %d nodes", ErrSetFull, len(members))
	}
	for _, node := range members {
		if err := r.joinable(node); err != nil {
			return Record{}, err
		}
	}
	next := r.clone()
	next.ConfirmedEpoch, next.InSync, next.Eligible, next.SyncReplicas = r.Epoch, members, nil, replicas
	next.Line[len(next.Line)-1] = Opening{Epoch: r.Epoch, FirstLSN: last.LSN + 1, Parent: last.Epoch}
	next.Line = ancestry(next.Line)
	return next, nil
}

// ancestry returns the last opening and those it descends from.
func ancestry(line []Opening) (kept []Opening) {
	want := line[len(line)-1].Epoch
	for _, o := range slices.Backward(line) {
		if o.Epoch == want {
			kept, want = append(kept, o), o.Parent
		}
	}
	slices.Reverse(kept)
	return kept
}

// Enter puts a follower into the in-sync set. Acknowledgements wait for it
// already, and it has everything acknowledged so far durable. A member stays one.
// It fails with FencedError, ErrUnconfirmed, ErrNotMember and ErrSetFull.
func (r Record) Enter(by Claim, follower string) (Record, error) {
	if err := r.fence(by); err != nil {
		return Record{}, err
	}
	if !r.Confirmed() {
		return Record{}, fmt.Errorf("%w: %d", ErrUnconfirmed, r.Epoch)
	}
	if err := r.joinable(follower); err != nil {
		return Record{}, err
	}
	next := r.clone()
	next.InSync = set(append(next.InSync, follower))
	if len(next.InSync) > MaxMembers {
		return Record{}, fmt.Errorf("%w: %d nodes", ErrSetFull, len(next.InSync))
	}
	return next, nil
}

// Leave takes a follower out of the in-sync set, before an acknowledgement that
// does not wait for it; and out of those eligible. A node of either that comes back
// and could not open (MayOpen) has lost frames. It leaves before it is streamed to,
// or it would soon have enough to pass for one that has everything acknowledged.
// A node that is in neither is no error. It fails with FencedError.
func (r Record) Leave(by Claim, follower string) (Record, error) {
	if err := r.fence(by); err != nil {
		return Record{}, err
	}
	is := func(node string) bool { return node == follower }
	next := r.clone()
	next.InSync = set(slices.DeleteFunc(next.InSync, is))
	next.Eligible = set(slices.DeleteFunc(next.Eligible, is))
	return next, nil
}

// Renew is the holder's heartbeat. commit is the highest LSN it may acknowledge;
// before Confirm that is the recorded one, because nothing of the epoch is.
// It fails with FencedError, ErrCommitFalls and ErrUnconfirmed.
func (r Record) Renew(by Claim, commit lsn.LSN) (Record, error) {
	if err := r.fence(by); err != nil {
		return Record{}, err
	}
	if commit < r.CommitLSN {
		return Record{}, fmt.Errorf("%w: from %d to %d", ErrCommitFalls, r.CommitLSN, commit)
	}
	if commit > r.CommitLSN && !r.Confirmed() {
		return Record{}, fmt.Errorf("%w: epoch %d cannot raise the commit LSN from %d to %d", ErrUnconfirmed, r.Epoch, r.CommitLSN, commit)
	}
	next := r.clone()
	next.CommitLSN = commit
	return next, nil
}

// Release says that the epoch's holder has stopped: after its last answer was
// decided, or by the supervisor that has seen its process end and keeps it from
// starting. commit is what it had acknowledged by then, 0 if that is not known.
// Releasing twice is no error. It fails with FencedError.
func (r Record) Release(by Claim, commit lsn.LSN) (Record, error) {
	next := r.clone()
	next.Released = false
	if err := next.fence(by); err != nil {
		return Record{}, err
	}
	next.Released = true
	if next.Confirmed() {
		next.CommitLSN = max(next.CommitLSN, commit)
	}
	return next, nil
}

// fence fails unless the record is the caller's and not released.
func (r Record) fence(by Claim) error {
	if r.Epoch == 0 || r.Holder != by.Node || r.Epoch != by.Epoch || r.Released {
		return &FencedError{By: by, Holder: r.Holder, Epoch: r.Epoch, URL: r.URL, Released: r.Released}
	}
	return nil
}

// joinable fails for what can be no follower of the holder.
func (r Record) joinable(node string) error {
	if node == r.Holder || !validNode(node) {
		return fmt.Errorf("%w: %q", ErrNotMember, node)
	}
	return nil
}

// set sorts nodes in place, each once, nil if there are none.
func set(nodes []string) []string {
	if len(nodes) == 0 {
		return nil
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}
