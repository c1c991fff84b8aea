package stack

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
	"originchain/shared/alarms"
)

// writesMetric is 1 at a node that says that it is the writer, and is ready.
const writesMetric = "oc_node_writes"

// object is one of JSON.
type object = map[string]any

// board lays widgets out, from left to right and downwards, on the 24 columns there are.
type board struct {
	region  string
	widgets []object
	x, y, h int
}

const columns = 24

func (b *board) put(kind string, width, height int, properties object) {
	if b.x+width > columns {
		b.x, b.y, b.h = 0, b.y+b.h, 0
	}
	b.widgets = append(b.widgets, object{"type": kind, "x": b.x, "y": b.y, "width": width, "height": height, "properties": properties})
	b.x, b.h = b.x+width, max(b.h, height)
}

// lines are metrics over time, with the limits that alarms have.
func (b *board) lines(width int, title string, statistic string, period int, metrics []any, limits ...float64) {
	p := object{"title": title, "view": "timeSeries", "region": b.region, "stat": statistic, "period": period, "metrics": metrics, "yAxis": object{"left": object{"min": 0}}}
	var marks []any
	for _, l := range limits {
		marks = append(marks, object{"label": fmt.Sprintf("alarm: %g", l), "value": l, "color": "#d62728"})
	}
	if marks != nil {
		p["annotations"] = object{"horizontal": marks}
	}
	b.put("metric", width, 6, p)
}

// dashboard shows what somebody who was woken asks first, in that order: which alarms
// fire, who writes, whether it is silent, what would be lost, how far followers are behind,
// whether the disk is slow; then each metric of the table, and the deployment's own parts.
func (o *Observability) dashboard(c *config.Config, t *config.Tenant, all []string) {
	b := &board{region: c.Region}
	b.put("text", columns, 3, object{"markdown": "# Instance " + t.Name + ", writer at " + t.Record + "\n" +
		"Woken? docs/RUNBOOK.md has a section for each alarm, which begins with what stops the bleeding; each alarm's description names it. " +
		"Failover: docs/RUNBOOK.md#a-failover, state machine " + machineName(t, "failover") + ". Restore: docs/RUNBOOK.md#restore-to-a-moment. Incidents: docs/RUNBOOK.md#incidents. " +
		"Logs: " + logGroup(t) + " (nodes), " + logGroup(t) + "/functions/… (functions)."})
	var arns []any
	for _, name := range all {
		arns = append(arns, arn(c, "cloudwatch", "alarm:"+name))
	}
	b.put("alarm", columns, 6, object{"title": "Alarms that fire come first", "sortBy": "stateUpdatedTimestamp", "states": []any{"ALARM", "INSUFFICIENT_DATA", "OK"}, "alarms": arns})
	for _, w := range []struct {
		title, metric, statistic string
		nodes                    bool
	}{
		{"Who writes (1)", writesMetric, "Maximum", true}, {"Silent for, s", alarms.HeartbeatAge, "Maximum", true},
		{"Not recoverable if this machine is lost, s", "oc_recoverable_until_age_s", "Maximum", true},
		{"Followers behind, LSN", "oc_replication_applied_lag_lsn", "Maximum", true}, {"A write waits for the disk, ms", "oc_wal_fsync_lag_ms", "Maximum", true},
		{"Last verified restore, s ago", alarms.LastVerifiedAge, "Maximum", false},
	} {
		b.lines(8, w.title, w.statistic, 10, metricsOf(t, w.metric, w.nodes), limitsOf(w.metric)...)
	}
	b.rest(t)
	b.parts(c, t)
	body, err := json.Marshal(object{"start": "-PT3H", "widgets": b.widgets})
	if err != nil {
		panic(err) // of texts and numbers
	}
	awscloudwatch.NewCfnDashboard(o.Stack, jsii.String("Dashboard"), &awscloudwatch.CfnDashboardProps{DashboardName: jsii.String("originchain-" + t.Name), DashboardBody: jsii.String(string(body))})
}

// metricsOf are those of a name, of each node or of the instance.
func metricsOf(t *config.Tenant, metric string, nodes bool) (out []any) {
	if !nodes {
		return []any{[]any{alarms.Namespace(t.Name), metric, instanceDimension, t.Name}}
	}
	for _, n := range t.Nodes() {
		out = append(out, []any{alarms.Namespace(t.Name), metric, instanceDimension, t.Name, nodeDimension, n, object{"label": n}})
	}
	return out
}

// limitsOf are the thresholds of a metric's alarms.
func limitsOf(metric string) (out []float64) {
	for _, w := range alarms.ForCloudWatch(alarms.Table()) {
		if w.Metric == metric && !slices.Contains(out, w.Threshold) {
			out = append(out, w.Threshold)
		}
	}
	return out
}

// rest has a widget for each other metric of the table.
func (b *board) rest(t *config.Tenant) {
	shown := []string{alarms.HeartbeatAge, alarms.LastVerifiedAge, "oc_recoverable_until_age_s", "oc_replication_applied_lag_lsn", "oc_wal_fsync_lag_ms"}
	for _, w := range alarms.ForCloudWatch(alarms.Table()) {
		if slices.Contains(shown, w.Metric) {
			continue
		}
		shown = append(shown, w.Metric)
		b.lines(6, w.Metric, w.Statistic, int(w.Period.Seconds()), metricsOf(t, w.Metric, true), limitsOf(w.Metric)...)
	}
}

// parts has the deployment's own: functions, queues and state machines.
func (b *board) parts(c *config.Config, t *config.Tenant) {
	var errs, took, queues, runs []any
	for _, f := range []string{"silence", "promote", "dns", "notify", "pitrverify"} {
		errs = append(errs, []any{"AWS/Lambda", "Errors", "FunctionName", functionName(t, f)})
		took = append(took, []any{"AWS/Lambda", "Duration", "FunctionName", functionName(t, f)})
	}
	for _, q := range []string{alarmQueue(t), alarmDeadQueue(t), scheduleDeadQueue(t), verifyDeadQueue(t), silentDeadQueue(t)} {
		queues = append(queues, []any{"AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", q})
	}
	for _, m := range []string{"failover", "verify"} {
		for _, metric := range []string{"ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed"} {
			runs = append(runs, []any{"AWS/States", metric, "StateMachineArn", machineARN(c, t, m), object{"label": m + " " + metric}})
		}
	}
	b.lines(6, "Functions: errors", "Sum", 60, errs)
	b.lines(6, "Functions: ms", "Maximum", 60, took)
	b.lines(6, "Messages that wait", "Maximum", 60, queues)
	b.lines(6, "State machines", "Sum", 60, runs)
}
