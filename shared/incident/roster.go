package incident

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"originchain/shared/alarms"
)

const (
	// ControlScope is the registry on AWS in which incidents and subscribers are: the
	// notifier reads no other one.
	ControlScope = "control"
	// MaxNames bounds how many ids a Roster has seen: those of subscribers, and of those who
	// are none any more. Far below what a store of documents lists, so that a notifier can
	// always read who is told.
	MaxNames = 500

	subscribers = "subscribers/"
)

// Why a change of a Roster is refused; nothing was changed.
var (
	ErrSubscribed     = errors.New("there is a subscriber of this id already, and it is another one")
	ErrNoSubscriber   = errors.New("there is no subscriber of this id, and never was")
	ErrMaxSubscribers = fmt.Errorf("there are %d subscribers already, at most that many are told", MaxSubscribers)
	ErrMaxNames       = fmt.Errorf("%d ids have been used already: take that of a subscriber that is no more", MaxNames)
)

// Roster keeps subscribers, with their secrets, in documents: a store of those that only
// who may read secrets reads.
//
// Invariants:
//
//   - A document is replaced only by who has seen what it replaces: of two who change the
//     same subscriber at once, one is told ErrConflict.
//   - An id that was removed keeps its document, which says so, and with it its version: who
//     has read the subscriber before it was removed replaces none that came after.
//   - Of several who add at once none stays above MaxSubscribers: each looks again after its
//     write, and takes it back. Who is killed in between leaves one too many, of whom
//     MaxOwed keeps incidents from growing.
type Roster struct{ docs Documents }

// NewRoster makes a Roster.
func NewRoster(docs Documents) *Roster { return &Roster{docs: docs} }

var (
	_ Told = Fixed(nil)
	_ Told = (*Roster)(nil)
)

// CheckSubscriberID says what is wrong with the id of a subscriber.
func CheckSubscriberID(id string) error { return checkID("subscriber", id) }

// stored is a Subscriber as its document has it.
type stored struct {
	ID      string          `json:"id"`
	Email   string          `json:"email,omitempty"`
	Webhook string          `json:"webhook,omitempty"`
	Secret  string          `json:"secret,omitempty"`
	UpTo    alarms.Severity `json:"up_to"`
	Gone    bool            `json:"gone,omitempty"`
}

// entry is a document of a Roster, as it was read. It is broken if it is none of its name.
type entry struct {
	stored
	version uint64
	body    []byte
	broken  bool
}

// holds says that it counts as a subscriber: one that cannot be read does, as it may be one.
func (e *entry) holds() bool { return e.version > 0 && !e.Gone }

// Subscribe adds a subscriber, which the caller has checked. It fails with ErrSubscribed if
// its id has another one; the same one twice is one.
func (r *Roster) Subscribe(ctx context.Context, sub Subscriber) error { return r.set(ctx, sub, false) }

// Replace adds a subscriber, or has it in place of the one of its id.
func (r *Roster) Replace(ctx context.Context, sub Subscriber) error { return r.set(ctx, sub, true) }

func (r *Roster) set(ctx context.Context, sub Subscriber, replace bool) error {
	now, err := r.load(ctx, sub.ID)
	if err != nil {
		return err
	}
	body, err := json.Marshal(stored{ID: sub.ID, Email: sub.Email, Webhook: string(sub.Webhook), Secret: string(sub.Secret), UpTo: max(sub.UpTo, alarms.TenantDown)})
	switch {
	case err != nil:
		return err
	case bytes.Equal(body, now.body): // a write of unknown outcome was repeated
		return nil
	case now.holds() && !replace:
		return fmt.Errorf("subscriber %s: %w", sub.ID, ErrSubscribed)
	case now.holds():
		_, err = r.save(ctx, sub.ID, now.version, body)
		return err
	}
	names, told, err := r.count(ctx)
	switch {
	case err != nil:
		return err
	case told >= MaxSubscribers:
		return ErrMaxSubscribers
	case now.version == 0 && names >= MaxNames:
		return ErrMaxNames
	}
	version, err := r.save(ctx, sub.ID, now.version, body)
	if err != nil {
		return err
	}
	return r.stays(ctx, sub.ID, version)
}

