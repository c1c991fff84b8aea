package incident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"originchain/shared/alarms"
)

// Secret signs a subscriber's webhooks. It does not print itself.
type Secret string

const hidden = "[secret]"

// String implements fmt.Stringer.
func (Secret) String() string { return hidden }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return hidden }

// MarshalJSON implements json.Marshaler.
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal(hidden) }

// Subscriber is somebody who is told: at an address, or by a webhook.
type Subscriber struct {
	ID    string `json:"id"`
	Email string `json:"email,omitempty"`
	// Webhook is a URL, and may be a secret itself.
	Webhook Secret `json:"webhook,omitempty"`
	Secret  Secret `json:"secret,omitempty"`
	// UpTo is the mildest severity that it is told of; TenantDown unless set.
	UpTo alarms.Severity `json:"up_to"`
}

// stored is a Subscriber as its document has it.
type stored struct {
	ID      string          `json:"id"`
	Email   string          `json:"email,omitempty"`
	Webhook string          `json:"webhook,omitempty"`
	Secret  string          `json:"secret,omitempty"`
	UpTo    alarms.Severity `json:"up_to"`
	Gone    bool            `json:"gone,omitempty"`
}

// Check lists what is wrong with a subscriber; address and url check what is written in
// the two.
func (s *Subscriber) Check(address, url func(string) error) error {
	faults := []error{checkID("subscriber", s.ID)}
	if (s.Email == "") == (s.Webhook == "") {
		faults = append(faults, errors.New("a subscriber has either an e-mail address or a webhook"))
	}
	if s.Email != "" {
		faults = append(faults, address(s.Email))
	}
	if s.Webhook != "" {
		faults = append(faults, url(string(s.Webhook)))
		if len(s.Secret) < minSecretBytes {
			faults = append(faults, fmt.Errorf("a webhook's secret has at least %d bytes", minSecretBytes))
		}
	}
	if s.UpTo < alarms.TenantDown || s.UpTo > alarms.Drift {
		faults = append(faults, fmt.Errorf("severity %d: give 1, 2 or 3", s.UpTo))
	}
	return errors.Join(faults...)
}

const minSecretBytes = 16

// Told says who is told, by id.
type Told interface {
	Subscribers(ctx context.Context) ([]Subscriber, error)
}

// Fixed are subscribers that a file names, or nobody. Nothing of them is stored.
type Fixed []Subscriber

// Subscribers implements Told.
func (f Fixed) Subscribers(context.Context) ([]Subscriber, error) { return f, nil }

// subscribers is where a Roster keeps them.
const subscribers = "subscribers/"

// Roster keeps subscribers, with their secrets, in documents: a store of those that only
// who may read secrets reads.
type Roster struct{ docs Documents }

// NewRoster makes a Roster.
func NewRoster(docs Documents) *Roster { return &Roster{docs: docs} }

var (
	_ Told = Fixed(nil)
	_ Told = (*Roster)(nil)
)

// Subscribe adds a subscriber, or replaces the one of its id. The caller has checked it.
func (r *Roster) Subscribe(ctx context.Context, sub Subscriber) error {
	if err := checkID("subscriber", sub.ID); err != nil {
		return err
	}
	have, err := r.Subscribers(ctx)
	if err != nil {
		return err
	}
	if len(have) >= MaxSubscribers && !slices.ContainsFunc(have, func(h Subscriber) bool { return h.ID == sub.ID }) {
		return fmt.Errorf("there are %d subscribers already, at most that many are told", MaxSubscribers)
	}
	return r.put(ctx, stored{ID: sub.ID, Email: sub.Email, Webhook: string(sub.Webhook), Secret: string(sub.Secret), UpTo: max(sub.UpTo, alarms.TenantDown)})
}

// Unsubscribe ends a subscription: what it is still owed is given up.
func (r *Roster) Unsubscribe(ctx context.Context, id string) error {
	if err := checkID("subscriber", id); err != nil {
		return err
	}
	return r.put(ctx, stored{ID: id, Gone: true})
}

func (r *Roster) put(ctx context.Context, sub stored) error {
	b, err := json.Marshal(sub)
	if err != nil {
		return err
	}
	for range maxTries {
		_, version, _, err := r.docs.Load(ctx, subscribers+sub.ID)
		if err != nil {
			return err
		}
		if _, err = r.docs.Save(ctx, subscribers+sub.ID, version, b); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("subscriber %s: %w, %d times in a row", sub.ID, ErrConflict, maxTries)
}

// Subscribers implements Told.
func (r *Roster) Subscribers(ctx context.Context) (out []Subscriber, err error) {
	keys, err := r.docs.List(ctx, subscribers)
	if err != nil {
		return nil, err
	}
	slices.Sort(keys)
	for _, key := range keys {
		id := strings.TrimPrefix(key, subscribers)
		b, _, ok, err := r.docs.Load(ctx, subscribers+id)
		if err != nil {
			return nil, err
		}
		var sub stored
		if !ok {
			continue
		}
		if json.Unmarshal(b, &sub) != nil || sub.ID != id { // the cause could quote a secret
			return nil, fmt.Errorf("the document %s%s is no subscriber of this name: replace it", subscribers, id)
		}
		if !sub.Gone {
			out = append(out, Subscriber{ID: id, Email: sub.Email, Webhook: Secret(sub.Webhook), Secret: Secret(sub.Secret), UpTo: sub.UpTo})
		}
	}
	return out, nil
}
