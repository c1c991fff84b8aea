package stack

import (
	"fmt"
	"strings"
	"time"

	"originchain/infra/config"
	"originchain/shared/alarms"
)

// ownSection is the section of docs/RUNBOOK.md about alarms of the deployment's own parts.
const ownSection = "docs/RUNBOOK.md#the-deployments-own-alarms"

// regionAlarms begins the names of alarms that are no tenant's.
const regionAlarms = "originchain-"

// Names of a tenant's queues, rules and state machines, by which alarms know them.
func alarmQueue(t *config.Tenant) string        { return "oc-" + t.Name + "-alarms" }
func alarmDeadQueue(t *config.Tenant) string    { return "oc-" + t.Name + "-alarms-dead" }
func scheduleDeadQueue(t *config.Tenant) string { return "oc-" + t.Name + "-schedules-dead" }
func silentDeadQueue(t *config.Tenant) string   { return "oc-" + t.Name + "-silent-dead" }
func verifyDeadQueue(t *config.Tenant) string   { return "oc-" + t.Name + "-verify-dead" }
func alarmRule(t *config.Tenant) string         { return "oc-" + t.Name + "-alarms" }

func machineName(t *config.Tenant, what string) string { return "oc-" + t.Name + "-" + what }

func machineARN(c *config.Config, t *config.Tenant, what string) string {
	return arn(c, "states", "stateMachine:"+machineName(t, what))
}

// seldom and often are how long a function that is called so may fail until somebody is
// woken: what is called every minute repeats by itself what failed once.
const (
	often  = 15 * time.Minute
	seldom = 5 * time.Minute
	step   = 5 * time.Minute
)

// unreplacedAfter is how long nobody writes until somebody is woken by that itself: longer than
// the watch of the writer and all that the promotion waits for, so that a failover which works
// wakes nobody.
const unreplacedAfter = 4 * time.Minute

// unreplaced is the alarm of the writer's silence once more, for when whatever that starts does
// not put an end to it: the rule, the state machine or the functions may be what is away. It
// publishes to the page by itself.
func unreplaced(t *config.Tenant) watched {
	for _, w := range alarms.ForCloudWatch(alarms.Table()) {
		if w.Alarm == alarms.InstanceSilent {
			a := tableAlarm(&w, t, "")
			a.name, a.periods = t.Name+"-writer-unreplaced", int(unreplacedAfter/w.Period)
			a.says = fmt.Sprintf("Nobody has written for %d minutes: no failover has replaced the writer.", unreplacedAfter/time.Minute)
			return a
		}
	}
	panic("the table has no alarm of a silent writer")
}

// ownAlarms watch what watches: functions, queues, rules and state machines. Names of what
// they watch are fixed, so that they need nothing of other stacks.
func ownAlarms(c *config.Config, t *config.Tenant) (out []watched) {
	out = append(out, unreplaced(t))
	for _, f := range []struct {
		name  string
		fails time.Duration
	}{{"silence", often}, {"promote", seldom}, {"dns", seldom}, {"pitrverify", seldom}, {"notify", often}} {
		out = append(out, fails(t, f.name, f.fails))
	}
	// What is to run every minute or two and does not is as bad as what fails.
	for _, name := range []string{"silence", "notify"} {
		out = append(out, idle(t, name))
	}
	for _, q := range []string{alarmDeadQueue(t), scheduleDeadQueue(t), verifyDeadQueue(t), silentDeadQueue(t)} {
		out = append(out, laidAside(t, q))
	}
	out = append(out, untold(t, "failing", alarms.DeliveriesFailed, 2), untold(t, "given-up", alarms.DeliveriesGivenUp, 1))
	age := failing(t, "queue-alarms-age", "AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", alarmQueue(t))
	age.says, age.statistic, age.threshold = "Alarms wait in "+alarmQueue(t)+" to become incidents.", "Maximum", often.Seconds()
	rule := failing(t, "rule-alarms", "AWS/Events", "FailedInvocations", "RuleName", alarmRule(t))
	rule.says = "EventBridge cannot put alarms into " + alarmQueue(t) + "."
	out = append(out, age, rule)
	for _, m := range []struct {
		name, what string
		severity   alarms.Severity
	}{{"failover", "A failover", alarms.TenantDown}, {"verify", "A verification on a machine of its own", alarms.OneAlarm}} {
		for _, metric := range []string{"ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted"} {
			a := failing(t, "machine-"+m.name+"-"+strings.ToLower(strings.TrimPrefix(metric, "Executions")), "AWS/States", metric, "StateMachineArn", machineARN(c, t, m.name))
			a.says, a.severity = m.what+" did not come to its end: its execution in the state machine "+machineName(t, m.name)+" says why.", m.severity
			out = append(out, a)
		}
	}
	return out
}

// fails is of a function that goes on failing.
func fails(t *config.Tenant, name string, after time.Duration) watched {
	a := failing(t, "function-"+name+"-errors", "AWS/Lambda", "Errors", "FunctionName", functionName(t, name))
	a.says, a.periods = "The function "+functionName(t, name)+" fails; its log says why.", int(after/step)
	return a
}

// untold is of subscribers who are not told of incidents of a tenant, whichever tenant's
// function has tried: each makes the attempts that are due of all. An attempt follows on the
// one before within ten minutes, so that each period has one.
func untold(t *config.Tenant, what, metric string, periods int) watched {
	a := failing(t, "deliveries-"+what, alarms.Namespace(t.Name), metric, instanceDimension, t.Name)
	a.says, a.period, a.periods = "Subscribers of incidents of "+t.Name+" are not told; the logs of the functions notify of all tenants say who and why.", often, periods
	return a
}

// idle is of a function that nobody calls.
func idle(t *config.Tenant, name string) watched {
	a := failing(t, "function-"+name+"-idle", "AWS/Lambda", "Invocations", "FunctionName", functionName(t, name))
	a.says = "Nobody calls the function " + functionName(t, name) + "; its schedule is to."
	a.comparison, a.threshold, a.periods, a.missing = "LessThanThreshold", 1, int(often/step), alarms.Breaching
	return a
}

// laidAside is of a queue of what could not be handled.
func laidAside(t *config.Tenant, queue string) watched {
	a := failing(t, "queue-"+strings.TrimPrefix(queue, functionName(t, "")), "AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queue)
	a.says, a.statistic = "What could not be handled lies in "+queue+".", "Maximum"
	return a
}

// failing is an alarm that fires when anything is counted.
func failing(t *config.Tenant, name, namespace, metric, dimension, of string) watched {
	whose := regionAlarms
	if t != nil {
		whose = t.Name + "-"
	}
	return watched{name: whose + name, namespace: namespace, metric: metric, statistic: "Sum", dimensions: [][2]string{{dimension, of}}, runbook: ownSection,
		comparison: "GreaterThanThreshold", period: step, periods: 1, missing: alarms.NotBreaching, severity: alarms.OneAlarm}
}
