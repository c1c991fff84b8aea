package stack

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
)

const (
	// notifySeconds bounds a call: below what the state machine of a failover waits.
	notifySeconds = 100
	// alarmBatch is how many messages a call is given: each of them asks for the same.
	alarmBatch = 100
	// controlScope is the registry of incidents and subscribers.
	controlScope = "control"
	everyMinute  = "rate(1 minute)"
	// scheduled is what a schedule calls with.
	scheduled = `{"source":"aws.scheduler"}`
)

// notify keeps incidents and tells subscribers. A change of one of the instance's alarms
// wakes it by way of a queue, a schedule does each minute, and the state machine of a
// failover. Several calls at once do what one does: none has to be kept from running.
func (o *Observability) notify(d *Deployment, t *config.Tenant) {
	c, s := d.Config, o.Stack
	f := newFunction(s, d, functionSpec{Tenant: t, Name: "notify", Says: "Keeps the incidents of " + t.Name + " and tells subscribers", MemoryMiB: 256, Timeout: seconds(notifySeconds),
		Env: map[string]string{"OC_INSTANCE": t.Name, "OC_INSTANCES": instances(c), "OC_REGISTRY": registryURL(c, t.Name), "OC_CONTROL_REGISTRY": registryURL(c, controlScope), "OC_MAIL_FROM": c.MailFrom}})
	o.Notify = f
	allowScope(f.Role, d, "Failovers", t.Name, "dynamodb:GetItem", "dynamodb:Query")
	allowScope(f.Role, d, "Incidents", controlScope, "dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem")
	allow(f.Role, "Alarms", []string{arn(c, "cloudwatch", "alarm:*")}, nil, "cloudwatch:DescribeAlarms")
	allow(f.Role, "Mail", identities(c), map[string]any{"StringEquals": map[string]any{"ses:FromAddress": c.MailFrom}}, "ses:SendEmail", "ses:SendRawEmail")
	// Each message is seen again after six times what a call may take, as the service asks for.
	queue := newQueue(s, c, "Alarms", alarmQueue(t), alarmDeadQueue(t), 6*notifySeconds, alarmRule(t))
	allow(f.Role, "Queue", []string{arn(c, "sqs", alarmQueue(t))}, nil, "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
	mapping := awslambda.NewCfnEventSourceMapping(s, jsii.String("AlarmsToNotify"), &awslambda.CfnEventSourceMappingProps{FunctionName: f.Fn.FunctionName(), EventSourceArn: jsii.String(arn(c, "sqs", alarmQueue(t))),
		BatchSize: jsii.Number(alarmBatch), MaximumBatchingWindowInSeconds: jsii.Number(1), FunctionResponseTypes: list("ReportBatchItemFailures"), Enabled: jsii.Bool(true),
		// The fewest that there may be: they all look at the same.
		ScalingConfig: &awslambda.CfnEventSourceMapping_ScalingConfigProperty{MaximumConcurrency: jsii.Number(2)}})
	mapping.Node().AddDependency(queue, f.Role)
	excuse(mapping, "cdk-nag::LambdaEventSourceMappingDestination", "The queue lays aside what was not handled, in a queue that an alarm watches")
	excuseWildcard(f.Role, arn(c, "cloudwatch", "alarm:*"), "How alarms stand is asked by the beginning of their names, which is of no one alarm", "Alarms")
	awsevents.NewCfnRule(s, jsii.String("AlarmRule"), &awsevents.CfnRuleProps{Name: jsii.String(alarmRule(t)), Description: jsii.String("Alarms of " + t.Name + " that change their state become incidents"), State: jsii.String("ENABLED"),
		EventPattern: map[string]any{"source": []any{"aws.cloudwatch"}, "detail-type": []any{"CloudWatch Alarm State Change"}, "account": []any{c.Account},
			"detail": map[string]any{"alarmName": []any{map[string]any{"prefix": t.Name + "-"}}}},
		Targets: &[]any{&awsevents.CfnRule_TargetProperty{Id: jsii.String("Alarms"), Arn: jsii.String(arn(c, "sqs", alarmQueue(t))),
			DeadLetterConfig: &awsevents.CfnRule_DeadLetterConfigProperty{Arn: jsii.String(arn(c, "sqs", alarmDeadQueue(t)))},
			RetryPolicy:      &awsevents.CfnRule_RetryPolicyProperty{MaximumRetryAttempts: jsii.Number(185), MaximumEventAgeInSeconds: jsii.Number(24 * 3600)}}}})
	newDeadQueue(s, c, "SchedulesDead", scheduleDeadQueue(t))
	newSchedule(s, c, schedule{id: "NotifySchedule", name: functionName(t, "notify"), role: roleName(c, t, "notify-calls"), says: "Deliveries that are due, and what an event did not tell", expression: everyMinute,
		target: functionARN(c, t, "notify"), action: "lambda:InvokeFunction", input: scheduled, dead: scheduleDeadQueue(t), retries: 0, seconds: 60})
	onceAMinute(s, f, "notify")
}

// onceAMinute lets a call of a schedule that failed be: the next one does its work.
func onceAMinute(s awscdk.Stack, f *Function, id string) {
	calls := awslambda.NewCfnEventInvokeConfig(s, jsii.String("Calls-"+id), &awslambda.CfnEventInvokeConfigProps{FunctionName: f.Fn.FunctionName(), Qualifier: jsii.String("$LATEST"),
		MaximumRetryAttempts: jsii.Number(0), MaximumEventAgeInSeconds: jsii.Number(60)})
	excuse(calls, "cdk-nag::LambdaAsyncFailureDestination", "The next call does what this one did not; that several fail in a row is an alarm")
}

func seconds(n int) awscdk.Duration { return awscdk.Duration_Seconds(jsii.Number(n)) }

// allowScope lets a role at the items of one registry.
func allowScope(r awsiam.Role, d *Deployment, sid, scope string, actions ...string) {
	allow(r, sid, []string{*d.Control.Registry.TableArn()}, scopeAlone(scope), actions...)
	allow(r, sid+"Key", []string{*d.Control.Key.KeyArn()}, map[string]any{"StringEquals": map[string]any{"kms:ViaService": "dynamodb." + d.Config.Region + ".amazonaws.com"}}, "kms:Decrypt")
}

// scopeAlone holds for the items of one registry, or lease.
func scopeAlone(scope string) map[string]any {
	return map[string]any{"ForAllValues:StringEquals": map[string]any{"dynamodb:LeadingKeys": []any{scope}}, "Null": map[string]any{"dynamodb:LeadingKeys": "false"}}
}

// instances are the names of all, by which a notifier knows whose incidents nobody else ends.
func instances(c *config.Config) string {
	names := make([]string, len(c.Tenants))
	for i := range c.Tenants {
		names[i] = c.Tenants[i].Name
	}
	return strings.Join(names, ",")
}

// identities are those that a verified sender may be of: the address, its domain, or one above.
func identities(c *config.Config) (out []string) {
	out = append(out, arn(c, "ses", "identity/"+c.MailFrom))
	_, domain, _ := strings.Cut(c.MailFrom, "@")
	for strings.Contains(domain, ".") {
		out = append(out, arn(c, "ses", "identity/"+domain))
		_, domain, _ = strings.Cut(domain, ".")
	}
	return out
}
