// Package candidate says which node is to take the place of a writer: for oc-control, and
// for the function that a silent instance's alarm calls. Whether it may, package failover
// decides.
package candidate

import (
	"errors"
	"slices"

	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// Standing is what was last heard of a node.
type Standing struct {
	// Answers: it did the last time it was asked.
	Answers bool
	// Failing: it has said itself that its log takes no writes.
	Failing bool
	// Durable is where its log ends.
	Durable lsn.Pos
}

// Best is the node that goes furthest of those that answer and are not the holder; those
// that the record entitles come first, and of those the ones that are Able. Who is not, and
// goes furthest, is worth to be waited for.
func Best(rec lease.Record, nodes []failover.Node, of func(id string) Standing) (best failover.Node, ok bool) {
	further := func(a, b failover.Node) bool {
		x, y := of(a.ID), of(b.ID)
		switch {
		case Member(rec, a.ID) != Member(rec, b.ID):
			return Member(rec, a.ID)
		case Able(rec, a.ID, x) != Able(rec, b.ID, y):
			return Able(rec, a.ID, x)
		case x.Durable.Epoch != y.Durable.Epoch:
			return x.Durable.Epoch > y.Durable.Epoch
		case x.Durable.LSN != y.Durable.LSN:
			return x.Durable.LSN > y.Durable.LSN
		}
		return y.Failing && !x.Failing
	}
	for _, n := range nodes {
		if n.ID != rec.Holder && of(n.ID).Answers && (!ok || further(n, best)) {
			best, ok = n, true
		}
	}
	return best, ok
}

// Able says whether a node can take the next epoch now, and lacks nothing that was acknowledged:
// the record entitles it, its log reaches as far as that says, and takes writes.
func Able(rec lease.Record, node string, s Standing) bool {
	return s.Answers && !s.Failing && Member(rec, node) && rec.MayOpen(node, s.Durable).Decision == lease.Open
}

// Hangs says whether the record gives its epoch to a node that answers, has not opened it, and
// whose log takes no writes. It may at any moment, and would open then: nobody is to be asked to
// give up what others lack, but who is Able, or was stopped for it, may go on.
func Hangs(rec lease.Record, holder Standing) bool {
	return rec.Epoch != 0 && !rec.Confirmed() && !rec.Released && holder.Answers && holder.Failing
}

// Member says whether the record entitles a node: it is in the set, or was when the epoch
// was taken.
func Member(rec lease.Record, node string) bool {
	return slices.Contains(rec.InSync, node) || slices.Contains(rec.Eligible, node)
}

// Left says that a failover that is under way has been given the record for its target, which
// has not confirmed it: whoever was to have it opened may be gone. The target is the holder
// then, whom Best has not, and with one follower nobody else is left.
func Left(rec lease.Record, run failover.Run) bool {
	return rec.Epoch != 0 && !rec.Confirmed() && run.To == rec.Holder && !run.Done && !run.Failed
}

// OrBegun has a target become the writer, or another node that somebody has begun to
// promote: whoever that was may have been killed, and nobody else would come to finish it.
// Of that one begun is true: what was approved for the target is nothing to it.
func OrBegun(target string, promote func(to string, begun bool) error) error {
	err := promote(target, false)
	var begun *failover.OtherRunError
	if errors.As(err, &begun) && begun.To != target {
		if finished := promote(begun.To, true); finished != nil {
			return errors.Join(finished, err)
		}
		return nil
	}
	return err
}
