package writer

import (
	"encoding/json"
	"net/http"

	"originchain/shared/api"
	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/schema"
)

// registerSchema registers a manifest: 201, also for the identical one again.
func (s *service) registerSchema(c *httpx.Call) error {
	source, err := c.Body()
	if err != nil {
		return err
	}
	key, err := keyOf(c, source)
	if err != nil {
		return err
	}
	t, err := s.compileManifest(source)
	if err != nil {
		return s.orFirst(c, &key, err)
	}
	answer, err := json.Marshal(api.RegisteredSchema{ID: t.ID, Tenant: c.Identity.Tenant.String(), Version: t.Version})
	if err != nil {
		return err
	}
	out, err := s.engine.Commit(c.Context(), engine.Proposal{
		Tenant: c.Identity.Tenant,
		Build: func(b *rows.Builder) error {
			_, _, err := b.CreateTable(c.Identity.Tenant, source)
			return err
		},
		Idem: key.engine(http.StatusCreated, func(lsn.Pos) []byte { return answer }),
	})
	if err != nil {
		return err
	}
	if out.Stored != nil {
		return s.sendStored(c, out.Stored)
	}
	s.setCommitted(c, out.Pos)
	return c.Send(http.StatusCreated, api.ContentTypeJSON, answer)
}

// compileManifest finds every fault of a manifest that needs no state, its
// check constraints included, before the sequencer is asked.
func (s *service) compileManifest(source []byte) (*schema.Table, error) {
	m, err := schema.ParseManifest(source)
	if err != nil {
		return nil, err
	}
	t, err := schema.Compile(m)
	if err != nil {
		return nil, err
	}
	_, err = s.compiler.CompileChecks(t)
	return t, err
}

// listSchemas names the tenant's tables, in order.
func (s *service) listSchemas(c *httpx.Call) ([]string, error) {
	if err := s.awaitPosition(c); err != nil {
		return nil, err
	}
	cat, err := s.engine.Catalog(c.Identity.Tenant)
	if err != nil {
		return nil, err
	}
	at, err := s.readPosition(0)
	c.SetPosition(at)
	return append([]string{}, cat.Names()...), err
}

// getSchema is the manifest as it was registered.
func (s *service) getSchema(c *httpx.Call) error {
	if err := s.awaitPosition(c); err != nil {
		return err
	}
	cat, err := s.engine.Catalog(c.Identity.Tenant)
	if err != nil {
		return err
	}
	at, err := s.readPosition(0)
	if err != nil {
		return err
	}
	c.SetPosition(at)
	t, ok := cat.Lookup(c.Path("schema"))
	if !ok {
		return fault.New(fault.NotFound, "the tenant has no table %q; GET /v1/tenants/%s/schemas lists those it has", clip(c.Path("schema")), c.Identity.Tenant)
	}
	return c.Send(http.StatusOK, api.ContentTypeText, []byte(t.Source))
}
