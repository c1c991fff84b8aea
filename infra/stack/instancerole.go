package stack

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3assets"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
	"originchain/infra/documents"
	"originchain/shared/alarms"
)

// role is what the machines of an instance may do: their own node's volumes and
// interface, their own instance's archive, records and secrets, and nothing of another's.
func (in *Instance) role(d *Deployment, t *config.Tenant, a *Archive, binaries awss3assets.Asset) {
	c := d.Config
	in.Role = awsiam.NewRole(in.Stack, jsii.String("NodeRole"), &awsiam.RoleProps{
		RoleName: jsii.String(nodeRole(c, t)), Description: jsii.String("The machines of OriginChain instance " + t.Name),
		AssumedBy: awsiam.NewServicePrincipal(jsii.String("ec2.amazonaws.com"), nil)})
	in.allowArchive(c, t, a)
	in.allowRecords(d, t)
	in.allowMachine(d, t)
	allow(in.Role, "Binaries", []string{"arn:aws:s3:::" + *binaries.S3BucketName() + "/" + *binaries.S3ObjectKey()}, nil, "s3:GetObject")
	allow(in.Role, "Metrics", []string{"*"}, map[string]any{"StringEquals": map[string]any{"cloudwatch:namespace": alarms.Namespace(t.Name)}}, "cloudwatch:PutMetricData")
	allow(in.Role, "Logs", []string{*in.Logs.LogGroupArn()}, nil, "logs:CreateLogStream", "logs:PutLogEvents")
	excuseWildcard(in.Role, "*", "Metrics, whose namespace is a condition, and what the agent of Systems Manager asks for itself are of no resource that could be named", "Metrics", "Commands")
}

// allowArchive lets nodes put and get. What deletes is a role of its own, which a node
// takes for that alone.
func (in *Instance) allowArchive(c *config.Config, t *config.Tenant, a *Archive) {
	bucket := "arn:aws:s3:::" + a.BucketName
	allow(in.Role, "ArchiveList", []string{bucket}, nil, "s3:ListBucket", "s3:GetBucketLocation")
	allow(in.Role, "ArchiveObjects", []string{bucket + "/*"}, nil, "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload")
	excuseWildcard(in.Role, bucket+"/*", "The objects of the instance's own archive: their keys are not known beforehand", "ArchiveObjects")
	allow(in.Role, "ArchiveRetention", []string{a.Retention}, nil, "sts:AssumeRole")
	allowArchiveKey(in.Role, c, t, "kms:Decrypt", "kms:GenerateDataKey")
}

// allowArchiveKey lets a role use the key of an archive, by way of S3 alone.
func allowArchiveKey(r awsiam.Role, c *config.Config, t *config.Tenant, actions ...string) {
	key, conditions := t.KeyARN, map[string]any{"StringEquals": map[string]any{"kms:ViaService": "s3." + t.ArchiveRegion + ".amazonaws.com"}}
	if key == "" {
		// By its alias: the key may be in another region, whose stack has no ARN to give.
		key = "arn:aws:kms:" + t.ArchiveRegion + ":" + c.Account + ":key/*"
		excuseWildcard(r, key, "The condition names the one key by its alias", "ArchiveKey")
		conditions["ForAnyValue:StringEquals"] = map[string]any{"kms:ResourceAliases": "alias/" + archiveAlias(c, t)}
	}
	allow(r, "ArchiveKey", []string{key}, conditions, actions...)
}

// allowRecords lets nodes at their own instance's items of the tables, and its secrets.
func (in *Instance) allowRecords(d *Deployment, t *config.Tenant) {
	c := d.Config
	mine := scopeAlone(t.Name)
	allow(in.Role, "Lease", []string{*d.Control.Leases.TableArn()}, mine, "dynamodb:GetItem", "dynamodb:UpdateItem")
	allow(in.Role, "Registry", []string{*d.Control.Registry.TableArn()}, mine,
		"dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem")
	secrets := arn(c, "secretsmanager", "secret:originchain/"+t.Name+"/*")
	allow(in.Role, "Secrets", []string{secrets}, nil, "secretsmanager:GetSecretValue")
	excuseWildcard(in.Role, secrets, "The instance's own secrets: their ARNs end with characters that nobody chooses", "Secrets")
	allow(in.Role, "ControlKey", []string{*d.Control.Key.KeyArn()},
		map[string]any{"StringEquals": map[string]any{"kms:ViaService": []any{"dynamodb." + c.Region + ".amazonaws.com", "secretsmanager." + c.Region + ".amazonaws.com"}}}, "kms:Decrypt")
}

// allowMachine lets a machine take over the volumes and the interface of a node, and be
// spoken to by Systems Manager: documents, and no parameter of the account, which the
// managed policy for it would give out.
func (in *Instance) allowMachine(d *Deployment, t *config.Tenant) {
	c := d.Config
	var volumes, interfaces []string
	for _, n := range in.Node {
		volumes = append(volumes, arn(c, "ec2", "volume/"+*n.State.VolumeId()), arn(c, "ec2", "volume/"+*n.Log.VolumeId()))
		interfaces = append(interfaces, arn(c, "ec2", "network-interface/"+*n.Interface.AttrId()))
	}
	machines := []string{arn(c, "ec2", "instance/*")}
	mine := map[string]any{"StringEquals": map[string]any{"aws:ResourceTag/" + instanceTag: t.Name}}
	excuseWildcard(in.Role, machines[0], "Machines are replaced by others: the condition takes those that are tagged as this instance's", "Machines")
	allow(in.Role, "Volumes", volumes, nil, "ec2:AttachVolume")
	allow(in.Role, "Interfaces", interfaces, nil, "ec2:AttachNetworkInterface")
	allow(in.Role, "Machines", machines, mine, "ec2:AttachVolume", "ec2:AttachNetworkInterface")
	through := map[string]any{"StringEquals": map[string]any{"kms:ViaService": "ec2." + c.Region + ".amazonaws.com"}}
	grants := map[string]any{"StringEquals": through["StringEquals"], "Bool": map[string]any{"kms:GrantIsForAWSResource": "true"}}
	allow(in.Role, "VolumeKeyGrants", []string{*in.Key.KeyArn()}, grants, "kms:CreateGrant")
	allow(in.Role, "VolumeKey", []string{*in.Key.KeyArn()}, through, "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo")
	allow(in.Role, "Commands", []string{"*"}, nil, "ssm:UpdateInstanceInformation", "ssm:ListAssociations", "ssm:ListInstanceAssociations",
		"ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
		"ec2messages:AcknowledgeMessage", "ec2messages:DeleteMessage", "ec2messages:FailMessage", "ec2messages:GetEndpoint", "ec2messages:GetMessages", "ec2messages:SendReply")
	all, err := documents.All()
	if err != nil {
		panic(fmt.Sprintf("the documents: %v", err)) // they are in the program
	}
	var own []string
	for _, doc := range all {
		// Each by its name: what begins with a name may be of a tenant whose name does.
		own = append(own, arn(c, "ssm", "document/"+doc.Name(documentPrefix(t))))
	}
	allow(in.Role, "Documents", own, nil, "ssm:GetDocument", "ssm:DescribeDocument")
}
