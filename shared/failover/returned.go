package failover

import (
	"context"
	"fmt"
	"time"

	"originchain/shared/api"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/registry"
)

// Returned makes the report of the last failover exact, once its old writer is back on the
// new writer's line: until then LostTo is what anybody had heard, and frames that nobody
// had heard of may be lost as well. It says whether it has changed the report.
//
// What the old writer says proves something only if the last frame in its log is of the
// new epoch or above: then whatever is not on the line has been set aside. And only if its
// data directory is the one that it had: made is when that was made (datadir.Made), zero
// where nobody knows. A directory from after the failover knows of no frame that was lost
// with the one before. One that comes back with less than it was heard to have has lost its
// log; nothing is exact then, and the report stays as it is.
func Returned(ctx context.Context, reg registry.Store, rec lease.Record, old api.Replication, made time.Time) (Report, bool, error) {
	r, ok, err := LastFailover(ctx, reg)
	if err != nil || !ok || r.LostExact || old.Node != r.From || old.DurableEpoch < r.Epoch {
		return r, false, err
	}
	if made.IsZero() || !made.Before(r.StartedAt) {
		return r, false, nil
	}
	from, to, ok := lostRange(rec, lsn.Epoch(r.Epoch), old.SetAside)
	if !ok || to < r.LostTo {
		return r, false, nil
	}
	changed := false
	// The journal first: an exact report says that both are.
	err = rewrite(ctx, reg, journalKey, func(now *journal) bool {
		if now.Run != r.Run || now.LostFrom == from && now.LostTo == to {
			return false
		}
		now.LostFrom, now.LostTo = from, to
		return true
	})
	if err != nil {
		return r, false, fmt.Errorf("correct in the journal what was lost: %w", err)
	}
	err = rewrite(ctx, reg, reportKey, func(now *Report) bool {
		if changed = now.Run == r.Run && now.Epoch == r.Epoch && !now.LostExact && to >= now.LostTo; changed {
			now.LostFrom, now.LostTo, now.LostExact = from, to, true
		}
		r = *now
		return changed
	})
	if err != nil {
		return r, false, fmt.Errorf("correct what the last failover lost: %w", err)
	}
	return r, changed, nil
}

// lostRange is what files of an old writer have of its history above the beginning of an
// epoch; 0 and 0 for nothing. It is not ok where the record does not know that epoch any
// more, or a file cannot be read.
//
// A node keeps files of all times. Those of its last history follow one another from the
// beginning of the new epoch on; where two begin at one place, the later epoch is the one
// it had last, as it must have set the other aside before.
func lostRange(rec lease.Record, epoch lsn.Epoch, files []api.SetAside) (from, to uint64, ok bool) {
	var begins lease.Opening
	for _, o := range rec.Line {
		if o.Epoch == epoch && epoch <= rec.ConfirmedEpoch {
			begins = o
		}
	}
	if begins.Epoch == 0 {
		return 0, 0, false
	}
	first := uint64(begins.FirstLSN)
	for next := first; ; next = to + 1 {
		var best api.SetAside
		for _, f := range files {
			if f.Epoch >= uint64(epoch) || f.Epoch < uint64(begins.Parent) || f.Epoch < best.Epoch {
				continue
			}
			if f.LastLSN == 0 {
				return 0, 0, false
			}
			// The first may begin below: of a log that parts further down all is set aside.
			if f.FirstLSN == next || next == first && f.FirstLSN < next && f.LastLSN >= next {
				best = f
			}
		}
		if best.LastLSN < next {
			break
		}
		from, to = first, best.LastLSN
	}
	return from, to, true
}
