package httpx

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/telemetry"
)

// admit decides whether the caller may call the route at all.
func (s *Server) admit(c *Call) error {
	if c.route.Scope == Public {
		return nil
	}
	token, ok := bearer(c.Request.Header.Get(api.HeaderAuthorization))
	if !ok {
		return fault.New(fault.Unauthorized, "this path needs the header Authorization: Bearer <token>")
	}
	if c.route.Scope == Admin {
		return s.admitAdmin(c, token)
	}
	return s.admitTenant(c, token)
}

// admitAdmin accepts the admin token. A tenant's own token is known and still
// refused (403); anything else is unknown (401).
func (s *Server) admitAdmin(c *Call, token string) error {
	if actor, ok := s.deps.Admin.Matches(token); ok {
		c.Info.Actor = actor
		c.x.Header()["Cache-Control"] = []string{"no-store"}
		return nil
	}
	id, err := s.deps.Auth.Authenticate(c.Context(), token)
	if err != nil {
		return err
	}
	c.Info.Tenant, c.Info.Actor = id.Tenant.String(), id.Token.String()
	return fault.New(fault.Forbidden, "/v1/admin takes the admin token, not a tenant's")
}

// admitTenant accepts a token of the tenant that the path names, within the
// rate of its tier. The admin token is known and still refused (403): what it
// may do is on the admin routes, where each act is audited.
func (s *Server) admitTenant(c *Call, token string) error {
	id, err := s.deps.Auth.Authenticate(c.Context(), token)
	if err != nil {
		if _, admin := s.deps.Admin.Matches(token); admin && fault.CodeOf(err) == fault.Unauthorized {
			return fault.New(fault.Forbidden, "the admin token opens /v1/admin only; use a token of the tenant")
		}
		if fault.CodeOf(err) == fault.Unauthorized && s.deps.Unknown != nil {
			if unknown := s.deps.Unknown(c); unknown != nil {
				return unknown
			}
		}
		return err
	}
	c.Identity = id
	c.Info.Tenant, c.Info.Actor = id.Tenant.String(), id.Token.String()
	if named := c.Request.PathValue(TenantParam); named != "" && !strings.EqualFold(named, c.Info.Tenant) {
		return fault.New(fault.Forbidden, "this token belongs to another tenant; use a token of the tenant in the path")
	}
	if err := s.limits.allow(id, time.Now()); err != nil {
		s.deps.Metrics.rateLimited.Inc()
		return err
	}
	return nil
}

// denialLimit keeps strangers from making the node sync its audit log at will.
type denialLimit struct {
	bucket     *rate.Limiter
	suppressed atomic.Int64
}

// Refused privileged calls are audited one by one up to this rate; those beyond
// it are counted into the next line that is written.
const (
	auditedDenialsPerSecond = 2
	auditedDenialsBurst     = 20
)

// audit writes the line of a privileged action before its answer is sent, and
// gives back the error to answer with: an act that cannot be audited is
// reported as failed, and says that it was done.
func (s *Server) audit(c *Call, err error) error {
	event := telemetry.AuditEvent{Action: c.route.Audit, Object: c.object, Outcome: "ok"}
	if err != nil {
		event.Outcome = string(fault.CodeOf(err).Wire())
	}
	if code := fault.CodeOf(err); code == fault.Unauthorized || code == fault.Forbidden || code == fault.Overloaded {
		if !s.denials.bucket.Allow() {
			s.denials.suppressed.Add(1)
			return err
		}
		event.Suppressed = s.denials.suppressed.Swap(0)
	}
	if auditErr := s.deps.Audit.Record(&c.Info, event); auditErr != nil {
		return fault.New(fault.ServerError, "the action (%s) ended as %q but could not be written to the audit log; check the disk of the node, then look at the result before repeating it",
			event.Action, event.Outcome).Wrap(errors.Join(auditErr, err))
	}
	return err
}

// overLimitConnection says that the request came over a connection beyond the
// node's limit, which is open only so that health checks still get an answer.
func overLimitConnection(r *http.Request) bool {
	state, ok := r.Context().Value(connKey{}).(*limitedConn)
	return ok && state.over
}
