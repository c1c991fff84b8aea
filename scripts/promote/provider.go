package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/lambdas/local/control"
	"originchain/lambdas/local/layout"
	"originchain/lambdas/local/supervise"
	"originchain/shared/failover"
	"originchain/shared/lease/leaseopen"
	"originchain/shared/registry"
)

// providers open the outside of a failover, by --provider; zone is the name in DNS.
type providers map[string]func(ctx context.Context, o *options) (d failover.Deps, zone string, err error)

func reach() providers { return providers{"local": local, "aws": onAWS} }

// onAWS refuses: the adapters are not in this build.
func onAWS(context.Context, *options) (failover.Deps, string, error) {
	return failover.Deps{}, "", errors.New("--provider aws needs the adapters to SSM (instance control), Route 53 (DNS) and DynamoDB (registry), which this build does not have; nothing was done. Use --provider local under oc-control")
}

// local opens what oc-control keeps in its directory, and reaches its supervisor and its
// DNS server, so that both have one owner.
func local(ctx context.Context, o *options) (d failover.Deps, zone string, err error) {
	if o.dir == "" {
		return d, "", errUsage{errors.New("--dir: say which directory oc-control runs in")}
	}
	dir, err := layout.Open(o.dir)
	if err != nil {
		return d, "", err
	}
	in, err := dir.Load()
	if err == nil && in == nil {
		err = fmt.Errorf("there is no instance in %s; is oc-control up there?", string(dir))
	}
	if err != nil {
		return d, "", err
	}
	if d.AdminToken, err = layout.Secret(dir.AdminToken()); err != nil {
		return d, "", err
	}
	if d.Lease, err = leaseopen.Open(ctx, vfs.Default, dir.LeaseURL(in)); err != nil {
		return d, "", err
	}
	if d.Registry, err = registry.OpenFolder(vfs.Default, dir.Registry()); err != nil {
		return d, "", err
	}
	d.Control = supervise.NewClient("http://"+in.MachinesAddress(), dir.AdminToken(), nil)
	d.DNS = control.NewClient(dir.Socket())
	d.HTTP = &http.Client{}
	return d, in.Name, nil
}
