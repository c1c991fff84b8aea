package stack

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsssm"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsstepfunctions"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
	"originchain/infra/documents"
	"originchain/infra/statemachine"
	"originchain/shared/alarms"
)

// How long a call of a function may take: above what its code waits for, and below what
// the state machine waits for the function.
const (
	silenceSeconds = 90  // the writer is watched for 12 s, with what is read before and after
	promoteSeconds = 170 // the new writer is looked for up to a minute, is restarted, and has another
	dnsSeconds     = 150 // Route 53 has two minutes for a change

	failoverMiB = 512
	dnsMiB      = 256
)

const (
	// eventSeconds is how long EventBridge tries to start a failover: what is older than
	// that is ignored by its receiver.
	eventSeconds, eventRetries = 900, 185
	// watchMinutes is how often the alarm is looked at, whether it changed or not; what
	// could not be started by the next time is not started any more.
	watchMinutes = 2
	// watchInput is what a failover is started with then.
	watchInput = `{"watch":true}`
	// readyInput is what the function that carries steps out is called with once a day: Lambda
	// sets a function of a VPC aside that nobody calls for weeks, and nobody but a failover does.
	readyInput = `{"step":"ready"}`
	// readySeconds is for how long that call is tried.
	readySeconds = 3600
)

// Failover is what replaces a writer that died: the alarm of its silence, which starts a
// state machine, whose functions find out and act, by documents of Systems Manager on the
// machines. A schedule looks at the alarm as well, for the case that its change was lost.
type Failover struct {
	Stack                 awscdk.Stack
	Silence, Promote, DNS *Function
	// Machine is the state machine, Role what it may do.
	Machine awsstepfunctions.CfnStateMachine
	Role    awsiam.Role
}

// silentRule and watchSchedule start the state machine; readySchedule calls a function.
func silentRule(t *config.Tenant) string    { return "oc-" + t.Name + "-silent" }
func watchSchedule(t *config.Tenant) string { return "oc-" + t.Name + "-watch" }
func readySchedule(t *config.Tenant) string { return "oc-" + t.Name + "-ready" }

// silentAlarm is the alarm that a failover begins with.
func silentAlarm(t *config.Tenant) string { return t.Name + "-" + alarms.InstanceSilent }

// documentPrefix is what the names of a tenant's documents begin with.
func documentPrefix(t *config.Tenant) string { return prefix + t.Name }

// vendedLogs is where logs of state machines are: a resource policy that names each group
// has no room for those of all tenants, and below it none is needed.
const vendedLogs = "/aws/vendedlogs/states/originchain/"

func newFailover(app awscdk.App, d *Deployment, t *config.Tenant, in *Instance) *Failover {
	s := part(app, d.Config, d.Config.Region, t.Name+"-Failover", "OriginChain: the failover of instance "+t.Name)
	own(s, t)
	s.AddStackDependency(in.Stack, nil)
	f := &Failover{Stack: s}
	f.documents(t)
	f.functions(d, t)
	f.machine(d, t)
	f.begin(d.Config, t)
	f.settings(d.Config, t)
	f.operator(d, t)
	return f
}

// documents are what is done on machines. A new version becomes the one that is run: a
// document that was replaced would be missing meanwhile.
func (f *Failover) documents(t *config.Tenant) {
	all, err := documents.All()
	if err != nil {
		panic(err) // they are built in
	}
	for _, doc := range all {
		var content map[string]any
		if err := json.Unmarshal([]byte(doc.Content), &content); err != nil {
			panic(fmt.Sprintf("the document of %s: %v", doc.Verb, err))
		}
		awsssm.NewCfnDocument(f.Stack, jsii.String("Document-"+doc.Verb), &awsssm.CfnDocumentProps{
			Name: jsii.String(doc.Name(documentPrefix(t))), DocumentType: jsii.String("Command"), DocumentFormat: jsii.String("JSON"), Content: content, UpdateMethod: jsii.String("NewVersion")})
	}
}

