package stack

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3assets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsstepfunctions"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
	"originchain/infra/statemachine"
)

// verify is what a machine does that verifies what is too large for the function.
//
//go:embed machine/verify.sh
var verify string

const (
	// verifySeconds is the most that a function may take.
	verifySeconds = 900
	// ephemeralMiB is the most that a function may have of /tmp; spareMiB of it are not for
	// what a verification writes.
	ephemeralMiB, spareMiB = 10240, 1024
	// verifyMiB is what an empty account's functions may have of memory.
	verifyMiB = 3008
	// daily is at night in Europe; verifications of several tenants are spread over spreadMinutes.
	daily         = "cron(15 1 * * ? *)"
	spreadMinutes = 120
	everyQuarter  = "rate(15 minutes)"
	// verifyTag is on machines that verify. They have not the tag of the instance's nodes,
	// which may attach volumes to what has it.
	verifyTag = "originchain:verify"
)

// Verification has the newest recovery point of an instance verified once a day: by a
// function, which streams it, and where that is too large by a machine that is started for
// it and ends itself. Both record how it ended where the age of the last green one is
// counted from.
type Verification struct {
	Stack  awscdk.Stack
	Verify *Function
	// Machine is what runs it, Role what a machine that verifies may do.
	Machine awsstepfunctions.CfnStateMachine
	Role    awsiam.Role
}

func verifyTemplate(t *config.Tenant) string { return "originchain-" + t.Name + "-verify" }

func verifyLogs(t *config.Tenant) string { return logGroup(t) + "/verification" }

// readURL is as those are told of the archive who only read it.
func readURL(c *config.Config, t *config.Tenant) string {
	return "s3://" + bucketName(c, t) + "?region=" + t.ArchiveRegion
}

func newVerification(app awscdk.App, d *Deployment, t *config.Tenant, in *Instance) *Verification {
	c := d.Config
	s := part(app, c, c.Region, t.Name+"-Verification", "OriginChain: verification of the recovery points of instance "+t.Name)
	own(s, t)
	v := &Verification{Stack: s}
	v.Verify = newFunction(s, d, functionSpec{Tenant: t, Name: "pitrverify", Says: "Verifies the newest recovery point of " + t.Name, MemoryMiB: verifyMiB, Timeout: seconds(verifySeconds), EphemeralMiB: ephemeralMiB,
		Env: map[string]string{"OC_INSTANCE": t.Name, "OC_LEASES": leaseURL(c, t.Name), "OC_REGISTRY": registryURL(c, t.Name), "OC_ARCHIVE": readURL(c, t),
			"OC_SCRATCH_BYTES": strconv.Itoa((ephemeralMiB - spareMiB) << 20)}})
	allowReading(v.Verify.Role, c, t)
	allowRecord(v.Verify.Role, d, t)
	allow(v.Verify.Role, "Lease", []string{*d.Control.Leases.TableArn()}, scopeAlone(t.Name), "dynamodb:GetItem")
	template := v.machine(d, t, in)
	v.states(d, t, in, template)
	dead := verifyDeadQueue(t)
	newDeadQueue(s, c, "SchedulesDead", dead)
	newSchedule(s, c, schedule{id: "Daily", name: functionName(t, "verify"), role: roleName(c, t, "verify-daily"), says: "The newest recovery point is verified", expression: daily, spread: spreadMinutes,
		target: machineARN(c, t, "verify"), action: "states:StartExecution", input: "{}", dead: dead, retries: 10, seconds: 4 * 3600})
	newSchedule(s, c, schedule{id: "Age", name: functionName(t, "verify-age"), role: roleName(c, t, "verify-age"), says: "How long ago one was green becomes a metric", expression: everyQuarter,
		target: functionARN(c, t, "pitrverify"), action: "lambda:InvokeFunction", input: `{"age":true}`, dead: dead, retries: 2, seconds: 600})
	return v
}

