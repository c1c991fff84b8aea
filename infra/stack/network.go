package stack

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
)

// Ports of a node.
const (
	httpPort        = 7400
	replicationPort = 7401
	httpsPort       = 443
)

// Network is the VPC of a region. It has no way to the internet, in or out: what nodes
// and functions need of AWS is behind endpoints.
type Network struct {
	Stack awscdk.Stack
	VPC   awsec2.Vpc
	// Subnets are isolated, one in each zone, in the order of the configuration.
	Subnets []awsec2.ISubnet
	// Members may use the endpoints: nodes, and functions in the VPC.
	Members awsec2.SecurityGroup
	// Functions is the group of functions that ask nodes over HTTP, Clients that of
	// applications in the VPC.
	Functions, Clients awsec2.SecurityGroup
	// Logs encrypts the groups of logs of the region.
	Logs awskms.Key
}

func newNetwork(app awscdk.App, c *config.Config) *Network {
	s := part(app, c, c.Region, "Network", "OriginChain: the network of a region, without a way to the internet")
	n := &Network{Stack: s}
	n.VPC = awsec2.NewVpc(s, jsii.String("VPC"), &awsec2.VpcProps{
		IpAddresses: awsec2.IpAddresses_Cidr(jsii.String(c.CIDR.String())), AvailabilityZones: list(c.Zones...), NatGateways: jsii.Number(0),
		CreateInternetGateway: jsii.Bool(false), EnableDnsHostnames: jsii.Bool(true), EnableDnsSupport: jsii.Bool(true),
		SubnetConfiguration: &[]*awsec2.SubnetConfiguration{{Name: jsii.String("Isolated"), SubnetType: awsec2.SubnetType_PRIVATE_ISOLATED, CidrMask: jsii.Number(c.SubnetBits())}},
	})
	excuse(n.VPC, "cdk-nag::VPCDefaultSecurityGroupClosed",
		"Nothing is in the default group, which lets in its own members alone; to close it would take a function that may change groups")
	n.Subnets = *n.VPC.IsolatedSubnets()
	n.logs(c)
	n.groups(c)
	n.endpoints(c)
	return n
}

// logs records who spoke with whom in the VPC.
func (n *Network) logs(c *config.Config) {
	n.Logs = newKey(n.Stack, "LogsKey", "originchain-logs", "Encrypts the logs of OriginChain")
	n.Logs.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Sid: jsii.String("LogGroups"), Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(jsii.String("logs."+c.Region+".amazonaws.com"), nil)},
		Actions: list("kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"), Resources: list("*"),
		Conditions: &map[string]any{"ArnLike": map[string]any{"kms:EncryptionContext:aws:logs:arn": []any{arn(c, "logs", "log-group:/originchain/*"), arn(c, "logs", "log-group:"+vendedLogs+"*")}}},
	}), nil)
	group := awslogs.NewLogGroup(n.Stack, jsii.String("FlowLogs"), &awslogs.LogGroupProps{
		LogGroupName: jsii.String("/originchain/network/flows"), EncryptionKey: n.Logs, Retention: logRetention(), RemovalPolicy: kept()})
	flows := n.VPC.AddFlowLog(jsii.String("Flows"), &awsec2.FlowLogOptions{Destination: awsec2.FlowLogDestination_ToCloudWatchLogs(group, nil), TrafficType: awsec2.FlowLogTrafficType_ALL})
	excuse(flows, inlineRule, inlineReason)
}

// logRetention is how long logs are kept: who looks into what happened is asked for a year.
func logRetention() awslogs.RetentionDays { return awslogs.RetentionDays_ONE_YEAR }

func (n *Network) groups(c *config.Config) {
	n.Members = n.group("Members", "May use the endpoints of AWS in this VPC")
	// Where an address is S3's or DynamoDB's is known to routes alone, and all routes
	// that leave the VPC go to endpoints.
	n.Members.AddEgressRule(awsec2.Peer_AnyIpv4(), awsec2.Port_Tcp(jsii.Number(httpsPort)), jsii.String("Endpoints: there is no other route"), nil)
	n.Functions = n.group("Functions", "Functions of the control plane, which ask nodes how they are")
	n.Clients = n.group("Clients", "Applications in this VPC, which use the HTTP API of nodes")
	inVPC := awsec2.Peer_Ipv4(jsii.String(c.CIDR.String()))
	for _, g := range []awsec2.SecurityGroup{n.Functions, n.Clients} {
		g.AddEgressRule(inVPC, awsec2.Port_Tcp(jsii.Number(httpPort)), jsii.String("HTTP API of nodes"), nil)
	}
}

// group is a security group with no rule yet.
func (n *Network) group(id, says string) awsec2.SecurityGroup {
	return awsec2.NewSecurityGroup(n.Stack, jsii.String(id), &awsec2.SecurityGroupProps{
		Vpc: n.VPC, Description: jsii.String(says), AllowAllOutbound: jsii.Bool(false)})
}

