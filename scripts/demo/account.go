package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/oklog/ulid/v2"

	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/shared/fault"
)

// record is what the demo remembers between runs. The token has a file of its own.
type record struct {
	Tenant string `json:"tenant"`
}

// enter makes d.client act for the demo's tenant: the one of an earlier run
// when it is still there, else a new one. The tenant's id is written down
// before the tenant is made, so that a run cut short never leaves a second one.
func (d *demo) enter(ctx context.Context) error {
	rec, err := d.readRecord()
	if err != nil {
		return err
	}
	d.tenant = rec.Tenant
	token, err := readToken(d.token)
	if err != nil {
		return err
	}
	d.client = &call.Client{URL: d.pair.writer.URL(), Token: token}
	if token != "" && d.client.Get(ctx, "/v1/tenants/"+d.tenant+"/usage", nil) == nil {
		d.sayf("Going on with tenant %s.\n", d.tenant)
		return nil
	}
	if d.client.Token, err = d.newToken(ctx); err != nil {
		return err
	}
	return writeFile(d.token, d.client.Token+"\n")
}

func (d *demo) readRecord() (record, error) {
	var rec record
	b, err := os.ReadFile(d.record)
	if err == nil {
		if err = json.Unmarshal(b, &rec); err == nil {
			_, err = ulid.ParseStrict(rec.Tenant)
		}
		if err != nil {
			return rec, fmt.Errorf("%s is damaged: %w; remove it, and the demo makes a new tenant", d.record, err)
		}
		return rec, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return rec, err
	}
	rec.Tenant = ulid.MustNew(ulid.Now(), rand.Reader).String()
	if b, err = json.Marshal(rec); err != nil {
		return rec, err
	}
	return rec, writeFile(d.record, string(b)+"\n")
}

// newToken creates the tenant, or mints a token where only the token is lost.
func (d *demo) newToken(ctx context.Context) (string, error) {
	adminToken, err := readToken(d.adminToken)
	if err != nil {
		return "", err
	}
	admin := &call.Client{URL: d.pair.writer.URL(), Token: adminToken}
	var made api.CreatedTenant
	err = admin.JSON(ctx, http.MethodPost, "/v1/admin/tenants", api.CreateTenantRequest{Tenant: d.tenant, Name: "demo"}, &made)
	if err == nil {
		d.sayf("Created tenant %s.\n", d.tenant)
		return made.Token, nil
	}
	if call.Code(err) != string(fault.AlreadyExists) {
		return "", fmt.Errorf("create the demo's tenant: %w", err)
	}
	var minted api.MintedToken
	if err := admin.JSON(ctx, http.MethodPost, "/v1/admin/tenants/"+d.tenant+"/tokens", api.MintTokenRequest{}, &minted); err != nil {
		return "", fmt.Errorf("make a new token for the demo's tenant: %w", err)
	}
	d.sayf("Going on with tenant %s, with a new token.\n", d.tenant)
	return minted.Token, nil
}

// readToken reads a token file; an absent one is the empty token.
func readToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read a token: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// writeFile replaces a file that only its owner may read. It is written whole
// under another name first: a demo cut short leaves the old one or the new one.
func writeFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}
