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
	"originchain/shared/aws/session"
	"originchain/shared/aws/settings"
	"originchain/shared/cli"
	"originchain/shared/failover"
	"originchain/shared/instance"
	"originchain/shared/lease/leaseopen"
	"originchain/shared/registry"
)

// providers open the outside of a failover, by --provider; zone is the name in DNS.
type providers map[string]func(ctx context.Context, o *options) (d failover.Deps, zone string, err error)

// providerAWS is the one whose machines nobody supervises but their own service manager.
const providerAWS = "aws"

func reach() providers { return providers{"local": local, providerAWS: onAWS} }

// onAWS opens what the deployment of an instance has left of it.
func onAWS(ctx context.Context, o *options) (d failover.Deps, zone string, err error) {
	switch {
	case o.dir != "":
		return d, "", cli.Usage(errors.New("--dir is for --provider local"))
	case o.instance == "":
		return d, "", cli.Usage(errors.New("--instance: say which instance is meant"))
	}
	if err := instance.CheckName(o.instance); err != nil {
		return d, "", cli.Usage(err)
	}
	c := session.Config{Region: o.region}
	s, err := settings.Load(ctx, c, o.instance)
	if err != nil {
		return d, "", err
	}
	d, err = s.Open(ctx, c)
	return d, s.Record, err
}

// local opens what oc-control keeps in its directory, and reaches its supervisor and its
// DNS server, so that both have one owner.
func local(ctx context.Context, o *options) (d failover.Deps, zone string, err error) {
	switch {
	case o.instance != "" || o.region != "":
		return d, "", cli.Usage(errors.New("--instance and --region are for --provider aws"))
	case o.dir == "":
		return d, "", cli.Usage(errors.New("--dir: say which directory oc-control runs in"))
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
