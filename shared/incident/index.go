package incident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The index names the incidents that somebody has still to do with, and those of late. So
// a notifier reads what is open and not all that ever was, and no store has to list more
// documents than it can.
//
// An incident is in it before its document is made, and leaves what is active when the
// document says that nothing is owed and nothing will be: one that is killed in between
// leaves a name too many, never one too few.
const indexKey = "incident-index"

const (
	// MaxActive is how many incidents are open or owe something; another is not opened.
	MaxActive = 500
	// MaxPast is how many that are settled are kept. The one that was settled first is
	// dropped for another; one that is open, or owes something, never is.
	MaxPast = 200
	// orphanAfter is when a name without a document is dropped: whoever announced it was
	// killed.
	orphanAfter = time.Hour
)

// ErrTooMany refuses an incident beside MaxActive others.
var ErrTooMany = fmt.Errorf("%d incidents are open, or have still to be told of: no other is opened", MaxActive)

type index struct {
	Format int `json:"format"`
	// Active are by the time at which they were announced.
	Active []announced `json:"active"`
	// Past are settled, the latest last.
	Past []string `json:"past"`
}

type announced struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
	// Of is the alarm that it is of; nil for others, of which each id is one.
	Of *Cause `json:"of,omitempty"`
}

func (x *index) active(id string) int {
	return slices.IndexFunc(x.Active, func(a announced) bool { return a.ID == id })
}

func (s *Store) index(ctx context.Context) (x index, version uint64, err error) {
	b, version, ok, err := s.docs.Load(ctx, indexKey)
	if err != nil || !ok {
		return index{Format: format}, 0, err
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return x, 0, fmt.Errorf("the document %s is no index of incidents: %w", indexKey, err)
	}
	if x.Format != format {
		return x, 0, fmt.Errorf("the index of incidents has format %d, and this program knows %d: use a newer one", x.Format, format)
	}
	return x, version, nil
}

func (s *Store) reindex(ctx context.Context, rule func(*index) (bool, error)) error {
	for n := range maxTries {
		if err := s.giveWay(ctx, n); err != nil {
			return err
		}
		x, version, err := s.index(ctx)
		if err != nil {
			return err
		}
		if changed, err := rule(&x); err != nil || !changed {
			return err
		}
		b, err := encode(x)
		if err != nil {
			return err
		}
		if _, err = s.docs.Save(ctx, indexKey, version, b); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("the index of incidents: %w, %d times in a row", ErrConflict, maxTries)
}

// announce has an incident among the active ones, and says under which id: one that is open
// of the same alarm, or is being opened by somebody else, is taken instead of another. Who
// is killed between this and the opening leaves it to whoever comes next.
func (s *Store) announce(ctx context.Context, o Opening) (id string, err error) {
	var of *Cause
	if o.Cause.Alarm != "" && o.Cause.Failover == "" {
		of = &o.Cause
	}
	return id, s.reindex(ctx, func(x *index) (bool, error) {
		if id = o.ID; x.active(id) >= 0 {
			return false, nil
		}
		same, err := s.openOf(ctx, x, of)
		if err != nil || same != "" {
			id = same
			return false, err
		}
		if len(x.Active) >= MaxActive {
			return false, ErrTooMany
		}
		x.Active = append(x.Active, announced{id, s.now().UTC(), of})
		return true, nil
	})
}

// openOf is the active incident of an alarm that is not over; "" if there is none.
func (s *Store) openOf(ctx context.Context, x *index, of *Cause) (string, error) {
	if of == nil {
		return "", nil
	}
	for _, a := range x.Active {
		if a.Of == nil || *a.Of != *of {
			continue
		}
		if i, there, err := s.Get(ctx, a.ID); err != nil || !there || i.Resolved == nil {
			return a.ID, err
		}
	}
	return "", nil
}

// Retire takes an incident out of the active ones if it is settled, or was announced long
// ago and never opened. Of others it changes nothing.
func (s *Store) Retire(ctx context.Context, id string) error {
	i, there, err := s.Get(ctx, id)
	if err != nil || there && !i.settled() {
		return err
	}
	dropped, kept := s.drop(ctx)
	return errors.Join(kept, s.reindex(ctx, func(x *index) (bool, error) {
		at := x.active(id)
		if at < 0 || !there && s.now().Sub(x.Active[at].At) < orphanAfter {
			return false, nil
		}
		x.Active = slices.Delete(x.Active, at, at+1)
		if there {
			x.Past = append(x.Past, id)
			x.Past = slices.DeleteFunc(x.Past, func(id string) bool { return slices.Contains(dropped, id) })
		}
		return true, nil
	}))
}

// drop removes the documents of those that were settled first, as many as make room for
// another one. Their names leave the index after that: a kill in between leaves names
// without documents, for the next call, and no document that nobody knows of. One that
// cannot be dropped stays, and the next one goes.
func (s *Store) drop(ctx context.Context) (dropped []string, err error) {
	x, _, err := s.index(ctx)
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, id := range x.Past {
		if len(x.Past)-len(dropped) < MaxPast {
			break
		}
		i, version, err := s.load(ctx, id)
		switch {
		case err == nil && i.Format != 0 && !i.settled():
			continue
		case err == nil && i.Format != 0:
			err = s.docs.Delete(ctx, incidents+id, version)
		}
		if err != nil && !errors.Is(err, ErrConflict) { // that is, somebody else has dropped it
			faults = append(faults, fmt.Errorf("drop incident %s, which %d others were settled after: %w", id, MaxPast-1, err))
			continue
		}
		dropped = append(dropped, id)
	}
	return dropped, errors.Join(faults...)
}

// Active names the incidents that are open, or of which somebody has still to be told, in
// the order in which they were opened.
func (s *Store) Active(ctx context.Context) (ids []string, err error) {
	x, _, err := s.index(ctx)
	for _, a := range x.Active {
		ids = append(ids, a.ID)
	}
	return ids, err
}

// Past names those that are settled and kept, the latest last.
func (s *Store) Past(ctx context.Context) ([]string, error) {
	x, _, err := s.index(ctx)
	return x.Past, err
}
