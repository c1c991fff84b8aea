package writer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/api"
	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/table"
	"originchain/shared/tenant"
)

// createTenant makes a tenant and its first token in one frame. The token is in
// this answer and nowhere else.
func (s *service) createTenant(c *httpx.Call, in api.CreateTenantRequest) (out api.CreatedTenant, err error) {
	params := tenant.NewTenantParams{ID: in.Tenant, Name: in.Name, Tier: in.Tier}
	if in.Subscription != nil {
		params.Subscription.Status = in.Subscription.Status
		if end := in.Subscription.CurrentPeriodEnd; end != nil {
			params.Subscription.CurrentPeriodEnd = *end
		}
	}
	now := time.Now()
	owner, err := tenant.NewTenant(params, now)
	if err != nil {
		return out, err
	}
	c.SetObject("tenant/" + owner.ID.String())
	ownerBytes, err := owner.Encode()
	if err != nil {
		return out, err
	}
	token, record := tenant.MintToken(owner.ID, tenant.Live, now)
	tokenBytes, err := record.Encode()
	if err != nil {
		return out, err
	}
	err = s.administer(c, func(b *rows.Builder) error {
		if err := b.PutRecord(table.SpaceTenants, owner.ID[:], ownerBytes, true); err != nil {
			return err
		}
		return b.PutRecord(table.SpaceTokens, record.ID[:], tokenBytes, true)
	})
	if err != nil {
		return out, err
	}
	return api.CreatedTenant{Tenant: owner.ID.String(), Token: token.Reveal(), TokenID: record.ID.String()}, nil
}

// mintToken makes another token of a tenant.
func (s *service) mintToken(c *httpx.Call, in api.MintTokenRequest) (out api.MintedToken, err error) {
	owner, err := s.tenantOf(c)
	if err != nil {
		return out, err
	}
	c.SetObject("tenant/" + owner.String())
	kind, err := tenant.ParseKind(in.Kind)
	if err != nil {
		return out, err
	}
	token, record := tenant.MintToken(owner, kind, time.Now())
	c.SetObject("tenant/" + owner.String() + "/token/" + record.ID.String())
	raw, err := record.Encode()
	if err != nil {
		return out, err
	}
	err = s.administer(c, func(b *rows.Builder) error { return b.PutRecord(table.SpaceTokens, record.ID[:], raw, true) })
	if err != nil {
		return out, err
	}
	return api.MintedToken{TokenID: record.ID.String(), Token: token.Reveal()}, nil
}

// revokeToken ends a token: the request after this answer is refused. Revoking
// one that is revoked already changes nothing.
func (s *service) revokeToken(c *httpx.Call) (out api.RevokedToken, err error) {
	owner, err := s.tenantOf(c)
	if err != nil {
		return out, err
	}
	id, err := tenant.ParseID(c.Path("id"))
	if err != nil {
		return out, err
	}
	c.SetObject("tenant/" + owner.String() + "/token/" + id.String())
	revoked := false
	err = s.administer(c, func(b *rows.Builder) error {
		raw, ok, err := b.Get(table.RecordKey(table.System, table.SpaceTokens, id[:]))
		if err != nil {
			return err
		}
		if !ok {
			return errNoToken(id, owner)
		}
		record, err := tenant.DecodeToken(raw)
		if err != nil {
			return err
		}
		if record.Tenant != owner {
			return errNoToken(id, owner)
		}
		if revoked = !record.IsRevoked(); !revoked {
			return nil
		}
		record = record.Revoke(time.UnixMicro(b.Stamp()))
		if raw, err = record.Encode(); err != nil {
			return err
		}
		return b.PutRecord(table.SpaceTokens, id[:], raw, false)
	})
	if err != nil {
		return out, err
	}
	s.auth.Invalidate(id)
	return api.RevokedToken{TokenID: id.String(), Revoked: revoked}, nil
}

func errNoToken(id, owner ulid.ULID) error {
	return fault.New(fault.NotFound, "tenant %s has no token %s; GET /v1/admin/tenants/%s/tokens lists those it has", owner, id, owner)
}

// administer commits a change of the instance's own records. An Idempotency-Key
// is kept without the answer, which may hold a secret: a repeated one is refused.
func (s *service) administer(c *httpx.Call, build func(*rows.Builder) error) error {
	key, err := keyOf(c, nil)
	if err != nil {
		return err
	}
	defer s.cache.forget()
	// Not the caller's context: a commit whose caller left would become visible
	// after the records were forgotten, and stay unseen.
	out, err := s.engine.Commit(context.WithoutCancel(c.Context()), engine.Proposal{
		Tenant: table.System, Build: build, Idem: key.engine(0, func(lsn.Pos) []byte { return nil }),
	})
	if err != nil {
		return err
	}
	if out.Stored != nil {
		return fault.New(fault.Conflict, "this Idempotency-Key was used on an admin route before; answers there may hold a secret and are not kept. List what exists, and use a new key")
	}
	s.setCommitted(c, out.Pos)
	return nil
}

