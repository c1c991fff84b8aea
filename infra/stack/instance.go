package stack

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsautoscaling"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsroute53"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3assets"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
)

const (
	// rootGiB is the size of the volume that a machine boots from; nothing on it is kept.
	rootGiB = 16
	// recordSeconds is the TTL of DNS records.
	recordSeconds = 60
)

// Instance is a tenant's writer and followers.
//
// A node is two volumes and a network interface, which stay, and a machine, which does
// not: a group of one starts another in the same zone when it fails, and the new one
// takes the volumes and the interface over. So the address of a node is fixed, and a
// deployment touches no machine that runs: what it changed, a machine has from its next
// start on, when the operator chooses.
type Instance struct {
	Stack awscdk.Stack
	// Nodes is the group of the nodes: nothing may speak to them but what its rules name.
	Nodes awsec2.SecurityGroup
	// Role is what the machines may do.
	Role awsiam.Role
	// Key encrypts the volumes.
	Key awskms.IKey
	// Logs is where the logs of the nodes go.
	Logs awslogs.LogGroup
	// Node are the nodes, the first writer first.
	Node []*Node
}

// Node is one node of an instance.
type Node struct {
	ID string
	// Name is its name in the tenant's zone, Address its fixed private address.
	Name, Address string
	// Interface and volumes outlive the machine.
	Interface  awsec2.CfnNetworkInterface
	State, Log awsec2.Volume
	// Machine starts the machine anew when it fails.
	Machine awsautoscaling.CfnAutoScalingGroup
}

func newInstance(app awscdk.App, d *Deployment, t *config.Tenant, a *Archive, o Options) *Instance {
	s := part(app, d.Config, d.Config.Region, t.Name+"-Instance", "OriginChain: the nodes of instance "+t.Name)
	own(s, t)
	in := &Instance{Stack: s}
	s.AddStackDependency(a.Stack, nil)
	in.key(d.Config, t)
	in.Logs = awslogs.NewLogGroup(s, jsii.String("Logs"), &awslogs.LogGroupProps{LogGroupName: jsii.String(logGroup(t)), EncryptionKey: d.Network.Logs,
		Retention: logRetention(), RemovalPolicy: kept()})
	in.group(d)
	binaries := awss3assets.NewAsset(s, jsii.String("Binaries"), &awss3assets.AssetProps{Path: jsii.String(o.Binaries + "/linux-" + string(t.Architecture))})
	for i, id := range t.Nodes() {
		in.Node = append(in.Node, in.node(d, t, i, id))
	}
	in.role(d, t, a, binaries)
	profile := awsiam.NewInstanceProfile(s, jsii.String("Profile"), &awsiam.InstanceProfileProps{Role: in.Role})
	for i, n := range in.Node {
		in.machine(d, t, i, n, profile, in.userData(d, t, a, i, binaries))
	}
	return in
}

// logGroup is where the logs of a tenant's nodes go.
func logGroup(t *config.Tenant) string { return "/originchain/" + t.Name }

// key is the tenant's own, or one of the instance's.
func (in *Instance) key(c *config.Config, t *config.Tenant) {
	if t.KeyARN != "" {
		in.Key = awskms.Key_FromKeyArn(in.Stack, jsii.String("Key"), jsii.String(t.KeyARN))
		// A key that is not of these stacks has a policy that they cannot write.
		text, err := json.Marshal(machinesOfGroups(c))
		if err != nil {
			panic(fmt.Sprintf("the statements about %s: %v", t.KeyARN, err)) // texts alone
		}
		awscdk.NewCfnOutput(in.Stack, jsii.String("KeyPolicyNeeded"), &awscdk.CfnOutputProps{Value: jsii.String(string(text)),
			Description: jsii.String("Statements that the policy of key_arn must have, or no machine starts")})
		return
	}
	key := newKey(in.Stack, "Key", "originchain-"+t.Name+"-volumes", "Encrypts the volumes of OriginChain instance "+t.Name)
	for _, s := range machinesOfGroups(c) {
		key.AddToResourcePolicy(awsiam.PolicyStatement_FromJson(s), nil)
	}
	in.Key = key
}

