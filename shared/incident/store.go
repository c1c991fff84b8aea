package incident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"originchain/shared/alarms"
)

// Documents keeps documents by key. It is linearizable and durable before it returns.
type Documents interface {
	// Load returns a document and its version; ok is false if there is none.
	Load(ctx context.Context, key string) (b []byte, version uint64, ok bool, err error)
	// Save replaces the document if its version is expect, or makes it if expect is 0
	// and there is none. It fails with ErrConflict if the document is another by now;
	// after any other error it may have been written or not.
	Save(ctx context.Context, key string, expect uint64, b []byte) (uint64, error)
	// Delete removes the document if its version is expect, and fails with ErrConflict if it
	// is not. After any other error it may be there or not.
	Delete(ctx context.Context, key string, expect uint64) error
	// List returns the keys with the prefix.
	List(ctx context.Context, prefix string) ([]string, error)
}

// ErrConflict says that a document is not of the version that was expected.
var ErrConflict = errors.New("the document was changed meanwhile")

const (
	incidents = "incidents/"
	// maxTries bounds how often a change is made anew because others were faster.
	maxTries = 50
	// leastWay and mostWay bound the wait before that.
	leastWay = 5 * time.Millisecond
	mostWay  = 50 * time.Millisecond
)

// Store keeps incidents.
type Store struct {
	docs Documents
	told Told
	now  func() time.Time
	// jitter is in [0, 1).
	jitter func() float64
}

// NewStore makes a Store whose updates are owed to those who are told.
func NewStore(docs Documents, told Told, now func() time.Time, jitter func() float64) *Store {
	return &Store{docs: docs, told: told, now: now, jitter: jitter}
}

// Subscribers are all who are told, by id.
func (s *Store) Subscribers(ctx context.Context) ([]Subscriber, error) {
	return s.told.Subscribers(ctx)
}

// Opening is what an incident is opened with.
type Opening struct {
	// ID names it: the same one opens nothing a second time.
	ID       string
	Severity alarms.Severity
	Title    string
	Cause    Cause
	Text     string
}

