package incident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

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