// machinesOfGroups lets the service that starts machines encrypt their disks, which it
// does in a role of its own that may use no key by itself: the key's policy has to name
// it. It does by a condition, as an empty account does not have that role yet, and a
// principal that is not there would be refused. To name the account would be to leave it
// to the role's own policy.
func machinesOfGroups(c *config.Config) []map[string]any {
	const service = "aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
	statement := func(sid string, more map[string]any, actions ...any) map[string]any {
		conditions := map[string]any{"StringEquals": map[string]any{"kms:CallerAccount": c.Account}, "ArnEquals": map[string]any{"aws:PrincipalArn": roleARN(c, service)}}
		maps.Copy(conditions, more)
		return map[string]any{"Sid": sid, "Effect": "Allow", "Principal": map[string]any{"AWS": "*"}, "Action": actions, "Resource": "*", "Condition": conditions}
	}
	return []map[string]any{
		statement("MachinesOfGroups", nil, "kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"),
		statement("DisksOfMachinesOfGroups", map[string]any{"Bool": map[string]any{"kms:GrantIsForAWSResource": "true"}}, "kms:CreateGrant"),
	}
}

// group lets in what nodes are for: the HTTP API for those who may have it, and
// replication among the nodes. Nobody logs in.
func (in *Instance) group(d *Deployment) {
	in.Nodes = awsec2.NewSecurityGroup(in.Stack, jsii.String("Nodes"), &awsec2.SecurityGroupProps{
		Vpc: d.Network.VPC, Description: jsii.String("Nodes of one instance"), AllowAllOutbound: jsii.Bool(false)})
	http, replication := awsec2.Port_Tcp(jsii.Number(httpPort)), awsec2.Port_Tcp(jsii.Number(replicationPort))
	in.Nodes.AddIngressRule(d.Network.Functions, http, jsii.String("HTTP API: functions of the control plane"), nil)
	in.Nodes.AddIngressRule(d.Network.Clients, http, jsii.String("HTTP API: applications in the VPC"), nil)
	for _, p := range d.Config.ClientCIDRs {
		in.Nodes.AddIngressRule(awsec2.Peer_Ipv4(jsii.String(p.String())), http, jsii.String("HTTP API: client_cidrs"), nil)
	}
	// Where to is a range: a rule to the group itself would be a resource of its own, and
	// the group would be open outwards until that is there.
	inVPC := awsec2.Peer_Ipv4(jsii.String(d.Config.CIDR.String()))
	for _, r := range []struct {
		port awsec2.Port
		says string
	}{{http, "HTTP API: nodes"}, {replication, "Replication: nodes"}} {
		in.Nodes.AddIngressRule(in.Nodes, r.port, jsii.String(r.says), nil)
		in.Nodes.AddEgressRule(inVPC, r.port, jsii.String(r.says), nil)
	}
}

// node makes what stays of a node.
func (in *Instance) node(d *Deployment, t *config.Tenant, i int, id string) *Node {
	n := &Node{ID: id, Name: t.NodeName(i)}
	n.Interface = awsec2.NewCfnNetworkInterface(in.Stack, jsii.String("Interface"+letter(i)), &awsec2.CfnNetworkInterfaceProps{
		SubnetId: d.Network.Subnets[i].SubnetId(), GroupSet: &[]any{in.Nodes.SecurityGroupId(), d.Network.Members.SecurityGroupId()},
		Description: jsii.String("The address of node " + id)})
	n.Address = *n.Interface.AttrPrimaryPrivateIpAddress()
	volume := func(what string, v config.Volume) awsec2.Volume {
		made := awsec2.NewVolume(in.Stack, jsii.String(what+letter(i)), &awsec2.VolumeProps{
			AvailabilityZone: jsii.String(d.Config.Zones[i]), VolumeType: awsec2.EbsDeviceVolumeType_GP3, Size: awscdk.Size_Gibibytes(jsii.Number(v.GiB)),
			Iops: jsii.Number(v.IOPS), Throughput: jsii.Number(v.MiBps), Encrypted: jsii.Bool(true), EncryptionKey: in.Key, RemovalPolicy: kept()})
		excuse(made, "cdk-nag::EC2EBSInBackupPlan", "What is on a volume is in the archive, by which it is restored to any moment: a snapshot of a volume would be of one that changes")
		return made
	}
	n.State, n.Log = volume("State", t.Machine.State), volume("Log", t.Machine.Log)
	record := awsroute53.NewCfnRecordSet(in.Stack, jsii.String("Record"+letter(i)), &awsroute53.CfnRecordSetProps{
		HostedZoneId: jsii.String(t.ZoneID), Name: jsii.String(n.Name + "."), Type: jsii.String("A"), Ttl: jsii.String(strconv.Itoa(recordSeconds)), ResourceRecords: list(n.Address)})
	acknowledge(record, "CloudFormation-Validate::E3023", "The address is the interface's, which is known once it is there")
	return n
}