// functions are what finds out and acts. Those that ask nodes are in the VPC; Route 53 has
// no endpoint there, so the one that changes the name is not.
func (f *Failover) functions(d *Deployment, t *config.Tenant) {
	c := d.Config
	env := func(more map[string]string) map[string]string {
		more["OC_INSTANCE"], more["OC_RECORD"] = t.Name, t.Record
		more["OC_LEASES"], more["OC_REGISTRY"] = leaseURL(c, t.Name), registryURL(c, t.Name)
		return more
	}
	nodes := func() map[string]string {
		more := map[string]string{"OC_DOCUMENT_PREFIX": documentPrefix(t), "OC_ADMIN_TOKEN_SECRET": adminSecretARN(c, t)}
		if t.CA != "" {
			more["OC_CA"] = t.CA
		}
		return env(more)
	}
	f.Silence = newFunction(f.Stack, d, functionSpec{Tenant: t, Name: "silence", Says: "Finds out whether the writer of " + t.Name + " is dead", Env: nodes(), MemoryMiB: failoverMiB, Timeout: seconds(silenceSeconds), InVPC: true})
	f.Promote = newFunction(f.Stack, d, functionSpec{Tenant: t, Name: "promote", Says: "Carries out the steps of a failover of " + t.Name, Env: nodes(), MemoryMiB: failoverMiB, Timeout: seconds(promoteSeconds), InVPC: true})
	f.DNS = newFunction(f.Stack, d, functionSpec{Tenant: t, Name: "dns", Says: "Points the name of the writer of " + t.Name + " at a new one", Env: env(map[string]string{"OC_ZONE_ID": t.ZoneID}), MemoryMiB: dnsMiB, Timeout: seconds(dnsSeconds)})
	f.allow(d, t)
}

