package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"originchain/shared/alarms"
	"originchain/shared/aws/cwmetrics"
	"originchain/shared/aws/ec2machine"
	"originchain/shared/aws/session"
	"originchain/shared/cli"
	"originchain/shared/lease"
	"originchain/shared/lease/leaseopen"
	"originchain/shared/registry/registryopen"
	"originchain/writer/agent"
	"originchain/writer/machine"
)

// agentOptions are the flags of agent, each with its environment variable.
type agentOptions struct{ unit, instance, registry, region string }

func (p program) agent() *cobra.Command {
	var o agentOptions
	cmd := &cobra.Command{
		Use: "agent --unit NAME --instance NAME --registry URL", Short: "Register the node, and tell CloudWatch every 10 seconds how it does",
		Long: "Register the node in the instance's registry, and put into CloudWatch every 10 seconds a heartbeat and what the\n" +
			"instance's alarms read, of /health, /ready and /metrics. It ends on SIGTERM or SIGINT.",
	}
	f := cmd.Flags()
	for _, flag := range []struct {
		at                   *string
		name, env, def, help string
	}{
		{&o.unit, "unit", "OC_UNIT", "oc-http.service", "the server's unit"},
		{&o.instance, "instance", "OC_INSTANCE", "", "the instance's name, which its metrics carry"},
		{&o.registry, "registry", "OC_REGISTRY", "", "the instance's registry, such as dynamodb://table/name?region=eu-central-1"},
		{&o.region, "region", "AWS_REGION", "", "the region of CloudWatch"},
	} {
		def := flag.def
		if v, ok := p.lookupEnv(flag.env); ok && v != "" {
			def = v
		}
		f.StringVar(flag.at, flag.name, def, flag.help+" ["+flag.env+"]")
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return p.runAgent(cmd.Context(), &o) }
	return cmd
}

func (p program) runAgent(ctx context.Context, o *agentOptions) error {
	m, err := machine.New(o.unit, p.etc, p.run)
	if err != nil {
		return cli.Usage(fmt.Errorf("--unit: %w", err))
	}
	if o.instance == "" || o.registry == "" {
		return cli.Usage(errors.New("--instance and --registry: say of which instance the node is, and where nodes are registered"))
	}
	reg, err := registryopen.Open(ctx, vfs.Default, o.registry)
	if err != nil {
		return cli.Usage(fmt.Errorf("--registry: %w", err))
	}
	metrics, err := cwmetrics.New(ctx, alarms.Namespace(o.instance), session.Config{Region: o.region})
	if err != nil {
		return cli.Usage(err)
	}
	log := logrus.New()
	log.SetOutput(p.stderr)
	log.SetFormatter(&logrus.JSONFormatter{})
	a, err := agent.New(o.instance, agent.Deps{
		Log: log, Registry: reg, Publisher: metrics, Server: m.Config,
		Lease: func(ctx context.Context, control string) (lease.Store, error) {
			return leaseopen.Open(ctx, vfs.Default, control)
		},
		Machine: func(ctx context.Context) (ec2machine.Machine, error) { return ec2machine.Identify(ctx, "") },
	})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}
