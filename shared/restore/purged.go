package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"originchain/shared/archive"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/table"
)

// settlePurges makes the state at the target what it is without the rows that purges
// have taken out of the log. The rows are not there: what is left to do is to take them
// out of the counters, which frames put as absolute values. The digest to be held
// against is then the one that the frame carries, without the pairs and with the
// counters that stand in the records, and nothing that was found in the state.
//
// It happens once: the batch moves the state's own digest away from the recorded one,
// which was noted before.
func (r *run) settlePurges(s *table.Store, recorded lsn.Digest, at table.Applied) (table.Applied, error) {
	lacks := r.plan.survey.Lacks(at.Pos)
	if len(lacks) == 0 || at.Pos.LSN != r.plan.Target.LSN {
		return at, nil
	}
	w := r.stage.work
	if w.Recorded == nil {
		w.Recorded = &recorded
		if err := r.stage.save(); err != nil {
			return at, err
		}
	}
	if at.Digest != *w.Recorded {
		return at, nil
	}
	ops, digest, err := settled(s, lacks, at)
	if err != nil {
		return at, err
	}
	at.Digest = digest
	b := s.NewBatch()
	for i := range ops {
		if err := b.Add(&ops[i]); err != nil {
			return at, errors.Join(err, b.Close())
		}
	}
	if err := b.Commit(at); err != nil {
		return at, local(err)
	}
	return at, b.Close()
}

// settled are the counters without the purged rows, and the digest that is theirs.
func settled(v table.View, lacks []archive.Lack, at table.Applied) (ops []frame.Op, digest lsn.Digest, err error) {
	counters := map[string]*counting{}
	digest = at.Digest
	for i := range lacks {
		digest = digest.Sub(lacks[i].Delta)
		if err := discount(v, &lacks[i], counters); err != nil {
			return nil, digest, fmt.Errorf("LSN %d: %w", at.Pos.LSN, err)
		}
	}
	for key, c := range counters {
		value := c.now.Append(nil)
		digest = digest.Sub(c.was).Add(frame.PairHash([]byte(key), value))
		ops = append(ops, frame.Op{Type: frame.Put, Key: []byte(key), Value: value})
	}
	return ops, digest, nil
}

// counting is a counter that purged rows are taken out of.
type counting struct {
	now table.Counters
	was lsn.Digest
}

func discount(s table.View, l *archive.Lack, into map[string]*counting) error {
	for _, share := range l.Counters {
		key := table.CounterKey(l.Tenant, share.Table, share.Index)
		c := into[string(key)]
		if c == nil {
			raw, ok, err := s.Get(key)
			if err != nil {
				return err
			}
			if !ok {
				return fmt.Errorf("the record of a purge takes %d entries out of a counter that is not there: table %d, index %d", share.Entries, share.Table, share.Index)
			}
			c = &counting{was: frame.PairHash(key, raw)}
			if c.now, err = table.DecodeCounters(raw); err != nil {
				return err
			}
			into[string(key)] = c
		}
		if c.now.Entries < share.Entries || c.now.Bytes < share.Bytes {
			return fmt.Errorf("the record of a purge takes %d entries of %d bytes out of a counter of %d and %d: table %d, index %d", share.Entries, share.Bytes, c.now.Entries, c.now.Bytes, share.Table, share.Index)
		}
		c.now.Entries -= share.Entries
		c.now.Bytes -= share.Bytes
		c.now.Sum = c.now.Sum.Sub(share.Sum)
	}
	return nil
}

// faults are what is to be told of an archive: what is damaged, and what was shipped past
// a purge.
func faults(s *archive.Survey) []error {
	out := slices.Clone(s.Faults)
	for _, x := range s.Unpurged {
		out = append(out, x)
	}
	return out
}

// redactions is where the records of purges are.
const redactions = "redactions/"

// behindAll is a *PassedError if a purge has come to its end that a copy was not made
// behind.
func behindAll(s *archive.Survey, purges int, what string) error {
	if n := len(s.Redactions); purges < n {
		return &PassedError{What: what, Record: s.Redactions[n-1].Key().String()}
	}
	return nil
}

// holdPurges is behindAll of what is restored, for the archive as it is now.
func (r *run) holdPurges(ctx context.Context, purges int) error {
	names, err := r.a.Names(ctx, redactions)
	names = slices.DeleteFunc(names, func(info object.Info) bool {
		k, err := archive.ParseKey(info.Key)
		_, record := k.(archive.RedactionKey)
		return err != nil || !record
	})
	if err != nil || len(names) <= purges {
		return err
	}
	return &PassedError{What: r.stage.path, Record: names[len(names)-1].Key}
}
