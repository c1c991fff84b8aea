// Package stack is the deployment as CloudFormation stacks, made with the CDK: one file
// per stack. A region has the network and the control plane's tables; each tenant has an
// archive and an instance. Nothing here asks an account anything: what a stack needs to
// know is in the configuration.
package stack

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
)

// Names of stacks begin with it, and so do those of a tenant's SSM documents.
const prefix = "OriginChain-"

// instanceTag is on whatever is one tenant's.
const instanceTag = "originchain:instance"

// Options are what is deployed.
type Options struct {
	// Binaries has the programs of nodes in a directory for each architecture,
	// linux-arm64 and linux-amd64.
	Binaries string
	// Functions has a directory for each function, with its bootstrap.
	Functions string
}

// Deployment is every stack of a region.
type Deployment struct {
	Config  *config.Config
	Network *Network
	Control *Control
	Status  *Status
	// Pipeline is nil where none is asked for.
	Pipeline *Pipeline
	Tenants  []*Tenant

	app     awscdk.App
	options Options
}

// Stacks are all of them.
func (d *Deployment) Stacks() (all []awscdk.Stack) {
	for _, c := range *d.app.Node().Children() {
		if s, ok := c.(awscdk.Stack); ok {
			all = append(all, s)
		}
	}
	return all
}

// Tenant is what one tenant has.
type Tenant struct {
	Archive       *Archive
	Instance      *Instance
	Failover      *Failover
	DNS           *DNS
	Verification  *Verification
	Observability *Observability
}

// Build adds the stacks to an app.
func Build(app awscdk.App, c *config.Config, o Options) *Deployment {
	// The VPC would ask the account for its zones, whatever it is told of them.
	zones := make([]any, 0, len(c.Zones))
	for _, z := range c.Zones {
		zones = append(zones, z)
	}
	app.Node().SetContext(jsii.String("availability-zones:account="+c.Account+":region="+c.Region), &zones)
	awscdk.Tags_Of(app).Add(jsii.String("originchain:region"), jsii.String(c.Region), nil)

	// Another set of zones would be another set of volumes: they are said, and not found.
	acknowledge(app, "CloudFormation-Validate::W3010", "Volumes and interfaces of a node stay in the zone that the configuration names")
	d := &Deployment{Config: c, app: app, options: o}
	d.Network = newNetwork(app, c)
	d.Control = newControl(app, c)
	d.Status = newStatus(app, d)
	if c.Pipeline != nil {
		d.Pipeline = newPipeline(app, c)
	}
	for i := range c.Tenants {
		d.Tenants = append(d.Tenants, d.tenant(app, &c.Tenants[i], o))
	}
	return d
}

func (d *Deployment) tenant(app awscdk.App, t *config.Tenant, o Options) *Tenant {
	out := &Tenant{Archive: newArchive(app, d.Config, t)}
	out.Instance = newInstance(app, d, t, out.Archive, o)
	out.Failover = newFailover(app, d, t, out.Instance)
	out.DNS = newDNS(app, d, t, out.Instance)
	out.Verification = newVerification(app, d, t, out.Instance)
	out.Observability = newObservability(app, d, t)
	// The age of the last verification is an alarm's, which fires where nobody publishes it.
	out.Observability.Stack.AddStackDependency(out.Verification.Stack, nil)
	return out
}

// part is a stack of the deployment in a region.
func part(app awscdk.App, c *config.Config, region, name, says string) awscdk.Stack {
	return awscdk.NewStack(app, jsii.String(prefix+name), &awscdk.StackProps{
		Env: &awscdk.Environment{Account: jsii.String(c.Account), Region: jsii.String(region)}, Description: jsii.String(says),
		// Data outlives a slip of the hand: it takes a console or a flag to undo.
		TerminationProtection: jsii.Bool(true),
	})
}

// kept has what holds data, or has a name of its own, stay when its stack goes or replaces it.
// What a deployment has made that fails goes with it: it holds nothing, and the next one could
// make no other of its name.
func kept() awscdk.RemovalPolicy { return awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE }

// acknowledge says why a rule that objects to a part does not fit it.
func acknowledge(part constructs.IConstruct, rule, reason string) {
	awscdk.Validations_Of(part).Acknowledge(&awscdk.Acknowledgment{Id: jsii.String(rule), Reason: jsii.String(reason)})
}

// own tags everything of a stack, or of a part of one, as one tenant's.
func own(s constructs.IConstruct, t *config.Tenant) {
	awscdk.Tags_Of(s).Add(jsii.String(instanceTag), jsii.String(t.Name), nil)
}

// nodeRole and the like are names of roles, which are an account's and not a region's:
// so they carry the region. They are fixed, as the policies of buckets and keys in other
// stacks name them.
func nodeRole(c *config.Config, t *config.Tenant) string      { return roleName(c, t, "node") }
func restoreRole(c *config.Config, t *config.Tenant) string   { return roleName(c, t, "restore") }
func retentionRole(c *config.Config, t *config.Tenant) string { return roleName(c, t, "retention") }
func erasureRole(c *config.Config, t *config.Tenant) string   { return roleName(c, t, "erasure") }

func roleName(c *config.Config, t *config.Tenant, what string) string {
	return "oc-" + t.Name + "-" + what + "-" + c.Region
}

// roleARN is the ARN of a role of the account.
func roleARN(c *config.Config, name string) string {
	return "arn:aws:iam::" + c.Account + ":role/" + name
}

// arn is the ARN of a resource in the region.
func arn(c *config.Config, service, resource string) string {
	return strings.Join([]string{"arn:aws", service, c.Region, c.Account, resource}, ":")
}

// list is a list as the CDK takes it.
func list(of ...string) *[]*string { return jsii.Strings(of...) }

// AppProps are those of every app: features of the CDK that changed how templates look
// are set here, so that a test and the command line make the same ones.
func AppProps() *awscdk.AppProps {
	return &awscdk.AppProps{AnalyticsReporting: jsii.Bool(false), StackTraces: jsii.Bool(false),
		// Traces would be of the library's code, with the name of a temporary directory.
		PostCliContext: &map[string]any{"aws:cdk:disable-creation-stack-traces": true},
		Context: &map[string]any{
			"@aws-cdk/aws-ec2:restrictDefaultSecurityGroup":        false,
			"@aws-cdk/aws-iam:minimizePolicies":                    true,
			"@aws-cdk/aws-kms:reduceCrossAccountRegionPolicyScope": true,
			"@aws-cdk/aws-s3:publicAccessBlockedByDefault":         true,
			"@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy":      true,
			"@aws-cdk/core:checkSecretUsage":                       true,
			"@aws-cdk/core:defaultCrossStackReferences":            "strong",
			"@aws-cdk/core:enablePartitionLiterals":                true,
			"@aws-cdk/core:validateAgainstDefaultRules":            true,
			"@aws-cdk/core:validateSnapshotRemovalPolicy":          true,
		}}
}