// machine is the state machine, with whatever it does in its log: who asks later why a
// writer was replaced finds it there.
func (f *Failover) machine(d *Deployment, t *config.Tenant) {
	c := d.Config
	name := machineName(t, "failover")
	log := awslogs.NewLogGroup(f.Stack, jsii.String("MachineLogs"), &awslogs.LogGroupProps{LogGroupName: jsii.String(vendedLogs + t.Name + "/failover"),
		EncryptionKey: d.Network.Logs, Retention: logRetention(), RemovalPolicy: kept()})
	f.Role = awsiam.NewRole(f.Stack, jsii.String("MachineRole"), &awsiam.RoleProps{RoleName: jsii.String(roleName(c, t, "failover")), Description: jsii.String("The state machine " + name),
		AssumedBy: awsiam.NewPrincipalWithConditions(awsiam.NewServicePrincipal(jsii.String("states.amazonaws.com"), nil),
			&map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": c.Account}, "ArnLike": map[string]any{"aws:SourceArn": arn(c, "states", "stateMachine:"+name)}})})
	values, functions := placeholders(c, t)
	allow(f.Role, "Functions", functions, nil, "lambda:InvokeFunction")
	allowPage(f.Role, c, t)
	// Deliveries of logs have no ARN.
	allow(f.Role, "Logs", []string{"*"}, nil, "logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery", "logs:ListLogDeliveries",
		"logs:PutResourcePolicy", "logs:DescribeResourcePolicies", "logs:DescribeLogGroups")
	excuseWildcard(f.Role, "*", "Deliveries of logs have no ARN: the service asks for these of every state machine that has a log", "Logs")
	definition, err := statemachine.Render(values)
	if err != nil {
		panic(err) // the values are ARNs that follow from names
	}
	f.Machine = awsstepfunctions.NewCfnStateMachine(f.Stack, jsii.String("Machine"), &awsstepfunctions.CfnStateMachineProps{
		StateMachineName: jsii.String(name), StateMachineType: jsii.String("STANDARD"), RoleArn: f.Role.RoleArn(), DefinitionString: jsii.String(string(definition)),
		LoggingConfiguration: &awsstepfunctions.CfnStateMachine_LoggingConfigurationProperty{Level: jsii.String("ALL"), IncludeExecutionData: jsii.Bool(true),
			Destinations: &[]any{&awsstepfunctions.CfnStateMachine_LogDestinationProperty{CloudWatchLogsLogGroup: &awsstepfunctions.CfnStateMachine_CloudWatchLogsLogGroupProperty{LogGroupArn: log.LogGroupArn()}}}},
	})
	// It reads what they answer: a new one is not to meet the functions before it.
	f.Machine.Node().AddDependency(f.Role, f.Silence.Fn, f.Promote.Fn, f.DNS.Fn)
	const logged = "Every step, with what it was given and has answered, is in the machine's log, and in the journal; traces have no more"
	excuse(f.Machine, "cdk-nag::StepFunctionStateMachineXray", logged)
	excuse(f.Machine, "cfn-guard::step_functions_state_machine_tracing_enabled_check", logged)
}

// placeholders are the values of the definition's, and the functions among them.
func placeholders(c *config.Config, t *config.Tenant) (values map[string]string, functions []string) {
	values = map[string]string{statemachine.Topic: pageARN(c, t)}
	for _, p := range statemachine.Placeholders() {
		if name, ok := strings.CutSuffix(p, "FunctionArn"); ok {
			values[p] = functionARN(c, t, strings.ToLower(name))
			functions = append(functions, values[p])
		}
	}
	slices.Sort(functions)
	return values, functions
}

// begin is what starts the state machine: a change of the alarm, and a schedule.
func (f *Failover) begin(c *config.Config, t *config.Tenant) {
	f.alarm(t)
	machine, rule := machineARN(c, t, "failover"), arn(c, "events", "rule/"+silentRule(t))
	newDeadQueue(f.Stack, c, "SilentDead", silentDeadQueue(t), silentRule(t))
	role := awsiam.NewRole(f.Stack, jsii.String("RuleRole"), &awsiam.RoleProps{RoleName: jsii.String(roleName(c, t, "silent")), Description: jsii.String("Starts " + machineName(t, "failover") + " by the alarm"),
		AssumedBy: awsiam.NewPrincipalWithConditions(awsiam.NewServicePrincipal(jsii.String("events.amazonaws.com"), nil),
			&map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": c.Account}, "ArnEquals": map[string]any{"aws:SourceArn": rule}})})
	allow(role, "Start", []string{machine}, nil, "states:StartExecution")
	made := awsevents.NewCfnRule(f.Stack, jsii.String("Rule"), &awsevents.CfnRuleProps{Name: jsii.String(silentRule(t)), Description: jsii.String("The alarm of a silent writer of " + t.Name + " starts a failover"), State: jsii.String("ENABLED"),
		EventPattern: map[string]any{"source": []any{"aws.cloudwatch"}, "detail-type": []any{"CloudWatch Alarm State Change"}, "account": []any{c.Account}, "region": []any{c.Region},
			"resources": []any{arn(c, "cloudwatch", "alarm:"+silentAlarm(t))},
			"detail":    map[string]any{"alarmName": []any{silentAlarm(t)}, "state": map[string]any{"value": []any{"ALARM"}}}},
		Targets: &[]any{&awsevents.CfnRule_TargetProperty{Id: jsii.String("Machine"), Arn: f.Machine.Ref(), RoleArn: role.RoleArn(),
			DeadLetterConfig: &awsevents.CfnRule_DeadLetterConfigProperty{Arn: jsii.String(arn(c, "sqs", silentDeadQueue(t)))},
			RetryPolicy:      &awsevents.CfnRule_RetryPolicyProperty{MaximumRetryAttempts: jsii.Number(eventRetries), MaximumEventAgeInSeconds: jsii.Number(eventSeconds)}}}})
	made.Node().AddDependency(role)
	watch := newSchedule(f.Stack, c, schedule{id: "Watch", name: watchSchedule(t), role: roleName(c, t, "watch"), says: "Looks at the alarm of a silent writer of " + t.Name + ", for the case that its change was lost",
		expression: fmt.Sprintf("rate(%d minutes)", watchMinutes), target: machine, action: "states:StartExecution", input: watchInput, dead: silentDeadQueue(t), retries: 3, seconds: watchMinutes * 60})
	watch.Node().AddDependency(f.Machine)
	ready := newSchedule(f.Stack, c, schedule{id: "Ready", name: readySchedule(t), role: roleName(c, t, "ready"), says: "Has the function that carries out a failover of " + t.Name + " say that it could",
		expression: "rate(1 day)", target: functionARN(c, t, "promote"), action: "lambda:InvokeFunction", input: readyInput, dead: silentDeadQueue(t), retries: eventRetries, seconds: readySeconds})
	ready.Node().AddDependency(f.Promote.Fn)
}

// alarm is that of the writer's silence. Whatever is missing is silence: it is there to
// find that nobody speaks any more.
func (f *Failover) alarm(t *config.Tenant) {
	for _, w := range alarms.ForCloudWatch(alarms.Table()) {
		if w.Alarm != alarms.InstanceSilent {
			continue
		}
		a := awscloudwatch.NewCfnAlarm(f.Stack, jsii.String("Silent"), &awscloudwatch.CfnAlarmProps{
			AlarmName: jsii.String(w.Of(t.Name, "")), AlarmDescription: jsii.Sprintf("Severity %d. %s %s", w.Severity, w.Says, w.Runbook), Namespace: jsii.String(alarms.Namespace(t.Name)), MetricName: jsii.String(w.Metric),
			Dimensions: &[]any{&awscloudwatch.CfnAlarm_DimensionProperty{Name: jsii.String(instanceDimension), Value: jsii.String(t.Name)}},
			Statistic:  jsii.String(w.Statistic), ComparisonOperator: jsii.String(w.Comparison), Threshold: jsii.Number(w.Threshold), Period: jsii.Number(w.Period.Seconds()),
			EvaluationPeriods: jsii.Number(w.Periods), DatapointsToAlarm: jsii.Number(w.Periods), TreatMissingData: jsii.String(string(w.Missing)), ActionsEnabled: jsii.Bool(true)})
		const ruled = "Its change starts the failover by way of a rule of EventBridge, and is an incident by another"
		excuse(a, "cdk-nag::CloudWatchAlarmAction", ruled)
		excuse(a, "cfn-guard::cloudwatch_alarm_action_check", ruled)
	}
}

// settings are what programs are told that are given the instance's name alone.
func (f *Failover) settings(c *config.Config, t *config.Tenant) {
	text, err := json.Marshal(struct {
		Format      int    `json:"format"`
		Instance    string `json:"instance"`
		Region      string `json:"region"`
		Leases      string `json:"leases"`
		Registry    string `json:"registry"`
		Documents   string `json:"documents"`
		ZoneID      string `json:"zone_id"`
		Record      string `json:"record"`
		AdminSecret string `json:"admin_secret"`
		CA          string `json:"ca,omitempty"`
	}{1, t.Name, c.Region, leaseURL(c, t.Name), registryURL(c, t.Name), documentPrefix(t), t.ZoneID, t.Record, adminSecretARN(c, t), t.CA})
	if err != nil {
		panic(err) // of texts
	}
	awsssm.NewCfnParameter(f.Stack, jsii.String("Settings"), &awsssm.CfnParameterProps{Name: jsii.String(settingsParameter(t)), Type: jsii.String("String"), Tier: jsii.String("Standard"),
		Description: jsii.String("Where the records of OriginChain instance " + t.Name + " are, and what reaches its nodes; nothing secret"), Value: jsii.String(string(text))})
}

func settingsParameter(t *config.Tenant) string { return "/originchain/" + t.Name }
