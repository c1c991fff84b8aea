package stack

import (
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
	"originchain/shared/alarms"
)

// Observability is what wakes somebody, and what they see then: the topic that pages, the
// alarms of the table and those of the deployment's own parts, and a dashboard.
type Observability struct {
	Stack awscdk.Stack
	*pager
	// Notify keeps the incidents of the instance, and tells subscribers of them.
	Notify *Function
}

func newObservability(app awscdk.App, d *Deployment, t *config.Tenant) *Observability {
	s := part(app, d.Config, d.Config.Region, t.Name+"-Observability", "OriginChain: alarms and dashboard of instance "+t.Name)
	own(s, t)
	o := &Observability{Stack: s, pager: newPager(s, d.Config, pageTopic(t), "OriginChain "+t.Name, t.Name+"-")}
	o.notify(d, t)
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
	says, runbook                string
	namespace, metric, statistic string
	dimensions                   [][2]string
	comparison                   string
	threshold                    float64
	period                       time.Duration
	periods                      int
	missing                      alarms.Missing
	severity                     alarms.Severity
}

func tableAlarm(w *alarms.CloudWatch, t *config.Tenant, node string) watched {
	a := watched{name: w.Of(t.Name, node), says: w.Says, runbook: w.Runbook, namespace: alarms.Namespace(t.Name), metric: w.Metric, statistic: w.Statistic, comparison: w.Comparison,
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
func (p *pager) alarm(a watched) string {
	var dimensions []any
	for _, d := range a.dimensions {
		dimensions = append(dimensions, &awscloudwatch.CfnAlarm_DimensionProperty{Name: jsii.String(d[0]), Value: jsii.String(d[1])})
	}
	props := &awscloudwatch.CfnAlarmProps{AlarmName: jsii.String(a.name), AlarmDescription: jsii.Sprintf("Severity %d. %s %s", a.severity, a.says, a.runbook),
		Namespace: jsii.String(a.namespace), MetricName: jsii.String(a.metric), Dimensions: &dimensions, ComparisonOperator: jsii.String(a.comparison),
		Threshold: jsii.Number(a.threshold), Period: jsii.Number(a.period.Seconds()), EvaluationPeriods: jsii.Number(a.periods), DatapointsToAlarm: jsii.Number(a.periods),
		TreatMissingData: jsii.String(string(a.missing)), ActionsEnabled: jsii.Bool(true)}
	if strings.HasPrefix(a.statistic, "p") {
		props.ExtendedStatistic = jsii.String(a.statistic)
	} else {
		props.Statistic = jsii.String(a.statistic)
	}
	if a.severity <= alarms.OneAlarm {
		props.AlarmActions, props.OkActions = &[]any{p.Topic.Ref()}, &[]any{p.Topic.Ref()}
	}
	alarm := awscloudwatch.NewCfnAlarm(p.stack, jsii.String("Alarm-"+a.name), props)
	if a.severity > alarms.OneAlarm {
		const incident = "It is of severity 3: it is an incident, which subscribers are told of, and wakes nobody"
		excuse(alarm, "cdk-nag::CloudWatchAlarmAction", incident)
		excuse(alarm, "cfn-guard::cloudwatch_alarm_action_check", incident)
	}
	return a.name
}
