package stack

import (
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
)

const (
	// maxEnvBytes is what Lambda takes of an environment, names and values together.
	maxEnvBytes = 4 << 10
	// leastEphemeralMiB is what every function has of /tmp.
	leastEphemeralMiB = 512
)

// functionSpec says what a function is.
type functionSpec struct {
	// Tenant is whose it is; nil for the region's.
	Tenant *config.Tenant
	// Name is that of its directory in Options.Functions.
	Name string
	Says string
	// Env is its environment.
	Env map[string]string
	// MemoryMiB is its memory, and with it its share of a processor.
	MemoryMiB int
	Timeout   awscdk.Duration
	// InVPC puts it where nodes can be asked. What it needs of AWS is behind endpoints.
	InVPC bool
	// EphemeralMiB is the size of /tmp; 0 for the least.
	EphemeralMiB int
}

// Function is a function, and the role that it alone has.
type Function struct {
	Fn   awslambda.Function
	Role awsiam.Role
}

// functionName is that of a tenant's function; a nil tenant is the region.
func functionName(t *config.Tenant, name string) string {
	if t == nil {
		return "oc-" + name
	}
	return "oc-" + t.Name + "-" + name
}

func functionARN(c *config.Config, t *config.Tenant, name string) string {
	return arn(c, "lambda", "function:"+functionName(t, name))
}

func functionRole(c *config.Config, t *config.Tenant, name string) string {
	return functionName(t, name) + "-" + c.Region
}

// functionLogs is the group of a function's log.
func functionLogs(t *config.Tenant, name string) string {
	if t == nil {
		return "/originchain/functions/" + name
	}
	return logGroup(t) + "/functions/" + name
}

// newFunction makes a function and its role, which may write its own log and nothing else.
// No concurrency is reserved: an empty account has ten calls at once, and none to reserve.
func newFunction(s awscdk.Stack, d *Deployment, spec functionSpec) *Function {
	c := d.Config
	id := spec.Name
	log := awslogs.NewLogGroup(s, jsii.String("Logs-"+id), &awslogs.LogGroupProps{LogGroupName: jsii.String(functionLogs(spec.Tenant, spec.Name)),
		EncryptionKey: d.Network.Logs, Retention: logRetention(), RemovalPolicy: kept()})
	f := &Function{}
	f.Role = awsiam.NewRole(s, jsii.String("Role-"+id), &awsiam.RoleProps{RoleName: jsii.String(functionRole(c, spec.Tenant, spec.Name)),
		Description: jsii.String("The function " + functionName(spec.Tenant, spec.Name)), AssumedBy: awsiam.NewServicePrincipal(jsii.String("lambda.amazonaws.com"), nil)})
	allow(f.Role, "Logs", []string{arn(c, "logs", "log-group:"+functionLogs(spec.Tenant, spec.Name)+":*")}, nil, "logs:CreateLogStream", "logs:PutLogEvents")
	env := make(map[string]*string)
	size := 0
	for name, value := range spec.Env {
		env[name] = jsii.String(value)
		size += len(name) + len(value)
	}
	p := &awslambda.FunctionProps{
		FunctionName: jsii.String(functionName(spec.Tenant, spec.Name)), Description: jsii.String(spec.Says), Role: f.Role, LogGroup: log,
		Runtime: awslambda.Runtime_PROVIDED_AL2023(), Architecture: awslambda.Architecture_ARM_64(), Handler: jsii.String("bootstrap"),
		Code: awslambda.Code_FromAsset(jsii.String(d.options.Functions+"/"+spec.Name), nil), Environment: &env,
		MemorySize: jsii.Number(spec.MemoryMiB), Timeout: spec.Timeout, Tracing: awslambda.Tracing_DISABLED,
		EphemeralStorageSize: awscdk.Size_Mebibytes(jsii.Number(max(spec.EphemeralMiB, leastEphemeralMiB))),
	}
	if spec.InVPC {
		f.joinNetwork(c, d.Network, functionARN(c, spec.Tenant, spec.Name))
		p.Vpc, p.VpcSubnets = d.Network.VPC, &awsec2.SubnetSelection{Subnets: &d.Network.Subnets}
		p.SecurityGroups = &[]awsec2.ISecurityGroup{d.Network.Functions, d.Network.Members}
	}
	f.Fn = awslambda.NewFunction(s, jsii.String("Function-"+id), p)
	f.excuse(arn(c, "logs", "log-group:"+functionLogs(spec.Tenant, spec.Name)+":*"), spec.InVPC)
	if size > maxEnvBytes {
		awscdk.Annotations_Of(f.Fn).AddError(jsii.Sprintf("the environment of %s has %d bytes, and Lambda takes %d: shorten ca", functionName(spec.Tenant, spec.Name), size, maxEnvBytes))
	}
	return f
}

// joinNetwork lets Lambda, and not the function's own code, make interfaces in the VPC.
//
// What it does with one that is there is allowed of all, as there is none when it looks: it
// refuses to make a function whose role may do that with interfaces alone, or with those of a name.
func (f *Function) joinNetwork(c *config.Config, n *Network, own string) {
	var subnets []string
	for _, s := range n.Subnets {
		subnets = append(subnets, arn(c, "ec2", "subnet/"+*s.SubnetId()))
	}
	groups := []string{arn(c, "ec2", "security-group/"+*n.Functions.SecurityGroupId()), arn(c, "ec2", "security-group/"+*n.Members.SecurityGroupId())}
	interfaces := arn(c, "ec2", "network-interface/*")
	look, address, create := []string{"ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"}, []string{"ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses", "ec2:DeleteNetworkInterface"}, "ec2:CreateNetworkInterface"
	allow(f.Role, "NetworkDescribe", []string{"*"}, nil, look...)
	allow(f.Role, "NetworkInterfaces", slices.Concat(subnets, groups, []string{interfaces}), nil, create)
	allow(f.Role, "NetworkAddresses", []string{"*"}, nil, address...)
	excuseWildcard(f.Role, interfaces, "Lambda makes the function's interfaces, whose ids are not known before; the function's own code may not", "NetworkInterfaces")
	excuseWildcard(f.Role, "*", "What is described has no ARN, and Lambda asks whether it may delete an interface before there is one; the function's own code may neither", "NetworkDescribe", "NetworkAddresses")
	f.Role.AddToPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Sid: jsii.String("NotItsCode"), Effect: awsiam.Effect_DENY, Actions: list(slices.Concat(look, address, []string{create})...), Resources: list("*"),
		Conditions: &map[string]any{"ArnEquals": map[string]any{"lambda:SourceFunctionArn": own}}}))
}

// excuse says why rules about functions do not fit ours.
func (f *Function) excuse(streams string, inVPC bool) {
	excuseWildcard(f.Role, streams, "The streams of the function's own log, which Lambda names", "Logs")
	excuse(f.Fn, "cdk-nag::LambdaConcurrency", "An empty account has ten calls at once and none to reserve: a reservation would be refused")
	excuse(f.Fn, "cdk-nag::LambdaTracing", "What a call did is in its log by the request's id; traces would leave by way of a service that nothing else needs")
	excuse(f.Fn, "cdk-nag::LambdaDLQ", "Who calls it keeps what failed: a queue with one for the dead, a schedule with one, or a state machine")
	if !inVPC {
		const outside = "What it asks has no endpoint in the VPC, which has no way out: Route 53, SES and webhooks; or it asks services of AWS alone, by TLS and its role"
		excuse(f.Fn, "cdk-nag::LambdaInsideVPC", outside)
		excuse(f.Fn, "cfn-guard::lambda_inside_vpc_check", outside)
	}
}
