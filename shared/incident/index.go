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
	// MaxPast is how many that are settled are listed. Their documents stay.
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
	for range maxTries {
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

// announce has an incident among the active ones.
func (s *Store) announce(ctx context.Context, id string) error {
	return s.reindex(ctx, func(x *index) (bool, error) {
		switch {
		case x.active(id) >= 0:
			return false, nil
		case len(x.Active) >= MaxActive:
			return false, ErrTooMany
		}
		x.Active = append(x.Active, announced{id, s.now().UTC()})
		return true, nil
	})
}

// Retire takes an incident out of the active ones if it is settled, or was announced long
// ago and never opened. Of others it changes nothing.
func (s *Store) Retire(ctx context.Context, id string) error {
	i, there, err := s.Get(ctx, id)
	if err != nil || there && !i.settled() {
		return err
	}
	return s.reindex(ctx, func(x *index) (bool, error) {
		at := x.active(id)
		if at < 0 || !there && s.now().Sub(x.Active[at].At) < orphanAfter {
			return false, nil
		}
		x.Active = slices.Delete(x.Active, at, at+1)
		if there {
			x.Past = append(x.Past, id)
			x.Past = x.Past[max(0, len(x.Past)-MaxPast):]
		}
		return true, nil
	})
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

// Past names the last of those that are settled, the latest last.
func (s *Store) Past(ctx context.Context) ([]string, error) {
	x, _, err := s.index(ctx)
	return x.Past, err
}
