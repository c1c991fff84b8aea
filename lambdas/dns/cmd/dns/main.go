// Dns is the function that points the writer's name at a new writer.
package main

import (
	"context"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/awsenv"
	"originchain/lambdas/dns"
	"originchain/shared/aws/route53dns"
	"originchain/shared/failover"
)

func main() {
	awsenv.Main(awsenv.Function{Name: "dns", Needs: []string{awsenv.Instance, awsenv.Leases, awsenv.Registry, awsenv.ZoneID, awsenv.Record}, Open: open})
}

func open(ctx context.Context, e *awsenv.Env, _ *logrus.Logger) (awsenv.Handler, error) {
	leases, err := e.Lease(ctx)
	if err != nil {
		return nil, err
	}
	documents, err := e.Documents(ctx, awsenv.Registry)
	if err != nil {
		return nil, err
	}
	zone, err := route53dns.New(ctx, route53dns.Config{Zone: e.Get(awsenv.ZoneID)})
	if err != nil {
		return nil, err
	}
	return awsenv.Payload(dns.New(failover.Deps{Lease: leases, Registry: documents, DNS: zone}, e.Get(awsenv.Record)).Handle), nil
}
