// Package tenant holds who may call: tenants, their tokens and tiers, the
// admin token, and the check that turns a bearer token into an identity. It
// builds and reads records; storing them is the engine's, through the log.
package tenant

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"

	"originchain/shared/fault"
)

// recordFormat is the version of the stored form of a record. A record of a
// higher one was written by a newer server and is not guessed at.
const recordFormat = 1

// The states of a subscription.
const (
	Trialing = "trialing"
	Active   = "active"
	PastDue  = "past_due"
	Canceled = "canceled"
)

// Subscription is what the tenant pays for, as the control plane last said.
type Subscription struct {
	Status string `json:"status"`
	// CurrentPeriodEnd is zero where the period has no end.
	CurrentPeriodEnd time.Time `json:"current_period_end,omitzero"`
}

// TenantRecord is a tenant as it is stored.
type TenantRecord struct {
	Format int       `json:"format"`
	ID     ulid.ULID `json:"id"`
	Name   string    `json:"name,omitempty"`
	// Tier is a slug of the tier table, or "" for none.
	Tier         string       `json:"tier,omitempty"`
	Subscription Subscription `json:"subscription"`
	Created      time.Time    `json:"created"`
	// ReplicationMode is what an operator has set; "" is ActivePassive, unset.
	ReplicationMode string `json:"replication_mode,omitempty"`
}

// ActivePassive is the one mode of replication: a writer, and followers of it.
const ActivePassive = "active_passive"

// SetReplicationMode checks and sets the mode.
func (r *TenantRecord) SetReplicationMode(mode string) error {
	switch mode {
	case ActivePassive:
		r.ReplicationMode = mode
		return nil
	case "":
		return fault.New(fault.InvalidEnvelope, "name the replication_mode; it is %q", ActivePassive).With("field", "replication_mode")
	case "raft_quorum":
		return fault.New(fault.Unsupported, "replication_mode raft_quorum does not exist yet; nothing was changed, use %q", ActivePassive)
	}
	return fault.New(fault.ValidationFailed, "replication_mode %q is not known; use %q", mode, ActivePassive).With("field", "replication_mode")
}

// TokenRecord is a token as it is stored: everything but the token.
type TokenRecord struct {
	Format int       `json:"format"`
	ID     ulid.ULID `json:"id"`
	Tenant ulid.ULID `json:"tenant"`
	// Kind is live or test; it is part of the token's text.
	Kind    Kind      `json:"kind"`
	Hash    Hash      `json:"hash"`
	Created time.Time `json:"created"`
	// Revoked is zero while the token is valid.
	Revoked time.Time `json:"revoked,omitzero"`
}

// IsRevoked says that the token no longer opens anything.
func (r *TokenRecord) IsRevoked() bool { return !r.Revoked.IsZero() }

// Revoke returns the record to store when the token is revoked; a token that is
// revoked already keeps its first time.
func (r TokenRecord) Revoke(now time.Time) TokenRecord {
	if !r.IsRevoked() {
		r.Revoked = now.UTC()
	}
	return r
}

// maxNameBytes bounds a tenant's display name.
const maxNameBytes = 200

// NewTenantParams say what a tenant shall be. Everything may be left zero.
type NewTenantParams struct {
	// ID in the text of a ULID, upper or lower case; "" makes a new one.
	ID           string
	Name         string
	Tier         string
	Subscription Subscription
}

// NewTenant builds the record of a new tenant. Its faults are validation_failed
// and name the field.
func NewTenant(p NewTenantParams, now time.Time) (TenantRecord, error) {
	r := TenantRecord{Format: recordFormat, ID: newID(now), Name: p.Name, Tier: p.Tier, Subscription: p.Subscription, Created: now.UTC()}
	if p.ID != "" {
		id, err := ParseID(p.ID)
		if err != nil {
			return TenantRecord{}, err
		}
		r.ID = id
	}
	if len(p.Name) > maxNameBytes || !utf8.ValidString(p.Name) || strings.ContainsFunc(p.Name, func(c rune) bool { return c < ' ' }) {
		return TenantRecord{}, fault.New(fault.ValidationFailed, "name is UTF-8 text of at most %d bytes without control characters", maxNameBytes).With("field", "name")
	}
	if p.Tier != "" {
		if _, ok := TierBySlug(p.Tier); !ok {
			return TenantRecord{}, fault.New(fault.ValidationFailed, "there is no tier %q; the tiers are %s", p.Tier, strings.Join(tierSlugs(), ", ")).With("field", "tier")
		}
	}
	switch r.Subscription.Status {
	case "":
		r.Subscription.Status = Active
	case Trialing, Active, PastDue, Canceled:
	default:
		return TenantRecord{}, fault.New(fault.ValidationFailed, "subscription.status is trialing, active, past_due or canceled, not %q", p.Subscription.Status).
			With("field", "subscription.status")
	}
	r.Subscription.CurrentPeriodEnd = r.Subscription.CurrentPeriodEnd.UTC()
	return r, nil
}

// newID makes a ULID of its time and 80 random bits. crypto/rand never fails,
// and a time that a ULID cannot hold is past the year 10889.
func newID(now time.Time) ulid.ULID {
	return ulid.MustNew(ulid.Timestamp(now), rand.Reader)
}

// ParseID reads the text of a ULID without regard to case.
func ParseID(text string) (ulid.ULID, error) {
	id, err := ulid.ParseStrict(strings.ToUpper(text))
	if err != nil || id == (ulid.ULID{}) {
		return ulid.ULID{}, fault.New(fault.ValidationFailed, "%q is not a ULID: 26 characters of 0-9 and A-Z without I, L, O, U", clip(text))
	}
	return id, nil
}

// clip keeps a client's text short enough to be quoted in a message.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// Encode is the record as the engine stores it: JSON with its format version.
func (r *TenantRecord) Encode() ([]byte, error) { return json.Marshal(r) }

// Encode is the record as the engine stores it: JSON with its format version.
func (r *TokenRecord) Encode() ([]byte, error) { return json.Marshal(r) }

// DecodeTenant reads a stored tenant record.
func DecodeTenant(src []byte) (TenantRecord, error) {
	var r TenantRecord
	if err := decodeRecord("tenant", src, &r); err != nil {
		return TenantRecord{}, err
	}
	return r, nil
}

// DecodeToken reads a stored token record.
func DecodeToken(src []byte) (TokenRecord, error) {
	var r TokenRecord
	if err := decodeRecord("token", src, &r); err != nil {
		return TokenRecord{}, err
	}
	if err := r.Hash.validate(); err != nil {
		return TokenRecord{}, fmt.Errorf("token record %s: %w", r.ID, err)
	}
	return r, nil
}

// decodeRecord reads one record and refuses what this server does not know.
func decodeRecord(what string, src []byte, into any) error {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(src, &version); err != nil {
		return fmt.Errorf("%s record: %w", what, err)
	}
	if version.Format != recordFormat {
		return fmt.Errorf("%s record has format %d, this server reads %d; open the data directory with the server that wrote it", what, version.Format, recordFormat)
	}
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%s record: %w", what, err)
	}
	return nil
}