// stays takes a subscriber back that was added beside others, and is one too many.
func (r *Roster) stays(ctx context.Context, id string, version uint64) error {
	_, told, err := r.count(ctx)
	if err != nil {
		return fmt.Errorf("subscriber %s is added; whether there are more than %d now is not known: %w", id, MaxSubscribers, err)
	}
	if told <= MaxSubscribers {
		return nil
	}
	if err := r.end(ctx, id, version); err != nil {
		// Neither is wrapped: whoever is told one of them takes it that nothing was changed.
		return fmt.Errorf("%v; subscriber %s was added nevertheless, and is to be removed: %v", ErrMaxSubscribers, id, err) //nolint:errorlint // see above
	}
	return ErrMaxSubscribers
}

// Unsubscribe ends a subscription: what it is still owed is given up. It fails with
// ErrNoSubscriber if the id never had one; twice is once.
func (r *Roster) Unsubscribe(ctx context.Context, id string) error {
	now, err := r.load(ctx, id)
	switch {
	case err != nil:
		return err
	case now.version == 0:
		return fmt.Errorf("subscriber %s: %w", id, ErrNoSubscriber)
	case !now.holds():
		return nil
	}
	return r.end(ctx, id, now.version)
}

func (r *Roster) end(ctx context.Context, id string, version uint64) error {
	body, err := json.Marshal(stored{ID: id, Gone: true})
	if err == nil {
		_, err = r.save(ctx, id, version, body)
	}
	return err
}

func (r *Roster) save(ctx context.Context, id string, expect uint64, body []byte) (uint64, error) {
	version, err := r.docs.Save(ctx, subscribers+id, expect, body)
	switch {
	case errors.Is(err, ErrConflict):
		return 0, fmt.Errorf("subscriber %s was not changed, as somebody else has changed it meanwhile; look at it, and decide anew: %w", id, err)
	case err != nil:
		return 0, fmt.Errorf("subscriber %s may or may not have been changed; repeat the call: %w", id, err)
	}
	return version, nil
}

// load reads the document of an id; version 0 says that there is none.
func (r *Roster) load(ctx context.Context, id string) (e entry, err error) {
	if err := CheckSubscriberID(id); err != nil {
		return e, err
	}
	b, version, ok, err := r.docs.Load(ctx, subscribers+id)
	if err != nil || !ok {
		return entry{}, err
	}
	e = entry{version: version, body: b}
	if json.Unmarshal(b, &e.stored) != nil || e.ID != id { // the cause could quote a secret
		return entry{version: version, broken: true}, nil
	}
	return e, nil
}

// ids are all that there are documents of, in order.
func (r *Roster) ids(ctx context.Context) ([]string, error) {
	keys, err := r.docs.List(ctx, subscribers)
	for i := range keys {
		keys[i] = strings.TrimPrefix(keys[i], subscribers)
	}
	slices.Sort(keys)
	return keys, err
}

// count says how many ids there are, and how many of them are of subscribers.
func (r *Roster) count(ctx context.Context) (names, told int, err error) {
	ids, err := r.ids(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, id := range ids {
		e, err := r.load(ctx, id)
		if err != nil {
			return 0, 0, err
		}
		if e.holds() {
			told++
		}
	}
	return len(ids), told, nil
}

// Subscribers implements Told.
func (r *Roster) Subscribers(ctx context.Context) (out []Subscriber, err error) {
	ids, err := r.ids(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		switch e, err := r.load(ctx, id); {
		case err != nil:
			return nil, err
		case e.broken:
			return nil, fmt.Errorf("the document %s%s is no subscriber of this name: replace it", subscribers, id)
		case e.holds():
			out = append(out, Subscriber{ID: id, Email: e.Email, Webhook: Secret(e.Webhook), Secret: Secret(e.Secret), UpTo: e.UpTo})
		}
	}
	return out, nil
}