// allowReading lets a role read an archive, and nothing else there.
func allowReading(r awsiam.Role, c *config.Config, t *config.Tenant) {
	bucket := "arn:aws:s3:::" + bucketName(c, t)
	allow(r, "ArchiveList", []string{bucket}, nil, "s3:ListBucket", "s3:GetBucketLocation")
	allow(r, "ArchiveObjects", []string{bucket + "/*"}, nil, "s3:GetObject")
	excuseWildcard(r, bucket+"/*", "The objects of the instance's own archive: their keys are not known beforehand", "ArchiveObjects")
	allowArchiveKey(r, c, t, "kms:Decrypt")
}

// allowRecord lets a role keep how a verification ended.
func allowRecord(r awsiam.Role, d *Deployment, t *config.Tenant) {
	allowScope(r, d, "Record", t.Name, "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem")
}

// machine is the template of a machine that verifies. It is reached by nobody.
func (v *Verification) machine(d *Deployment, t *config.Tenant, in *Instance) awsec2.CfnLaunchTemplate {
	c, s := d.Config, v.Stack
	logs := awslogs.NewLogGroup(s, jsii.String("Logs"), &awslogs.LogGroupProps{LogGroupName: jsii.String(verifyLogs(t)), EncryptionKey: d.Network.Logs, Retention: logRetention(), RemovalPolicy: kept()})
	binaries := awss3assets.NewAsset(s, jsii.String("Binaries"), &awss3assets.AssetProps{Path: jsii.String(d.options.Binaries + "/linux-" + string(t.Architecture))})
	v.Role = awsiam.NewRole(s, jsii.String("MachineRole"), &awsiam.RoleProps{RoleName: jsii.String(roleName(c, t, "verify")), Description: jsii.String("Machines that verify recovery points of " + t.Name),
		AssumedBy: awsiam.NewServicePrincipal(jsii.String("ec2.amazonaws.com"), nil)})
	allowReading(v.Role, c, t)
	allowRecord(v.Role, d, t)
	allow(v.Role, "Binaries", []string{"arn:aws:s3:::" + *binaries.S3BucketName() + "/" + *binaries.S3ObjectKey()}, nil, "s3:GetObject")
	allow(v.Role, "Logs", []string{*logs.LogGroupArn()}, nil, "logs:CreateLogStream", "logs:PutLogEvents")
	profile := awsiam.NewInstanceProfile(s, jsii.String("Profile"), &awsiam.InstanceProfileProps{Role: v.Role})
	cpu := awsec2.AmazonLinuxCpuType_ARM_64
	if t.Architecture == config.AMD64 {
		cpu = awsec2.AmazonLinuxCpuType_X86_64
	}
	image := awsec2.MachineImage_LatestAmazonLinux2023(&awsec2.AmazonLinux2023ImageSsmParameterProps{CpuType: cpu}).GetImage(s)
	tags := &[]*awscdk.CfnTag{{Key: jsii.String("Name"), Value: jsii.String(t.Name + "-verify")}, {Key: jsii.String(verifyTag), Value: jsii.String(t.Name)}}
	tenancy := "default"
	if t.DedicatedTenancy {
		tenancy = "dedicated"
	}
	return awsec2.NewCfnLaunchTemplate(s, jsii.String("Template"), &awsec2.CfnLaunchTemplateProps{LaunchTemplateName: jsii.String(verifyTemplate(t)),
		LaunchTemplateData: &awsec2.CfnLaunchTemplate_LaunchTemplateDataProperty{
			ImageId: image.ImageId, InstanceType: jsii.String(t.Machine.Type(t.Architecture)), EbsOptimized: jsii.Bool(true),
			IamInstanceProfile: &awsec2.CfnLaunchTemplate_IamInstanceProfileProperty{Arn: profile.InstanceProfileArn()},
			// What it restored goes with it.
			InstanceInitiatedShutdownBehavior: jsii.String("terminate"),
			MetadataOptions: &awsec2.CfnLaunchTemplate_MetadataOptionsProperty{HttpEndpoint: jsii.String("enabled"), HttpTokens: jsii.String("required"),
				HttpPutResponseHopLimit: jsii.Number(1), InstanceMetadataTags: jsii.String("disabled")},
			Monitoring: &awsec2.CfnLaunchTemplate_MonitoringProperty{Enabled: jsii.Bool(true)},
			Placement:  &awsec2.CfnLaunchTemplate_PlacementProperty{Tenancy: jsii.String(tenancy)},
			NetworkInterfaces: &[]any{&awsec2.CfnLaunchTemplate_NetworkInterfaceProperty{DeviceIndex: jsii.Number(0), SubnetId: d.Network.Subnets[0].SubnetId(),
				Groups: &[]*string{d.Network.Members.SecurityGroupId()}, AssociatePublicIpAddress: jsii.Bool(false), DeleteOnTermination: jsii.Bool(true)}},
			BlockDeviceMappings: &[]any{&awsec2.CfnLaunchTemplate_BlockDeviceMappingProperty{DeviceName: jsii.String("/dev/xvda"), Ebs: &awsec2.CfnLaunchTemplate_EbsProperty{
				// As much as a node has for its state, which is what is restored, and for the log behind it.
				VolumeType: jsii.String("gp3"), VolumeSize: jsii.Number(rootGiB + t.Machine.State.GiB + t.Machine.Log.GiB), Iops: jsii.Number(t.Machine.State.IOPS), Throughput: jsii.Number(t.Machine.State.MiBps),
				Encrypted: jsii.Bool(true), KmsKeyId: in.Key.KeyArn(), DeleteOnTermination: jsii.Bool(true)}}},
			TagSpecifications: &[]any{
				&awsec2.CfnLaunchTemplate_TagSpecificationProperty{ResourceType: jsii.String("instance"), Tags: tags},
				&awsec2.CfnLaunchTemplate_TagSpecificationProperty{ResourceType: jsii.String("volume"), Tags: tags}},
			UserData: awscdk.Fn_Base64(awsec2.UserData_Custom(jsii.String(verifyScript(c, t, binaries))).Render()),
		}})
}

