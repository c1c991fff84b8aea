package stack

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsscheduler"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
)

const (
	// keptSeconds is how long what was laid aside stays: the most there is.
	keptSeconds = 14 * 24 * 3600
	// waitSeconds is how long a message waits to be handled.
	waitSeconds = 4 * 24 * 3600
	// maxReceives is how often a message is given until it is laid aside.
	maxReceives = 5
)

// newDeadQueue is where lies what could not be handled. An alarm watches it. rules of
// EventBridge may put there what they could not deliver.
func newDeadQueue(s awscdk.Stack, c *config.Config, id, name string, rules ...string) awssqs.CfnQueue {
	q := deadQueue(s, c, id, name, rules)
	excuse(q, "cdk-nag::SQSQueueDLQ", laidAsideHere)
	return q
}

const laidAsideHere = "It is a queue of what could not be handled: nothing takes from it but a person, whom its alarm calls"

func deadQueue(s awscdk.Stack, c *config.Config, id, name string, rules []string) awssqs.CfnQueue {
	q := awssqs.NewCfnQueue(s, jsii.String(id), &awssqs.CfnQueueProps{QueueName: jsii.String(name), SqsManagedSseEnabled: jsii.Bool(true), MessageRetentionPeriod: jsii.Number(keptSeconds)})
	queuePolicy(s, c, q, id, name, rules)
	excuse(q, "cdk-nag::SQSRedrivePolicy", laidAsideHere)
	excuse(q, "cfn-guard::sqs_dlq_check", laidAsideHere)
	return q
}

// newQueue is one that a rule feeds, and whose messages a function takes within visible
// seconds, or which are laid aside in the queue dead. There the rule lays aside, too, what
// it could not deliver.
func newQueue(s awscdk.Stack, c *config.Config, id, name, dead string, visible int, rule string) awssqs.CfnQueue {
	aside := deadQueue(s, c, id+"Dead", dead, []string{rule})
	q := awssqs.NewCfnQueue(s, jsii.String(id), &awssqs.CfnQueueProps{QueueName: jsii.String(name), SqsManagedSseEnabled: jsii.Bool(true),
		MessageRetentionPeriod: jsii.Number(waitSeconds), VisibilityTimeout: jsii.Number(visible),
		RedrivePolicy: map[string]any{"deadLetterTargetArn": *aside.AttrArn(), "maxReceiveCount": maxReceives}})
	queuePolicy(s, c, q, id, name, []string{rule})
	return q
}

// queuePolicy refuses what is not encrypted on its way, and lets the rules in that feed it.
func queuePolicy(s awscdk.Stack, c *config.Config, q awssqs.CfnQueue, id, name string, rules []string) {
	to := list(arn(c, "sqs", name))
	of := []awsiam.PolicyStatement{awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Sid: jsii.String("OnlyTLS"), Effect: awsiam.Effect_DENY,
		Principals: &[]awsiam.IPrincipal{awsiam.NewAnyPrincipal()}, Actions: list("sqs:*"), Resources: to, Conditions: &map[string]any{"Bool": map[string]any{"aws:SecureTransport": "false"}}})}
	if len(rules) > 0 {
		var from []any
		for _, r := range rules {
			from = append(from, arn(c, "events", "rule/"+r))
		}
		of = append(of, awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Sid: jsii.String("Rules"), Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(jsii.String("events.amazonaws.com"), nil)},
			Actions: list("sqs:SendMessage"), Resources: to, Conditions: &map[string]any{"ArnEquals": map[string]any{"aws:SourceArn": from}}}))
	}
	awssqs.NewCfnQueuePolicy(s, jsii.String(id+"Policy"), &awssqs.CfnQueuePolicyProps{Queues: &[]*string{q.Ref()},
		PolicyDocument: awsiam.NewPolicyDocument(&awsiam.PolicyDocumentProps{Statements: &of})})
}

// schedule is a call again and again.
type schedule struct {
	// id is the logical id, name the schedule's; its role has the name role.
	id, name, role, says string
	// expression is such as rate(1 minute).
	expression string
	// target is what is called, with input; action is what that takes.
	target, action string
	input          string
	// dead is the queue of calls that could not be made.
	dead string
	// spread is within how many minutes it is called; 0: at once.
	spread int
	// retries is how often a call is tried again, within the time seconds.
	retries, seconds int
}

// newSchedule makes one, with a role that can make that call alone. Whose it is is told by
// the group of schedules: the service does not say which schedule takes a role.
func newSchedule(s awscdk.Stack, c *config.Config, o schedule) awsscheduler.CfnSchedule {
	role := awsiam.NewRole(s, jsii.String(o.id+"Role"), &awsiam.RoleProps{RoleName: jsii.String(o.role), Description: jsii.String("Calls " + o.target),
		AssumedBy: awsiam.NewPrincipalWithConditions(awsiam.NewServicePrincipal(jsii.String("scheduler.amazonaws.com"), nil),
			&map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": c.Account}, "ArnEquals": map[string]any{"aws:SourceArn": arn(c, "scheduler", "schedule-group/default")}})})
	allow(role, "Call", []string{o.target}, nil, o.action)
	allow(role, "LayAside", []string{arn(c, "sqs", o.dead)}, nil, "sqs:SendMessage")
	window := &awsscheduler.CfnSchedule_FlexibleTimeWindowProperty{Mode: jsii.String("OFF")}
	if o.spread > 0 {
		window = &awsscheduler.CfnSchedule_FlexibleTimeWindowProperty{Mode: jsii.String("FLEXIBLE"), MaximumWindowInMinutes: jsii.Number(o.spread)}
	}
	made := awsscheduler.NewCfnSchedule(s, jsii.String(o.id), &awsscheduler.CfnScheduleProps{Name: jsii.String(o.name), Description: jsii.String(o.says), ScheduleExpression: jsii.String(o.expression),
		FlexibleTimeWindow: window, State: jsii.String("ENABLED"),
		Target: &awsscheduler.CfnSchedule_TargetProperty{Arn: jsii.String(o.target), RoleArn: role.RoleArn(), Input: jsii.String(o.input),
			DeadLetterConfig: &awsscheduler.CfnSchedule_DeadLetterConfigProperty{Arn: jsii.String(arn(c, "sqs", o.dead))},
			RetryPolicy:      &awsscheduler.CfnSchedule_RetryPolicyProperty{MaximumRetryAttempts: jsii.Number(o.retries), MaximumEventAgeInSeconds: jsii.Number(o.seconds)}}})
	// The service asks, when a schedule is made, whether its role may be had.
	made.Node().AddDependency(role)
	return made
}