// endpoints are the ways to AWS. Those of S3 and DynamoDB lead to nothing that another
// account owns, and the others take nobody else's principals: with a node's permissions data
// cannot be put into another account.
func (n *Network) endpoints(c *config.Config) {
	for _, g := range []struct {
		id      string
		service awsec2.GatewayVpcEndpointAwsService
	}{{"S3", awsec2.GatewayVpcEndpointAwsService_S3()}, {"DynamoDB", awsec2.GatewayVpcEndpointAwsService_DYNAMODB()}} {
		n.VPC.AddGatewayEndpoint(jsii.String(g.id), &awsec2.GatewayVpcEndpointOptions{Service: g.service}).AddToPolicy(ownAccount(c))
	}
	group := n.group("Endpoints", "Endpoints of AWS in this VPC")
	group.AddIngressRule(n.Members, awsec2.Port_Tcp(jsii.Number(httpsPort)), jsii.String("Nodes and functions"), nil)
	for _, e := range []struct {
		id      string
		service awsec2.InterfaceVpcEndpointAwsService
	}{
		{"SSM", awsec2.InterfaceVpcEndpointAwsService_SSM()}, {"SSMMessages", awsec2.InterfaceVpcEndpointAwsService_SSM_MESSAGES()},
		{"EC2Messages", awsec2.InterfaceVpcEndpointAwsService_EC2_MESSAGES()}, {"EC2", awsec2.InterfaceVpcEndpointAwsService_EC2()},
		{"KMS", awsec2.InterfaceVpcEndpointAwsService_KMS()}, {"Logs", awsec2.InterfaceVpcEndpointAwsService_CLOUDWATCH_LOGS()},
		{"Monitoring", awsec2.InterfaceVpcEndpointAwsService_CLOUDWATCH_MONITORING()}, {"SecretsManager", awsec2.InterfaceVpcEndpointAwsService_SECRETS_MANAGER()},
		{"STS", awsec2.InterfaceVpcEndpointAwsService_STS()},
	} {
		n.VPC.AddInterfaceEndpoint(jsii.String(e.id), &awsec2.InterfaceVpcEndpointOptions{
			Service: e.service, Open: jsii.Bool(false), PrivateDnsEnabled: jsii.Bool(true), SecurityGroups: &[]awsec2.ISecurityGroup{group},
			Subnets: &awsec2.SubnetSelection{Subnets: &n.Subnets},
		}).AddToPolicy(ownPrincipals(c))
	}
	n.elsewhere(c, group)
}

// elsewhere adds a way to S3 of each other region that has a tenant's archive: the
// gateway leads to the region's own alone.
func (n *Network) elsewhere(c *config.Config, group awsec2.ISecurityGroup) {
	made := make(map[string]bool)
	for i := range c.Tenants {
		region := c.Tenants[i].ArchiveRegion
		if region == c.Region || made[region] {
			continue
		}
		made[region] = true
		var subnets []any
		for _, s := range n.Subnets {
			subnets = append(subnets, s.SubnetId())
		}
		awsec2.NewCfnVPCEndpoint(n.Stack, jsii.String("S3In"+region), &awsec2.CfnVPCEndpointProps{
			VpcId: n.VPC.VpcId(), VpcEndpointType: jsii.String("Interface"), ServiceName: jsii.String("com.amazonaws." + region + ".s3"), ServiceRegion: jsii.String(region),
			PrivateDnsEnabled: jsii.Bool(true), SubnetIds: &subnets,
			// By name: what S3 takes for granted would be for resolvers of other networks alone.
			DnsOptions: &awsec2.CfnVPCEndpoint_DnsOptionsSpecificationProperty{PrivateDnsOnlyForInboundResolverEndpoint: jsii.String("AllResolvers")}, SecurityGroupIds: &[]any{group.SecurityGroupId()},
			PolicyDocument: awsiam.NewPolicyDocument(&awsiam.PolicyDocumentProps{Statements: &[]awsiam.PolicyStatement{ownAccount(c)}}),
		})
	}
}

// ownAccount lets only resources of the account be used.
func ownAccount(c *config.Config) awsiam.PolicyStatement { return only(c, "aws:ResourceAccount") }

// ownPrincipals lets only who is of the account in.
func ownPrincipals(c *config.Config) awsiam.PolicyStatement { return only(c, "aws:PrincipalAccount") }

func only(c *config.Config, key string) awsiam.PolicyStatement {
	return awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Principals: &[]awsiam.IPrincipal{awsiam.NewAnyPrincipal()}, Actions: list("*"), Resources: list("*"),
		Conditions: &map[string]any{"StringEquals": map[string]any{key: c.Account}},
	})
}

// newKey is a KMS key of ours: rotated, kept when its stack goes, as it is the only way
// to what it encrypted.
func newKey(s awscdk.Stack, id, alias, says string) awskms.Key {
	key := awskms.NewKey(s, jsii.String(id), &awskms.KeyProps{
		Alias: jsii.String("alias/" + alias), Description: jsii.String(says), EnableKeyRotation: jsii.Bool(true),
		PendingWindow: awscdk.Duration_Days(jsii.Number(maxKeyWait)), RemovalPolicy: kept()})
	// A grant would give the key to whoever it names, past this policy.
	key.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Sid: jsii.String("GrantsForServicesAlone"), Effect: awsiam.Effect_DENY, Principals: &[]awsiam.IPrincipal{awsiam.NewAnyPrincipal()},
		Actions: list("kms:CreateGrant"), Resources: list("*"),
		Conditions: &map[string]any{"BoolIfExists": map[string]any{"kms:GrantIsForAWSResource": "false", "aws:PrincipalIsAWSService": "false"}},
	}), nil)
	return key
}

// maxKeyWait is how long a deletion of a key can be taken back, in days; it is the most there is.
const maxKeyWait = 30
