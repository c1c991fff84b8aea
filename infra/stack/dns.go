package stack

import (
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsroute53"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
	"originchain/shared/alarms"
)

// nodeWrites is 1 while a node's own server says that it is the writer and is ready.
const nodeWrites = "oc_node_writes"

// DNS is the names of a tenant's writer; those of its nodes are the instance's.
//
// The writer's name is made here, and changed by each failover: CloudFormation must never
// make it again what it was at first. It does so only where what the template says of it
// changes, so that nothing there does: name, zone and the first node's fixed address. The
// name goes with no stack, and no stack's end takes it from its clients.
//
// A second name follows the writer without any request to Route 53, which takes them in
// one region of the world alone: its records are chosen among by health checks, each of
// an alarm of whether the node writes.
type DNS struct {
	Stack  awscdk.Stack
	Writer awsroute53.CfnRecordSet
}

func newDNS(app awscdk.App, d *Deployment, t *config.Tenant, in *Instance) *DNS {
	s := part(app, d.Config, d.Config.Region, t.Name+"-Dns", "OriginChain: the names of the writer of instance "+t.Name)
	own(s, t)
	n := &DNS{Stack: s}
	n.Writer = n.record(t, "Writer", t.Record, in.Node[0], nil)
	n.Writer.ApplyRemovalPolicy(kept(), nil)
	n.auto(d.Config, t, in)
	return n
}

// record names the address of a node.
func (n *DNS) record(t *config.Tenant, id, name string, node *Node, choice *awsroute53.CfnRecordSetProps) awsroute53.CfnRecordSet {
	if choice == nil {
		choice = &awsroute53.CfnRecordSetProps{}
	}
	choice.HostedZoneId, choice.Name, choice.Type, choice.Ttl = jsii.String(t.ZoneID), jsii.String(name+"."), jsii.String("A"), jsii.String(strconv.Itoa(recordSeconds))
	choice.ResourceRecords = list(node.Address)
	r := awsroute53.NewCfnRecordSet(n.Stack, jsii.String(id), choice)
	acknowledge(r, "CloudFormation-Validate::E3023", "The address is the interface's, which is known once it is there")
	return r
}

// auto is the name that follows the writer by health checks: the first node while it
// writes, or while none does; else one of the others. A single node has no such name, as
// there is nothing to choose from.
//
// The others have a name of their own, however many they are: another follower is a record
// more, and no record that is there has to give way, which Route 53 would refuse.
func (n *DNS) auto(c *config.Config, t *config.Tenant, in *Instance) {
	if len(in.Node) == 1 {
		return
	}
	choice := func(i int, which string) *awsroute53.CfnRecordSetProps {
		return &awsroute53.CfnRecordSetProps{SetIdentifier: jsii.String(in.Node[i].ID), Failover: jsii.String(which), HealthCheckId: n.health(c, t, i, in.Node[i])}
	}
	n.record(t, "AutoA", t.AutoName(), in.Node[0], choice(0, "PRIMARY"))
	alias := awsroute53.NewCfnRecordSet(n.Stack, jsii.String("AutoOthers"), &awsroute53.CfnRecordSetProps{
		HostedZoneId: jsii.String(t.ZoneID), Name: jsii.String(t.AutoName() + "."), Type: jsii.String("A"), SetIdentifier: jsii.String("others"), Failover: jsii.String("SECONDARY"),
		AliasTarget: &awsroute53.CfnRecordSet_AliasTargetProperty{HostedZoneId: jsii.String(t.ZoneID), DnsName: jsii.String(t.OthersName() + "."), EvaluateTargetHealth: jsii.Bool(true)}})
	for i, which := range []string{"PRIMARY", "SECONDARY"} {
		if i+1 < len(in.Node) {
			other := n.record(t, "Others"+letter(i+1), t.OthersName(), in.Node[i+1], choice(i+1, which))
			if which == "PRIMARY" {
				alias.AddResourceDependency(other, nil) // what it stands for has to be there
			}
		}
	}
}

// health is the health check of whether a node writes. Route 53 reads the metric itself,
// by what the alarm said when the check was made: another setting of the alarm needs
// another name of it, by which the check is told.
//
// The alarm is a follower's as well, and then fires for years: its name is none of those
// that are incidents.
func (n *DNS) health(c *config.Config, t *config.Tenant, i int, node *Node) *string {
	name := "dns." + node.ID
	alarm := awscloudwatch.NewCfnAlarm(n.Stack, jsii.String("Writes"+letter(i)), &awscloudwatch.CfnAlarmProps{
		AlarmName: jsii.String(name), AlarmDescription: jsii.String(node.ID + " does not write, which is as it should be of all nodes but one. Route 53 reads it for " + t.AutoName() + "."),
		Namespace: jsii.String(alarms.Namespace(t.Name)), MetricName: jsii.String(nodeWrites), Dimensions: &[]any{
			&awscloudwatch.CfnAlarm_DimensionProperty{Name: jsii.String(instanceDimension), Value: jsii.String(t.Name)},
			&awscloudwatch.CfnAlarm_DimensionProperty{Name: jsii.String(nodeDimension), Value: jsii.String(node.ID)}},
		// The highest value of the shortest period that Route 53 can read: a node that has
		// just become the writer counts at once.
		Statistic: jsii.String("Maximum"), Period: jsii.Number(60), EvaluationPeriods: jsii.Number(1), ComparisonOperator: jsii.String("LessThanThreshold"), Threshold: jsii.Number(1),
		TreatMissingData: jsii.String("breaching"), ActionsEnabled: jsii.Bool(true)})
	const read = "Nobody is to be woken: health checks of Route 53 read it, and it fires for every node that does not write"
	excuse(alarm, "cdk-nag::CloudWatchAlarmAction", read)
	excuse(alarm, "cfn-guard::cloudwatch_alarm_action_check", read)
	check := awsroute53.NewCfnHealthCheck(n.Stack, jsii.String("Health"+letter(i)), &awsroute53.CfnHealthCheckProps{
		HealthCheckConfig: &awsroute53.CfnHealthCheck_HealthCheckConfigProperty{Type: jsii.String("CLOUDWATCH_METRIC"), InsufficientDataHealthStatus: jsii.String("Unhealthy"),
			AlarmIdentifier: &awsroute53.CfnHealthCheck_AlarmIdentifierProperty{Name: jsii.String(name), Region: jsii.String(c.Region)}},
		HealthCheckTags: &[]*awsroute53.CfnHealthCheck_HealthCheckTagProperty{{Key: jsii.String("Name"), Value: jsii.String(node.ID + " writes")}}})
	check.AddResourceDependency(alarm, nil)
	return check.AttrHealthCheckId()
}
