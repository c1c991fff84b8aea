// Package nodes is how functions reach an instance: its machines by SSM, its nodes over
// HTTP, its name in Route 53.
package nodes

import (
	"context"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/awsenv"
	"originchain/shared/aws/secret"
	"originchain/shared/aws/session"
	"originchain/shared/aws/settings"
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
	leases, err := e.Lease(ctx)
	if err != nil {
		return nil, err
	}
	documents, err := e.Documents(ctx, awsenv.Registry)
	if err != nil {
		return nil, err
	}
	s := settings.Settings{Documents: e.Get(awsenv.DocumentPrefix), ZoneID: e.Get(awsenv.ZoneID), AdminSecret: e.Get(awsenv.AdminTokenSecret), CA: e.Get(awsenv.CA)}
	i := &Instance{}
	if i.deps, i.token, err = s.Reach(ctx, session.Config{}, leases, documents, awsenv.CA); err != nil {
		return nil, err
	}
	i.deps.Flags = config.Known()
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
