// Package nodes is how functions reach an instance: its machines by SSM, its nodes over
// HTTP, its name in Route 53.
package nodes

import (
	"context"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"originchain/lambdas/awsenv"
	"originchain/shared/aws/route53dns"
	"originchain/shared/aws/secret"
	"originchain/shared/aws/session"
	"originchain/shared/aws/ssmcontrol"
	"originchain/shared/failover"
	"originchain/writer/config"
)

// Needs and May are the variables that Open reads.
func Needs() []string {
	return []string{awsenv.Instance, awsenv.Leases, awsenv.Registry, awsenv.DocumentPrefix, awsenv.AdminTokenSecret}
}

// May are those that an instance without a name in DNS, or whose nodes the system's own
// authorities vouch for, has not.
func May() []string { return []string{awsenv.Record, awsenv.ZoneID, awsenv.CA} }

// Answer answers a call, with what a failover of the instance works with.
type Answer func(ctx context.Context, d failover.Deps, c awsenv.Call) (any, error)

// Function is one that reaches an instance; open makes what answers its calls.
func Function(name string, open func(ctx context.Context, e *awsenv.Env) (Answer, error)) awsenv.Function {
	return awsenv.Function{Name: name, Needs: Needs(), May: May(), Open: func(ctx context.Context, e *awsenv.Env, _ *logrus.Logger) (awsenv.Handler, error) {
		i, err := Open(ctx, e)
		if err != nil {
			return nil, err
		}
		answer, err := open(ctx, e)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, c awsenv.Call) (any, error) {
			deps, err := i.Deps(ctx)
			if err != nil {
				return nil, err
			}
			return answer(ctx, deps, c)
		}, nil
	}}
}

// Instance reaches one.
type Instance struct {
	deps  failover.Deps
	token *secret.Secret
}

// Open opens what reaches the instance of an environment. Nothing is sent.
func Open(ctx context.Context, e *awsenv.Env) (*Instance, error) {
	i := &Instance{}
	var err error
	if i.deps.Lease, err = e.Lease(ctx); err != nil {
		return nil, err
	}
	if i.deps.Registry, err = e.Documents(ctx, awsenv.Registry); err != nil {
		return nil, err
	}
	if i.deps.Control, err = ssmcontrol.New(ctx, ssmcontrol.Config{Prefix: e.Get(awsenv.DocumentPrefix)}, i.deps.Lease); err != nil {
		return nil, err
	}
	if zone := e.Get(awsenv.ZoneID); zone != "" {
		if i.deps.DNS, err = route53dns.New(ctx, route53dns.Config{Zone: zone}); err != nil {
			return nil, err
		}
	}
	cfg, err := session.Load(ctx, session.Config{})
	if err != nil {
		return nil, err
	}
	i.token = secret.New(cfg, e.Get(awsenv.AdminTokenSecret))
	i.deps.HTTP = failover.NodesClient(e.Roots(), awsenv.CA)
	i.deps.Flags = flags()
	return i, nil
}

// Deps are what a failover of the instance works with: the token is read when it is not
// known, or was for long.
func (i *Instance) Deps(ctx context.Context) (failover.Deps, error) {
	d := i.deps
	var err error
	d.AdminToken, err = i.token.Value(ctx)
	return d, err
}

// flags says of the flags of oc-server whether they take a value.
func flags() func(name string) (takesValue, known bool) {
	set := pflag.NewFlagSet("oc-server", pflag.ContinueOnError)
	config.Register(set)
	return func(name string) (takesValue, known bool) {
		f := set.Lookup(name)
		return f != nil && f.NoOptDefVal == "", f != nil
	}
}
