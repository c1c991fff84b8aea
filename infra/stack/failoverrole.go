package stack

import (
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
	"originchain/infra/documents"
)

// grantee is who is given permissions: a role, or whom a policy is attached to.
type grantee struct {
	part  constructs.IConstruct
	allow func(sid string, resources []string, conditions map[string]any, actions ...string)
}

func to(r awsiam.Role) grantee {
	return grantee{r, func(sid string, resources []string, conditions map[string]any, actions ...string) {
		allow(r, sid, resources, conditions, actions...)
	}}
}

// adminSecretARN is the ARN of a tenant's admin token as far as it follows from its name,
// which is what Secrets Manager is asked by; it adds six characters of its own.
func adminSecretARN(c *config.Config, t *config.Tenant) string {
	return arn(c, "secretsmanager", "secret:"+adminSecret(t))
}

// verbs are those of all documents.
func verbs() (out []string) {
	all, err := documents.All()
	if err != nil {
		panic(err) // they are built in
	}
	for _, doc := range all {
		out = append(out, doc.Verb)
	}
	return out
}

// allow lets each function do what its code asks for, and no more: who finds out can change
// nothing on a machine, and who changes the name reaches none.
func (f *Failover) allow(d *Deployment, t *config.Tenant) {
	c := d.Config
	silence, promote, dns := to(f.Silence.Role), to(f.Promote.Role), to(f.DNS.Role)
	allowRecords(silence, d, t, false, true)
	allowCommands(silence, c, t, "process")
	// By which names it asks decides over which ARN the service looks at.
	alarms := arn(c, "cloudwatch", "alarm:*")
	silence.allow("Alarms", []string{alarms}, nil, "cloudwatch:DescribeAlarms")
	excuseWildcard(f.Silence.Role, alarms, "How alarms stand is read by their names, and nothing of them is changed", "Alarms")
	allowRecords(promote, d, t, true, true)
	allowCommands(promote, c, t, verbs()...)
	allowRecords(dns, d, t, false, false)
	allowName(dns, t)
}

// allowRecords lets somebody at the instance's own items: to read who writes, or to change
// it too, and to keep the journal. token: and at the nodes' admin token.
func allowRecords(to grantee, d *Deployment, t *config.Tenant, writes, token bool) {
	c := d.Config
	mine := scopeAlone(t.Name)
	lease, through := []string{"dynamodb:GetItem"}, []any{"dynamodb." + c.Region + ".amazonaws.com"}
	if writes {
		lease = append(lease, "dynamodb:UpdateItem")
	}
	to.allow("Lease", []string{arn(c, "dynamodb", "table/"+leasesTable)}, mine, lease...)
	to.allow("Registry", []string{arn(c, "dynamodb", "table/"+registryTable)}, mine, "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query")
	if token {
		to.allow("Token", []string{adminSecretARN(c, t) + "-??????"}, nil, "secretsmanager:GetSecretValue")
		through = append(through, "secretsmanager."+c.Region+".amazonaws.com")
	}
	to.allow("ControlKey", []string{*d.Control.Key.KeyArn()}, map[string]any{"StringEquals": map[string]any{"kms:ViaService": through}}, "kms:Decrypt")
}

// allowCommands lets somebody run the instance's own documents of these verbs, on the
// instance's own machines.
func allowCommands(to grantee, c *config.Config, t *config.Tenant, verbs ...string) {
	var own []string
	changes := false
	for _, verb := range verbs {
		own = append(own, arn(c, "ssm", "document/"+documentPrefix(t)+"-"+verb))
		changes = changes || !slices.Contains([]string{"process", "unit"}, verb)
	}
	to.allow("Documents", own, nil, "ssm:SendCommand")
	machines := arn(c, "ec2", "instance/*")
	to.allow("Machines", []string{machines}, map[string]any{"StringEquals": map[string]any{"ssm:resourceTag/" + instanceTag: t.Name}}, "ssm:SendCommand")
	// A command that was sent is known by its id alone, which nobody guesses.
	asks := []string{"ssm:GetCommandInvocation"}
	if changes {
		asks = append(asks, "ssm:CancelCommand")
	}
	to.allow("Commands", []string{"*"}, nil, asks...)
	excuseWildcard(to.part, machines, "Machines come and go; those that carry the instance's tag are meant, and no others", "Machines")
	excuseWildcard(to.part, "*", "Commands have no ARN, nor have Lambda's interfaces before they are there: what is asked for by an id that nobody guesses is not to be had otherwise", "Commands")
}

// allowName lets somebody point the writer's name, and no other one, at an address.
func allowName(to grantee, t *config.Tenant) {
	const names, types, actions = "route53:ChangeResourceRecordSetsNormalizedRecordNames", "route53:ChangeResourceRecordSetsRecordTypes", "route53:ChangeResourceRecordSetsActions"
	zone := []string{"arn:aws:route53:::hostedzone/" + t.ZoneID}
	to.allow("Name", zone, map[string]any{
		"ForAllValues:StringEquals": map[string]any{names: []any{t.Record}, types: []any{"A"}, actions: []any{"UPSERT"}},
		// Of what is not there all values are as they should be.
		"Null": map[string]any{names: "false", types: "false", actions: "false"}}, "route53:ChangeResourceRecordSets")
	to.allow("Names", zone, nil, "route53:ListResourceRecordSets")
	const changes = "arn:aws:route53:::change/*"
	to.allow("Changes", []string{changes}, nil, "route53:GetChange")
	excuseWildcard(to.part, changes, "Route 53 gives a change its id, and all that is asked is how far it is", "Changes")
}

// operator is a policy for the roles of people: what scripts/promote-follower.sh does, and
// to approve what the state machine has asked a person for. It is attached to nobody here.
func (f *Failover) operator(d *Deployment, t *config.Tenant) {
	c := d.Config
	p := awsiam.NewManagedPolicy(f.Stack, jsii.String("Operator"), &awsiam.ManagedPolicyProps{ManagedPolicyName: jsii.String(roleName(c, t, "operator")),
		Description: jsii.String("For who replaces the writer of OriginChain instance " + t.Name + " by hand, or approves that it is replaced")})
	to := grantee{p, func(sid string, resources []string, conditions map[string]any, actions ...string) {
		p.AddStatements(statementOf(sid, resources, conditions, actions))
	}}
	to.allow("Settings", []string{arn(c, "ssm", "parameter"+settingsParameter(t))}, nil, "ssm:GetParameter")
	allowRecords(to, d, t, true, true)
	allowCommands(to, c, t, verbs()...)
	allowName(to, t)
	to.allow("Approve", []string{machineARN(c, t, "failover")}, nil, "states:SendTaskSuccess", "states:SendTaskFailure", "states:ListExecutions")
	executions := arn(c, "states", "execution:"+machineName(t, "failover")+":*")
	to.allow("Executions", []string{executions}, nil, "states:DescribeExecution", "states:GetExecutionHistory")
	excuseWildcard(p, executions, "Each failover is an execution of its own, whose name is made when it begins", "Executions")
}
