// Package tenant holds who may call: tenants, their tokens and tiers, the
// admin token, and the check that turns a bearer token into an identity. It
// builds and reads records; storing them is the engine's, through the log.
package tenant

import "github.com/oklog/ulid/v2"

// Identity is what a valid tenant token stands for.
type Identity struct {
	// Tenant owns the token; a token belongs to one tenant.
	Tenant ulid.ULID
	// Token is the id of the token, which logs and audit lines may name.
	Token ulid.ULID
	// Tier is the tenant's tier; nil means no tier, and so no limit.
	Tier *Tier
}
