package stack

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
)

// Names of the tables, and the registry that is the control plane's own.
const (
	leasesTable   = "originchain-leases"
	registryTable = "originchain-registry"
)

// adminTokenChars is the length of an admin token; shared/tenant wants 24 to 256.
const adminTokenChars = 48

// Control holds what all instances of the region share: who writes, what the control
// plane remembers, and secrets.
type Control struct {
	Stack            awscdk.Stack
	Key              awskms.Key
	Leases, Registry awsdynamodb.Table
}

func newControl(app awscdk.App, c *config.Config) *Control {
	s := part(app, c, c.Region, "Control", "OriginChain: leases, registry and secrets of a region")
	ctl := &Control{Stack: s, Key: newKey(s, "Key", "originchain-control", "Encrypts leases, registry and secrets of OriginChain")}
	// Tables come last, and one by one: they are protected from deletion from their beginning,
	// by CloudFormation too, which has to delete what it has made where a deployment fails.
	first := []constructs.IDependable{ctl.Key, ctl.subscribers(c)}
	for i := range c.Tenants {
		first = append(first, ctl.secrets(&c.Tenants[i]))
	}
	ctl.Leases = ctl.table("Leases", leasesTable, "lease", "")
	ctl.Leases.Node().AddDependency(first...)
	ctl.Registry = ctl.table("Registry", registryTable, "registry", "key")
	ctl.Registry.Node().AddDependency(append(first, ctl.Leases)...)
	return ctl
}

// subscribers is a policy for the roles of people: what oc-subscribers does. It is attached
// to nobody here, and is not part of what an instance's operator is given: subscribers are
// those of all instances, and their secrets are among them. Nothing is deleted.
func (ctl *Control) subscribers(c *config.Config) constructs.IDependable {
	p := awsiam.NewManagedPolicy(ctl.Stack, jsii.String("Subscribers"), &awsiam.ManagedPolicyProps{ManagedPolicyName: jsii.String("oc-subscribers-" + c.Region),
		Description: jsii.String("For who says who is told of incidents of OriginChain in " + c.Region)})
	p.AddStatements(
		statementOf("Subscribers", []string{arn(c, "dynamodb", "table/"+registryTable)}, scopeAlone(controlScope), []string{"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"}),
		statementOf("ControlKey", []string{*ctl.Key.KeyArn()}, map[string]any{"StringEquals": map[string]any{"kms:ViaService": "dynamodb." + c.Region + ".amazonaws.com"}}, []string{"kms:Decrypt"}))
	return p
}

// table is one whose items are texts by one key or two.
func (ctl *Control) table(id, name, partition, sort string) awsdynamodb.Table {
	p := &awsdynamodb.TableProps{
		TableName: jsii.String(name), PartitionKey: &awsdynamodb.Attribute{Name: jsii.String(partition), Type: awsdynamodb.AttributeType_STRING},
		BillingMode: awsdynamodb.BillingMode_PAY_PER_REQUEST, Encryption: awsdynamodb.TableEncryption_CUSTOMER_MANAGED, EncryptionKey: ctl.Key,
		DeletionProtection: jsii.Bool(true), RemovalPolicy: kept(),
		PointInTimeRecoverySpecification: &awsdynamodb.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: jsii.Bool(true)},
	}
	if sort != "" {
		p.SortKey = &awsdynamodb.Attribute{Name: jsii.String(sort), Type: awsdynamodb.AttributeType_STRING}
	}
	made := awsdynamodb.NewTable(ctl.Stack, jsii.String(id), p)
	excuse(made, "cdk-nag::DynamoDBInBackupPlan", "Every second of the last 35 days can be had back; what is older than that is no lease or incident to return to")
	return made
}

// secrets are a tenant's admin token, which is made here, and the certificates of its
// nodes, which are not: their secrets are empty until the operator fills them, and the
// nodes wait for that. A key made here would be in a template.
func (ctl *Control) secrets(t *config.Tenant) constructs.IDependable {
	// A scope of its own keeps ids apart that differ by a hyphen alone.
	of := constructs.NewConstruct(ctl.Stack, jsii.String("Tenant-"+t.Name))
	own(of, t)
	excuse(of, "cdk-nag::SecretsManagerRotationEnabled",
		"The operator rotates the token and the certificates, whose authority is not ours; machines take new ones by themselves every few minutes")
	awssecretsmanager.NewSecret(of, jsii.String("AdminToken"), &awssecretsmanager.SecretProps{
		SecretName: jsii.String(adminSecret(t)), EncryptionKey: ctl.Key, RemovalPolicy: kept(),
		Description: jsii.String("The token of /v1/admin of instance " + t.Name),
		GenerateSecretString: &awssecretsmanager.SecretStringGenerator{
			PasswordLength: jsii.Number(adminTokenChars), ExcludePunctuation: jsii.Bool(true), IncludeSpace: jsii.Bool(false)},
	})
	for i, node := range t.Nodes() {
		secret := awssecretsmanager.NewCfnSecret(of, jsii.String("Certificates"+letter(i)), &awssecretsmanager.CfnSecretProps{
			Name: jsii.String(certificateSecret(t, node)), KmsKeyId: ctl.Key.KeyArn(),
			Description: jsii.String("Certificates and keys of node " + node + `: {"ca.crt", "node.crt", "node.key", "server.crt", "server.key"}`)})
		secret.ApplyRemovalPolicy(kept(), nil)
	}
	return of
}

// letter tells the nodes of an instance apart in the ids of what they have.
func letter(i int) string { return string(rune('A' + i)) }

func adminSecret(t *config.Tenant) string { return "originchain/" + t.Name + "/admin-token" }

func certificateSecret(t *config.Tenant, node string) string {
	return "originchain/" + t.Name + "/certificates/" + node
}

// leaseURL and registryURL are as programs are told of the tables.
func leaseURL(c *config.Config, name string) string {
	return "dynamodb://" + leasesTable + "/" + name + "?region=" + c.Region
}

func registryURL(c *config.Config, name string) string {
	return "dynamodb://" + registryTable + "/" + name + "?region=" + c.Region
}