// machine makes what starts the machine of a node.
func (in *Instance) machine(d *Deployment, t *config.Tenant, i int, n *Node, profile awsiam.InstanceProfile, user awsec2.UserData) {
	tenancy := "default"
	if t.DedicatedTenancy {
		tenancy = "dedicated"
	}
	cpu := awsec2.AmazonLinuxCpuType_ARM_64
	if t.Architecture == config.AMD64 {
		cpu = awsec2.AmazonLinuxCpuType_X86_64
	}
	image := awsec2.MachineImage_LatestAmazonLinux2023(&awsec2.AmazonLinux2023ImageSsmParameterProps{CpuType: cpu}).GetImage(in.Stack)
	tags := &[]*awscdk.CfnTag{{Key: jsii.String("Name"), Value: jsii.String(n.ID)}, {Key: jsii.String(instanceTag), Value: jsii.String(t.Name)}}
	template := awsec2.NewCfnLaunchTemplate(in.Stack, jsii.String("Template"+letter(i)), &awsec2.CfnLaunchTemplateProps{
		LaunchTemplateData: &awsec2.CfnLaunchTemplate_LaunchTemplateDataProperty{
			ImageId: image.ImageId, InstanceType: jsii.String(t.Machine.Type(t.Architecture)), EbsOptimized: jsii.Bool(true),
			IamInstanceProfile: &awsec2.CfnLaunchTemplate_IamInstanceProfileProperty{Arn: profile.InstanceProfileArn()},
			SecurityGroupIds:   &[]*string{in.Nodes.SecurityGroupId(), d.Network.Members.SecurityGroupId()},
			MetadataOptions: &awsec2.CfnLaunchTemplate_MetadataOptionsProperty{HttpEndpoint: jsii.String("enabled"), HttpTokens: jsii.String("required"),
				HttpPutResponseHopLimit: jsii.Number(1), InstanceMetadataTags: jsii.String("disabled")},
			Monitoring: &awsec2.CfnLaunchTemplate_MonitoringProperty{Enabled: jsii.Bool(true)},
			Placement:  &awsec2.CfnLaunchTemplate_PlacementProperty{Tenancy: jsii.String(tenancy)},
			BlockDeviceMappings: &[]any{&awsec2.CfnLaunchTemplate_BlockDeviceMappingProperty{DeviceName: jsii.String("/dev/xvda"), Ebs: &awsec2.CfnLaunchTemplate_EbsProperty{
				VolumeType: jsii.String("gp3"), VolumeSize: jsii.Number(rootGiB), Encrypted: jsii.Bool(true), KmsKeyId: in.Key.KeyArn(), DeleteOnTermination: jsii.Bool(true)}}},
			TagSpecifications: &[]any{
				&awsec2.CfnLaunchTemplate_TagSpecificationProperty{ResourceType: jsii.String("instance"), Tags: tags},
				&awsec2.CfnLaunchTemplate_TagSpecificationProperty{ResourceType: jsii.String("volume"), Tags: tags}},
			UserData: awscdk.Fn_Base64(user.Render()),
		}})
	n.Machine = awsautoscaling.NewCfnAutoScalingGroup(in.Stack, jsii.String("Machine"+letter(i)), &awsautoscaling.CfnAutoScalingGroupProps{
		AutoScalingGroupName: jsii.String("originchain-" + n.ID), MinSize: jsii.String("1"), MaxSize: jsii.String("1"), DesiredCapacity: jsii.String("1"),
		// The service's own checks alone: a writer that answers nothing is for the
		// failover, which knows whether another may take over.
		HealthCheckType: jsii.String("EC2"), VpcZoneIdentifier: &[]any{d.Network.Subnets[i].SubnetId()},
		LaunchTemplate: &awsautoscaling.CfnAutoScalingGroup_LaunchTemplateSpecificationProperty{
			LaunchTemplateId: template.Ref(), Version: template.AttrLatestVersionNumber()},
	})
	excuse(n.Machine, "cdk-nag::AutoScalingGroupScalingNotifications", "The group never scales; that its machine fails is known sooner, by the heartbeat of the node")
	excuse(n.Machine, "cfn-guard::autoscaling_multiple_az_check", "The machine is in the zone of its node's volumes; the nodes of an instance are in a zone each")
	excuse(n.Machine, "cfn-guard::autoscaling_mixed_instances_policy_multiple_instance_types_check",
		"A node has the machine of its tier: a smaller one could not serve it, and one of another architecture has no program")
}
