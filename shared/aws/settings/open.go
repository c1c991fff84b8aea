package settings

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/url"

	"originchain/shared/aws/ddblease"
	"originchain/shared/aws/ddbregistry"
	"originchain/shared/aws/route53dns"
	"originchain/shared/aws/secret"
	"originchain/shared/aws/session"
	"originchain/shared/aws/ssmcontrol"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/registry"
)

// Open makes the outside of a failover: the stores, the machines by SSM, the name by
// Route 53, and the admin token, which is read. Flags and Observer are the caller's.
func (s Settings) Open(ctx context.Context, c session.Config) (d failover.Deps, err error) {
	if err := s.Check(); err != nil {
		return d, fmt.Errorf("the settings of %s: %w", s.Instance, err)
	}
	c.Region = s.Region
	table, err := s.table(s.Leases, c)
	if err != nil {
		return d, err
	}
	leases, err := ddblease.New(ctx, table)
	if err != nil {
		return d, err
	}
	if table, err = s.table(s.Registry, c); err != nil {
		return d, err
	}
	documents, err := ddbregistry.New(ctx, table)
	if err != nil {
		return d, err
	}
	d, token, err := s.Reach(ctx, c, leases, documents, "ca of the parameter "+Parameter(s.Instance))
	if err != nil {
		return d, err
	}
	d.AdminToken, err = token.Value(ctx)
	return d, err
}

// Reach makes the outside of a failover over stores that are open, all but the admin
// token, whose secret it is with. Nothing is sent. Of the settings it takes those of the
// documents, the zone, the secret and the certificates, which known names where a node is
// none of theirs.
func (s Settings) Reach(ctx context.Context, c session.Config, leases lease.Store, documents registry.Store, known string) (d failover.Deps, token *secret.Secret, err error) {
	d.Lease, d.Registry = leases, documents
	if d.Control, err = ssmcontrol.New(ctx, ssmcontrol.Config{Prefix: s.Documents, Config: c}, leases); err != nil {
		return d, nil, err
	}
	if s.ZoneID != "" {
		if d.DNS, err = route53dns.New(ctx, route53dns.Config{Zone: s.ZoneID, Config: c}); err != nil {
			return d, nil, err
		}
	}
	loaded, err := session.Load(ctx, c)
	if err != nil {
		return d, nil, err
	}
	loaded.BaseEndpoint = c.Base(loaded.BaseEndpoint)
	token = secret.New(loaded, s.AdminSecret)
	d.HTTP = failover.AnyToken(failover.NodesClient(s.roots(), known), token.Other)
	return d, token, nil
}

// table is the store of a URL; what the session says goes before what the URL leaves out.
func (s Settings) table(raw string, c session.Config) (ddblease.Config, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return ddblease.Config{}, ddblease.ErrURL
	}
	out, err := ddblease.Parse(u)
	if out.Region == "" {
		out.Region = c.Region
	}
	out.Credentials = c.Credentials
	return out, err
}

// roots are the certificates that nodes are known by; nil for the system's own.
func (s Settings) roots() *x509.CertPool {
	if s.CA == "" {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(s.CA)) // checked by Check
	return pool
}