// verifyScript is the user data of such a machine.
func verifyScript(c *config.Config, t *config.Tenant, binaries awss3assets.Asset) string {
	var text strings.Builder
	for _, v := range [][2]string{
		{"REGION", c.Region}, {"BINARIES", "s3://" + *binaries.S3BucketName() + "/" + *binaries.S3ObjectKey()}, {"PROGRAMS", programs}, {"SCRATCH", "/var/lib/oc-verify"},
		{"ARCHIVE", readURL(c, t)}, {"INSTANCE_ID", t.InstanceID}, {"RECORD", registryURL(c, t.Name)}, {"CROSS_REGION", strconv.FormatBool(t.AllowCrossRegion)},
		{"LOG_GROUP", verifyLogs(t)}, {"LIMIT_SECONDS", strconv.Itoa(int(statemachine.MachineRuns.Seconds()))},
	} {
		fmt.Fprintf(&text, "%s='%s'\n", v[0], v[1])
	}
	head, body, _ := strings.Cut(verify, "# BEGIN\n")
	return head + text.String() + body
}

// states is the state machine, and what it may do: call the function, and start and end
// machines of the one template.
func (v *Verification) states(d *Deployment, t *config.Tenant, in *Instance, template awsec2.CfnLaunchTemplate) {
	c, s := d.Config, v.Stack
	definition, err := statemachine.RenderVerification(map[string]string{statemachine.Verify: functionARN(c, t, "pitrverify"), statemachine.Template: verifyTemplate(t)})
	if err != nil {
		panic(err) // of names that were validated
	}
	role := awsiam.NewRole(s, jsii.String("StatesRole"), &awsiam.RoleProps{RoleName: jsii.String(roleName(c, t, "verify-states")), Description: jsii.String("Has recovery points of " + t.Name + " verified"),
		AssumedBy: awsiam.NewPrincipalWithConditions(awsiam.NewServicePrincipal(jsii.String("states.amazonaws.com"), nil),
			&map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": c.Account}, "ArnEquals": map[string]any{"aws:SourceArn": machineARN(c, t, "verify")}})})
	allow(role, "Verify", []string{functionARN(c, t, "pitrverify")}, nil, "lambda:InvokeFunction")
	of := map[string]any{"ArnEquals": map[string]any{"ec2:LaunchTemplate": arn(c, "ec2", "launch-template/"+*template.Ref())}, "Bool": map[string]any{"ec2:IsLaunchTemplateResource": "true"}}
	allow(role, "Start", []string{arn(c, "ec2", "launch-template/"+*template.Ref()), arn(c, "ec2", "subnet/"+*d.Network.Subnets[0].SubnetId()),
		arn(c, "ec2", "security-group/"+*d.Network.Members.SecurityGroupId()), "arn:aws:ec2:" + c.Region + "::image/*"}, of, "ec2:RunInstances")
	made := []string{arn(c, "ec2", "instance/*"), arn(c, "ec2", "volume/*"), arn(c, "ec2", "network-interface/*")}
	allow(role, "StartMade", made, map[string]any{"ArnEquals": of["ArnEquals"]}, "ec2:RunInstances")
	allow(role, "Tag", made[:2], map[string]any{"StringEquals": map[string]any{"ec2:CreateAction": "RunInstances", "aws:RequestTag/" + verifyTag: t.Name}}, "ec2:CreateTags")
	allow(role, "Role", []string{roleARN(c, roleName(c, t, "verify"))}, map[string]any{"StringEquals": map[string]any{"iam:PassedToService": "ec2.amazonaws.com"}}, "iam:PassRole") //nolint:gosec // G101: the name of a condition
	allow(role, "Look", []string{"*"}, nil, "ec2:DescribeInstances")
	allow(role, "End", made[:1], map[string]any{"StringEquals": map[string]any{"aws:ResourceTag/" + verifyTag: t.Name}}, "ec2:TerminateInstances")
	through := map[string]any{"StringEquals": map[string]any{"kms:ViaService": "ec2." + c.Region + ".amazonaws.com"}}
	grants := map[string]any{"StringEquals": through["StringEquals"], "Bool": map[string]any{"kms:GrantIsForAWSResource": "true"}}
	allow(role, "VolumeKeyGrants", []string{*in.Key.KeyArn()}, grants, "kms:CreateGrant")
	allow(role, "VolumeKey", []string{*in.Key.KeyArn()}, through, "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo")
	logs := awslogs.NewLogGroup(s, jsii.String("StatesLogs"), &awslogs.LogGroupProps{LogGroupName: jsii.String(vendedLogs + t.Name + "/verify"), EncryptionKey: d.Network.Logs, Retention: logRetention(), RemovalPolicy: kept()})
	allow(role, "Logs", []string{"*"}, nil, "logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery", "logs:ListLogDeliveries",
		"logs:PutResourcePolicy", "logs:DescribeResourcePolicies", "logs:DescribeLogGroups")
	v.Machine = awsstepfunctions.NewCfnStateMachine(s, jsii.String("Machine"), &awsstepfunctions.CfnStateMachineProps{StateMachineName: jsii.String(machineName(t, "verify")), StateMachineType: jsii.String("STANDARD"),
		RoleArn: role.RoleArn(), DefinitionString: jsii.String(string(definition)),
		LoggingConfiguration: &awsstepfunctions.CfnStateMachine_LoggingConfigurationProperty{Level: jsii.String("ALL"), IncludeExecutionData: jsii.Bool(true),
			Destinations: &[]any{&awsstepfunctions.CfnStateMachine_LogDestinationProperty{CloudWatchLogsLogGroup: &awsstepfunctions.CfnStateMachine_CloudWatchLogsLogGroupProperty{LogGroupArn: logs.LogGroupArn()}}}}})
	v.Machine.Node().AddDependency(role, v.Verify.Fn) // which answers by then as it expects
	excuseWildcard(role, "*", "Machines are described, and logs delivered, by actions that are of no resource", "Look", "Logs")
	excuseWildcard(role, "arn:aws:ec2:"+c.Region+"::image/*", "The image is the newest of Amazon Linux; the condition takes that of the launch template alone", "Start")
	const noName = "What is made has no name before: the condition takes what the one launch template makes, or the tag that it sets"
	excuseWildcard(role, made[0], noName, "StartMade", "Tag", "End")
	excuseWildcard(role, made[1], noName, "StartMade", "Tag")
	excuseWildcard(role, made[2], noName, "StartMade")
	const noTracing = "Each execution has its whole history, and its log; there are no calls within that a trace would show"
	excuse(v.Machine, "cdk-nag::StepFunctionStateMachineXray", noTracing)
	excuse(v.Machine, "cfn-guard::step_functions_state_machine_tracing_enabled_check", noTracing)
}