// Open opens an incident with its first update, and owes it to those who asked for its
// severity. If there is one of this id it is returned as it is, and so is one that is open
// of the same alarm: of two callers at once both have the incident of one.
func (s *Store) Open(ctx context.Context, o Opening) (*Incident, error) {
	to, err := s.Subscribers(ctx)
	if err != nil {
		return nil, err
	}
	switch have, ok, err := s.Get(ctx, o.ID); {
	case err != nil || ok:
		return have, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.ID, err = s.announce(ctx, o); err != nil {
		return nil, err
	}
	return s.change(ctx, o.ID, func(i *Incident) (bool, error) {
		if i.Format != 0 {
			return false, nil
		}
		*i = Incident{Format: format, ID: o.ID, Severity: o.Severity, Title: o.Title, Cause: o.Cause, Opened: s.now().UTC()}
		return i.add(Update{Key: "opened", At: i.Opened, Text: o.Text}, to)
	})
}

// Add adds an update to an incident, once for each key.
func (s *Store) Add(ctx context.Context, id, key, text string) (*Incident, error) {
	return s.update(ctx, id, Update{Key: key, Text: text})
}

// Resolve ends an incident with an update, once for each key.
func (s *Store) Resolve(ctx context.Context, id, key, text string) (*Incident, error) {
	return s.update(ctx, id, Update{Key: key, Text: text, Resolves: true})
}

func (s *Store) update(ctx context.Context, id string, u Update) (*Incident, error) {
	to, err := s.Subscribers(ctx)
	if err != nil {
		return nil, err
	}
	u.At = s.now().UTC()
	return s.change(ctx, id, func(i *Incident) (bool, error) {
		if i.Format == 0 {
			return false, fmt.Errorf("there is no incident %s", id)
		}
		return i.add(u, to)
	})
}

// change applies a rule to an incident as it is, again when others were faster. A rule
// that finds its work done changes nothing, so that a write of unknown outcome can be
// followed by the same call.
func (s *Store) change(ctx context.Context, id string, rule func(*Incident) (bool, error)) (*Incident, error) {
	for n := range maxTries {
		if err := s.giveWay(ctx, n); err != nil {
			return nil, err
		}
		i, version, err := s.load(ctx, id)
		if err != nil {
			return nil, err
		}
		changed, err := rule(i)
		if err != nil || !changed {
			return i, err
		}
		b, err := encode(i)
		if err != nil {
			return nil, err
		}
		_, err = s.docs.Save(ctx, incidents+id, version, b)
		if err == nil {
			return i, nil
		}
		if !errors.Is(err, ErrConflict) {
			return nil, fmt.Errorf("incident %s may or may not have been written; repeat the call: %w", id, err)
		}
	}
	return nil, fmt.Errorf("incident %s: %w, %d times in a row", id, ErrConflict, maxTries)
}

// giveWay waits before a change that others were faster with is made anew: a store that
// counts what is refused has room for few who do not.
func (s *Store) giveWay(ctx context.Context, tries int) error {
	if tries == 0 {
		return nil
	}
	timer := time.NewTimer(leastWay + time.Duration(s.jitter()*float64(mostWay-leastWay)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// load reads an incident; one that is not there has Format 0.
func (s *Store) load(ctx context.Context, id string) (*Incident, uint64, error) {
	if err := checkID("incident", id); err != nil {
		return nil, 0, err
	}
	b, version, ok, err := s.docs.Load(ctx, incidents+id)
	if err != nil || !ok {
		return &Incident{}, 0, err
	}
	var i Incident
	if err := json.Unmarshal(b, &i); err != nil {
		return nil, 0, fmt.Errorf("the document %s%s is no incident: %w", incidents, id, err)
	}
	if i.ID != id {
		return nil, 0, fmt.Errorf("the document %s%s is of another incident, %q", incidents, id, i.ID)
	}
	if i.Format != format {
		return nil, 0, fmt.Errorf("incident %s has format %d, and this program knows %d: use a newer one", id, i.Format, format)
	}
	return &i, version, nil
}

// Get reads an incident; ok is false if there is none.
func (s *Store) Get(ctx context.Context, id string) (_ *Incident, ok bool, err error) {
	i, _, err := s.load(ctx, id)
	if err != nil {
		return nil, false, err
	}
	return i, i.Format != 0, nil
}

// Claim takes the deliveries of an incident that are due, one by one, for this caller to
// attempt. settled says that nothing is owed and nothing will be.
func (s *Store) Claim(ctx context.Context, id string) (i *Incident, claimed []Delivery, settled bool, err error) {
	i, err = s.change(ctx, id, func(i *Incident) (bool, error) {
		claimed = nil
		now := s.now().UTC()
		for _, d := range i.due(now) {
			if c, ok := i.claim(d.ID, now); ok {
				claimed = append(claimed, c)
			}
		}
		return len(claimed) > 0, nil
	})
	if err != nil {
		return nil, nil, false, err // what was claimed comes back when the claim ends
	}
	return i, claimed, i.settled(), nil
}

// Said notes that somebody was called for what was given up at once of the updates up to one.
// Who is killed between the call and this calls again.
func (s *Store) Said(ctx context.Context, id string, upTo int) error {
	_, err := s.change(ctx, id, func(i *Incident) (changed bool, err error) {
		for n := range i.Updates {
			if u := &i.Updates[n]; u.Seq <= upTo && u.Unsaid > 0 {
				u.Unsaid, changed = 0, true
			}
		}
		return changed, nil
	})
	return err
}

// Left is for how long a claim still keeps others from sending.
func (s *Store) Left(claimed Delivery) time.Duration { return claimed.Due.Sub(s.now()) }

// TakeOver ends the claims of an incident, so that its deliveries are due at once. It is
// for a caller who knows that whoever claimed them is no more: else both send them.
func (s *Store) TakeOver(ctx context.Context, id string) error {
	_, err := s.change(ctx, id, func(i *Incident) (changed bool, err error) {
		for n := range i.Owed {
			if o := &i.Owed[n]; o.Claimed {
				o.Claimed, o.Due, changed = false, s.now().UTC(), true
			}
		}
		return changed, nil
	})
	return err
}

// Settle records how an attempt ended; final says that no other can succeed. gaveUp says that
// none will be made. It is safe to repeat: what is settled is left as it is.
func (s *Store) Settle(ctx context.Context, id string, claimed Delivery, failure error, final bool) (gaveUp bool, err error) {
	jitter := s.jitter()
	_, err = s.change(ctx, id, func(i *Incident) (changed bool, err error) {
		if claimed.Update < 1 || claimed.Update > len(i.Updates) {
			return false, fmt.Errorf("incident %s has no update %d", id, claimed.Update)
		}
		changed, gaveUp = i.settle(claimed, failure, final, s.now().UTC(), jitter)
		return changed, nil
	})
	return gaveUp, err
}
