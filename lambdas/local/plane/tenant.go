package plane

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"

	"github.com/oklog/ulid/v2"

	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/shared/fault"

	"originchain/lambdas/local/layout"
)

// ensureTenant makes the instance's one empty tenant, or a new token for it where only
// the token was lost. The id is written down first: a kill leaves no second tenant.
func (p *Plane) ensureTenant(ctx context.Context, admin *call.Client) error {
	if err := p.nameTenant(); err != nil {
		return err
	}
	if _, err := os.Stat(p.dir.TenantToken()); err == nil {
		return nil
	}
	token, err := newToken(ctx, admin, p.in.Tenant)
	if err != nil {
		return fmt.Errorf("make the instance's tenant: %w", err)
	}
	return layout.WriteFile(p.dir.TenantToken(), []byte(token+"\n"))
}

func (p *Plane) nameTenant() error {
	p.tenant.Lock()
	defer p.tenant.Unlock()
	if p.in.Tenant != "" {
		return nil
	}
	p.in.Tenant = ulid.MustNew(ulid.Now(), rand.Reader).String()
	return p.dir.Save(p.in)
}

// saveEndpoints writes where the instance is reached, once it has a tenant.
func (p *Plane) saveEndpoints(writer string) error {
	p.tenant.Lock()
	defer p.tenant.Unlock()
	if p.in.Tenant == "" {
		return nil // nobody has endpoints yet
	}
	return p.dir.SaveEndpoints(p.in, writer)
}

func newToken(ctx context.Context, admin *call.Client, tenant string) (string, error) {
	var made api.CreatedTenant
	err := admin.JSON(ctx, http.MethodPost, "/v1/admin/tenants", api.CreateTenantRequest{Tenant: tenant, Name: "local"}, &made)
	if err == nil || call.Code(err) != string(fault.AlreadyExists) {
		return made.Token, err
	}
	var minted api.MintedToken
	err = admin.JSON(ctx, http.MethodPost, "/v1/admin/tenants/"+tenant+"/tokens", api.MintTokenRequest{}, &minted)
	return minted.Token, err
}
