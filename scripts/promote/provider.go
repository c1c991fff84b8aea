package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/failover"
	"originchain/shared/lease/leaseopen"
	"originchain/shared/registry"
)

// providers open the outside of a failover, by --provider; zone is the name in DNS.
type providers map[string]func(ctx context.Context, o *options) (d failover.Deps, zone string, err error)

func reach() providers {
	return providers{"local": func(ctx context.Context, o *options) (failover.Deps, string, error) { return local(ctx, o, supervisor) }, "aws": onAWS}
}

// onAWS refuses: the adapters are not in this build.
func onAWS(context.Context, *options) (failover.Deps, string, error) {
	return failover.Deps{}, "", errors.New("--provider aws needs the adapters to SSM (instance control), Route 53 (DNS) and DynamoDB (registry), which this build does not have; nothing was done. Use --provider local under oc-control")
}

// endpoints is what this command reads of <dir>/endpoints.json.
type endpoints struct {
	AdminTokenFile string `json:"admin_token_file"`
	// Control is the URL of the lease record, Zone the instance's name in DNS.
	Control string `json:"control"`
	Zone    string `json:"zone"`
	// Supervisor is the URL of oc-control's instance control.
	Supervisor string `json:"supervisor"`
}

// local opens what oc-control keeps in its directory.
func local(ctx context.Context, o *options, machines func(endpoints, string) (failover.Control, failover.DNS, error)) (d failover.Deps, zone string, err error) {
	if o.dir == "" {
		return d, "", errUsage{errors.New("--dir: say which directory oc-control runs in")}
	}
	var at endpoints
	file := filepath.Join(o.dir, "endpoints.json")
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &at)
	}
	if err != nil {
		return d, "", fmt.Errorf("read %s: %w; is oc-control up in %s?", file, err, o.dir)
	}
	if at.AdminTokenFile == "" || at.Control == "" {
		return d, "", fmt.Errorf("%s names no admin_token_file or no control (the URL of the lease record): start oc-control of this version there", file)
	}
	secret, err := os.ReadFile(at.AdminTokenFile)
	if err != nil {
		return d, "", fmt.Errorf("read the admin token: %w", err)
	}
	d.AdminToken = strings.TrimSpace(string(secret))
	if d.Control, d.DNS, err = machines(at, d.AdminToken); err != nil {
		return d, "", err
	}
	if d.Lease, err = leaseopen.Open(ctx, vfs.Default, at.Control); err != nil {
		return d, "", err
	}
	if d.Registry, err = registry.OpenFolder(vfs.Default, filepath.Join(o.dir, "registry")); err != nil {
		return d, "", err
	}
	d.HTTP = &http.Client{}
	return d, at.Zone, nil
}

// supervisor reaches the instance control and the DNS of oc-control. It is the one place
// to put their client: until there is one, a failover by this command is refused, since
// without a stop that is confirmed it would only ever be a slow one.
func supervisor(at endpoints, _ string) (failover.Control, failover.DNS, error) {
	return nil, nil, fmt.Errorf("this build cannot reach the supervisor of oc-control (%q) from another process; nothing was done", at.Supervisor)
}
