package stack

import (
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
	"originchain/shared/alarms"
)

// Observability is what wakes somebody, and what they see then: the topic that pages, the
// alarms of the table and those of the deployment's own parts, and a dashboard.
type Observability struct {
	Stack awscdk.Stack
	Key   awskms.Key
	Page  awssns.CfnTopic
}

// pageTopic is the topic whose subscribers are woken. Its name is fixed, as the state
// machine of a failover and the record of a verification publish there too.
func pageTopic(t *config.Tenant) string { return "originchain-" + t.Name + "-page" }

func pageARN(c *config.Config, t *config.Tenant) string { return arn(c, "sns", pageTopic(t)) }

// pageKey lets whoever may publish to the topic encrypt for it. It is named by its alias:
// stacks that come before it have no ARN of it.
func pageKey(c *config.Config, t *config.Tenant) (resource string, conditions map[string]any) {
	return arn(c, "kms", "key/*"), map[string]any{
		"ForAnyValue:StringEquals": map[string]any{"kms:ResourceAliases": "alias/" + pageTopic(t)},
		"StringEquals":             map[string]any{"kms:ViaService": "sns." + c.Region + ".amazonaws.com"}}
}

// allowPage lets a role wake somebody.
func allowPage(r awsiam.Role, c *config.Config, t *config.Tenant) {
	allow(r, "Page", []string{pageARN(c, t)}, nil, "sns:Publish")
	key, conditions := pageKey(c, t)
	allow(r, "PageKey", []string{key}, conditions, "kms:Decrypt", "kms:GenerateDataKey")
}

func newObservability(app awscdk.App, d *Deployment, t *config.Tenant) *Observability {
	s := part(app, d.Config, d.Config.Region, t.Name+"-Observability", "OriginChain: alarms and dashboard of instance "+t.Name)
	own(s, t)
	o := &Observability{Stack: s}
	o.page(d.Config, t)
	var all []string
	for _, w := range alarms.ForCloudWatch(alarms.Table()) {
		// That one is the failover's: its stack makes it.
		if w.Alarm == alarms.InstanceSilent {
			all = append(all, w.Of(t.Name, ""))
			continue
		}
		for _, node := range placesOf(&w, t) {
			all = append(all, o.alarm(tableAlarm(&w, t, node)))
		}
	}
	for _, a := range ownAlarms(d.Config, t) {
		all = append(all, o.alarm(a))
	}
	o.dashboard(d.Config, t, all)
	return o
}

// page makes the topic.
func (o *Observability) page(c *config.Config, t *config.Tenant) {
	o.Key = newKey(o.Stack, "PageKey", pageTopic(t), "Encrypts what wakes the operators of OriginChain instance "+t.Name)
	mine := map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": c.Account}, "ArnLike": map[string]any{"aws:SourceArn": arn(c, "cloudwatch", "alarm:"+t.Name+"-*")}}
	cloudwatch := &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(jsii.String("cloudwatch.amazonaws.com"), nil)}
	o.Key.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Sid: jsii.String("Alarms"), Principals: cloudwatch,
		Actions: list("kms:Decrypt", "kms:GenerateDataKey"), Resources: list("*"), Conditions: &mine}), nil)
	o.Page = awssns.NewCfnTopic(o.Stack, jsii.String("Page"), &awssns.CfnTopicProps{TopicName: jsii.String(pageTopic(t)), DisplayName: jsii.String("OriginChain " + t.Name),
		KmsMasterKeyId: o.Key.KeyArn()})
	awssns.NewCfnTopicPolicy(o.Stack, jsii.String("PagePolicy"), &awssns.CfnTopicPolicyProps{Topics: list(*o.Page.Ref()),
		PolicyDocument: awsiam.NewPolicyDocument(&awsiam.PolicyDocumentProps{Statements: &[]awsiam.PolicyStatement{
			awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Sid: jsii.String("OnlyTLS"), Effect: awsiam.Effect_DENY, Principals: &[]awsiam.IPrincipal{awsiam.NewAnyPrincipal()},
				Actions: list("sns:Publish"), Resources: list(*o.Page.Ref()), Conditions: &map[string]any{"Bool": map[string]any{"aws:SecureTransport": "false"}}}),
			awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Sid: jsii.String("Alarms"), Principals: cloudwatch,
				Actions: list("sns:Publish"), Resources: list(*o.Page.Ref()), Conditions: &mine}),
		}})})
}

// placesOf are the nodes that an alarm is made for; that of an instance is made once.
func placesOf(w *alarms.CloudWatch, t *config.Tenant) []string {
	if w.PerNode {
		return t.Nodes()
	}
	return []string{""}
}

// watched is an alarm as it is made.
type watched struct {
	name string
	// says is what it is, runbook where what is to be done is.
	says, runbook                 string
	namespace, metric, statistic  string
	dimensions                    [][2]string
	comparison                    string
	threshold                     float64
	period                        time.Duration
	periods                       int
	missing                       alarms.Missing
	severity                      alarms.Severity
}

func tableAlarm(w *alarms.CloudWatch, t *config.Tenant, node string) watched {
	a := watched{name: w.Of(t.Name, node), says: w.Says, runbook: w.Runbook, namespace: w.Namespace, metric: w.Metric, statistic: w.Statistic, comparison: w.Comparison,
		threshold: w.Threshold, period: w.Period, periods: w.Periods, missing: w.Missing, severity: w.Severity, dimensions: [][2]string{{instanceDimension, t.Name}}}
	if node != "" {
		a.dimensions = append(a.dimensions, [2]string{nodeDimension, node})
	}
	return a
}

// Dimensions of what nodes publish: each metric is there for the instance, and for each node.
const (
	instanceDimension = "Instance"
	nodeDimension     = "Node"
)

// alarm makes one, and gives its name. Of severity 1 and 2 it wakes somebody, and says when
// it is over; of severity 3 it is on the dashboard, and an incident.
func (o *Observability) alarm(a watched) string {
	var dimensions []any
	for _, d := range a.dimensions {
		dimensions = append(dimensions, &awscloudwatch.CfnAlarm_DimensionProperty{Name: jsii.String(d[0]), Value: jsii.String(d[1])})
	}
	p := &awscloudwatch.CfnAlarmProps{AlarmName: jsii.String(a.name), AlarmDescription: jsii.Sprintf("Severity %d. %s %s", a.severity, a.says, a.runbook),
		Namespace: jsii.String(a.namespace), MetricName: jsii.String(a.metric), Dimensions: &dimensions, ComparisonOperator: jsii.String(a.comparison),
		Threshold: jsii.Number(a.threshold), Period: jsii.Number(a.period.Seconds()), EvaluationPeriods: jsii.Number(a.periods), DatapointsToAlarm: jsii.Number(a.periods),
		TreatMissingData: jsii.String(string(a.missing)), ActionsEnabled: jsii.Bool(true)}
	if strings.HasPrefix(a.statistic, "p") {
		p.ExtendedStatistic = jsii.String(a.statistic)
	} else {
		p.Statistic = jsii.String(a.statistic)
	}
	if a.severity <= alarms.OneAlarm {
		p.AlarmActions, p.OkActions = &[]any{o.Page.Ref()}, &[]any{o.Page.Ref()}
	}
	alarm := awscloudwatch.NewCfnAlarm(o.Stack, jsii.String("Alarm-"+a.name), p)
	if a.severity > alarms.OneAlarm {
		excuse(alarm, "cdk-nag::CloudWatchAlarmAction", "It is of severity 3: it is an incident, which subscribers are told of, and wakes nobody")
	}
	return a.name
}
