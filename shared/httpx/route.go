// Package httpx is the HTTP face of a node: one list of routes, the router that
// serves it, and everything a request meets before and after its handler
// (request id, authentication, limits, error envelope, metrics, audit).
package httpx

import "fmt"

// Scope is who may call a route.
type Scope uint8

// The scopes. A token of one scope is refused with 403 on the routes of the other.
const (
	// Public routes take no token and pass no limiter: a health check must
	// answer while everything else is refused.
	Public Scope = iota
	// Tenant routes take a tenant's token; a {t} in the pattern must name its tenant.
	Tenant
	// Admin routes take the admin token.
	Admin
)

// String names the scope as docs/openapi.yaml does.
func (s Scope) String() string {
	switch s {
	case Public:
		return "public"
	case Tenant:
		return "tenant"
	case Admin:
		return "admin"
	}
	return fmt.Sprintf("scope(%d)", uint8(s))
}

// MaxBodyBytes is the body limit of a route that names no other: 8 MiB.
// A body of exactly this size is accepted.
const MaxBodyBytes = 8 << 20

// TenantParam is the path parameter that names a tenant.
const TenantParam = "t"

// Handler answers one call: it writes the answer through c and returns nil, or
// returns an error, which becomes the error envelope (fault.From). It must not
// use c after it returns.
type Handler func(c *Call) error

// Route is one row of the API. The list of routes is the only list: the server
// registers it, docs/openapi.yaml is compared with it, metrics are labelled by it.
type Route struct {
	Method string
	// Pattern is a path in the syntax of net/http.ServeMux, without method or host.
	Pattern string
	// Name labels metrics and logs and is the operationId of docs/openapi.yaml.
	Name    string
	Summary string
	Scope   Scope
	// MaxBody is the most bytes of body; 0 means MaxBodyBytes. Streaming routes are not bounded by it.
	MaxBody int64
	// Streaming routes read their body piece by piece through Call.Stream, of any length.
	Streaming bool
	// Audit names the privileged action for the audit log, such as
	// "tenant.create"; "" means that the route does nothing privileged.
	Audit   string
	Handler Handler
}

// maxBody is the limit that applies, in bytes.
func (r *Route) maxBody() int64 {
	if r.MaxBody > 0 {
		return r.MaxBody
	}
	return MaxBodyBytes
}

// InScope returns the routes whose scope is one of those named, in order, so
// that operational routes can be bound to a listener of their own.
func InScope(routes []Route, scopes ...Scope) []Route {
	var out []Route
	for _, r := range routes {
		for _, s := range scopes {
			if r.Scope == s {
				out = append(out, r)
				break
			}
		}
	}
	return out
}