// tenantOf reads the tenant that an admin path names, and requires that it exists.
func (s *service) tenantOf(c *httpx.Call) (ulid.ULID, error) {
	id, err := tenant.ParseID(c.Path(httpx.TenantParam))
	if err != nil {
		return id, err
	}
	c.Info.Tenant = id.String()
	_, ok, err := s.records.Tenant(id)
	if err == nil && !ok {
		err = fault.New(fault.NotFound, "there is no tenant %s; GET /v1/admin/tenants lists those there are", id)
	}
	return id, err
}

// getConfig tells how a tenant is replicated.
func (s *service) getConfig(c *httpx.Call) (out api.TenantConfig, err error) {
	id, err := s.tenantOf(c)
	if err != nil {
		return out, err
	}
	r, _, err := s.records.Tenant(id)
	return configOf(r), err
}

func configOf(r tenant.TenantRecord) api.TenantConfig {
	return api.TenantConfig{ReplicationMode: cmp.Or(r.ReplicationMode, tenant.ActivePassive), Installed: r.ReplicationMode != ""}
}

// setConfig sets how a tenant is replicated.
func (s *service) setConfig(c *httpx.Call, in api.SetTenantConfigRequest) (out api.TenantConfig, err error) {
	id, err := s.tenantOf(c)
	if err != nil {
		return out, err
	}
	c.SetObject("tenant/" + id.String())
	err = s.administer(c, func(b *rows.Builder) error {
		raw, ok, err := b.Get(table.RecordKey(table.System, table.SpaceTenants, id[:]))
		if err != nil || !ok {
			return errors.Join(err, fmt.Errorf("tenant %s has no record", id))
		}
		record, err := tenant.DecodeTenant(raw)
		if err != nil {
			return err
		}
		if err := record.SetReplicationMode(in.ReplicationMode); err != nil {
			return err
		}
		out = configOf(record)
		if raw, err = record.Encode(); err != nil {
			return err
		}
		return b.PutRecord(table.SpaceTenants, id[:], raw, false)
	})
	return out, err
}

func (s *service) listTenants(*httpx.Call) (api.Tenants, error) {
	out := api.Tenants{Tenants: []api.Tenant{}}
	err := s.scanRecords(table.SpaceTenants, func(raw []byte) error {
		r, err := tenant.DecodeTenant(raw)
		if err == nil {
			out.Tenants = append(out.Tenants, api.Tenant{Tenant: r.ID.String(), Name: r.Name, Tier: r.Tier, Subscription: subscription(r.Subscription), CreatedAt: r.Created})
		}
		return err
	})
	return out, err
}

func (s *service) listTokens(c *httpx.Call) (api.Tokens, error) {
	out := api.Tokens{Tokens: []api.Token{}}
	owner, err := s.tenantOf(c)
	if err != nil {
		return out, err
	}
	err = s.scanRecords(table.SpaceTokens, func(raw []byte) error {
		r, err := tenant.DecodeToken(raw)
		if err != nil || r.Tenant != owner {
			return err
		}
		t := api.Token{TokenID: r.ID.String(), Kind: string(r.Kind), CreatedAt: r.Created}
		if r.IsRevoked() {
			at := r.Revoked
			t.RevokedAt = &at
		}
		out.Tokens = append(out.Tokens, t)
		return nil
	})
	return out, err
}

// scanRecords walks the instance's records of one kind, by id.
func (s *service) scanRecords(space table.Space, each func([]byte) error) (err error) {
	lower, upper := table.RecordRange(table.System, space)
	it, err := s.engine.View().Iter(lower, upper, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.Next() {
		if err := each(it.Value()); err != nil {
			return fmt.Errorf("%s record: %w", space, err)
		}
	}
	return it.Err()
}

// getReplication says where this node stands, and who follows it.
func (s *service) getReplication(*httpx.Call) (api.Replication, error) {
	a, err := s.engine.Applied()
	if err != nil {
		return api.Replication{}, err
	}
	role := s.node.now()
	durable, tail := s.engine.Durable(), s.engine.Log().Tail().Pos
	out := api.Replication{
		Role: role.Mode(), Node: s.engine.Identity().NodeID, Epoch: uint64(s.engine.Epoch()),
		LSN: uint64(tail.LSN), DurableLSN: uint64(durable), DurableEpoch: uint64(tail.Epoch), CommitLSN: uint64(s.engine.CommitLSN()),
		AppliedLSN: uint64(a.Pos.LSN), Digest: a.Digest.String(), Leader: role.Leader(),
		InSync: []string{}, Followers: []api.FollowerInfo{}, SetAside: []api.SetAside{},
	}
	for _, a := range s.engine.Aside() {
		out.SetAside = append(out.SetAside, api.SetAside{File: filepath.Base(a.Path), Epoch: uint64(a.Epoch), FirstLSN: uint64(a.First), LastLSN: uint64(a.Last)})
	}
	role.Replication(&out)
	return out, nil
}

// getTopology tells any client where the nodes are, as this one knows.
func (s *service) getTopology(*httpx.Call) (api.Topology, error) {
	out := s.node.now().Topology()
	out.Epoch = max(out.Epoch, uint64(s.engine.Epoch())) // a follower may know of one that has shown nothing yet
	if out.Followers == nil {
		out.Followers = []string{}
	}
	return out, nil
}
