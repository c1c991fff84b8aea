package stack_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/infra/config"
	"originchain/infra/documents"
	"originchain/infra/statemachine"
	"originchain/lambdas/awsenv"
	"originchain/lambdas/awsenv/nodes"
	"originchain/lambdas/promote"
	"originchain/lambdas/silence"
	"originchain/shared/alarms"
	"originchain/shared/aws/settings"
	"originchain/shared/failover"
	"originchain/writer/agent"
)

// failovers calls f with every tenant of both deployments, and the stack of its failover.
func failovers(t *testing.T, f func(t *testing.T, w *world, n *config.Tenant, tm template)) {
	t.Helper()
	tenants(t, func(t *testing.T, w *world, n *config.Tenant, _, _ template) {
		f(t, w, n, w.stacks["OriginChain-"+n.Name+"-Failover"])
	})
}

// the returns the only resource of a type.
func (tm template) the(t *testing.T, kind string) map[string]any {
	t.Helper()
	found := tm.resources(kind)
	if len(found) != 1 {
		t.Fatalf("%d of %s, want one", len(found), kind)
	}
	for _, r := range found {
		return r["Properties"].(map[string]any)
	}
	return nil
}

// arnOf is the ARN of a resource in the region of a deployment.
func (w *world) arnOf(service, resource string) string {
	return "arn:aws:" + service + ":" + w.config.Region + ":" + w.config.Account + ":" + resource
}

// other is another tenant of the deployment.
func (w *world) other(n *config.Tenant) *config.Tenant {
	i := slices.IndexFunc(w.config.Tenants, func(o config.Tenant) bool { return o.Name != n.Name })
	return &w.config.Tenants[i]
}

// doers are the statements of who acts in a failover: the functions, and people.
func (tm template) doers(t *testing.T) map[string][]statement {
	t.Helper()
	return map[string][]statement{"silence": tm.policyOf(t, "Rolesilence"), "promote": tm.policyOf(t, "Rolepromote"), "dns": tm.policyOf(t, "Roledns"),
		"operator": statements(t, at(tm.the(t, "AWS::IAM::ManagedPolicy"), "PolicyDocument"))}
}

// TestWhoMayCommandMachines: who finds out changes nothing, nobody commands what is
// another tenant's, or runs what is not this product's.
func TestWhoMayCommandMachines(t *testing.T) {
	failovers(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		other := w.other(n)
		all := []string{"silence", "promote", "dns", "operator"}
		document := func(of, verb string) string { return w.arnOf("ssm", "document/OriginChain-"+of+"-"+verb) }
		const machine, tag = "instance/i-0123456789abcdef0", "ssm:resourceTag/originchain:instance"
		for name, c := range map[string]struct {
			action, resource string
			context          []string
			who              []string
		}{
			"to ask for the process":       {"ssm:SendCommand", document(n.Name, "process"), nil, []string{"silence", "promote", "operator"}},
			"to read the unit":             {"ssm:SendCommand", document(n.Name, "unit"), nil, []string{"promote", "operator"}},
			"to stop":                      {"ssm:SendCommand", document(n.Name, "stop"), nil, []string{"promote", "operator"}},
			"to start":                     {"ssm:SendCommand", document(n.Name, "start"), nil, []string{"promote", "operator"}},
			"to restart":                   {"ssm:SendCommand", document(n.Name, "restart"), nil, []string{"promote", "operator"}},
			"to rewrite":                   {"ssm:SendCommand", document(n.Name, "rewrite"), nil, []string{"promote", "operator"}},
			"to ask by another's document": {"ssm:SendCommand", document(other.Name, "process"), nil, nil},
			"to stop by another's":         {"ssm:SendCommand", document(other.Name, "stop"), nil, nil},
			"to run a script":              {"ssm:SendCommand", "arn:aws:ssm:" + w.config.Region + "::document/AWS-RunShellScript", nil, nil},
			"on its machine":               {"ssm:SendCommand", w.arnOf("ec2", machine), []string{tag, n.Name}, []string{"silence", "promote", "operator"}},
			"on another's machine":         {"ssm:SendCommand", w.arnOf("ec2", machine), []string{tag, other.Name}, nil},
			"on a machine of nobody":       {"ssm:SendCommand", w.arnOf("ec2", machine), nil, nil},
			"to log in":                    {"ssm:StartSession", w.arnOf("ec2", machine), []string{tag, n.Name}, nil},
			"to ask what became of it":     {"ssm:GetCommandInvocation", "*", nil, []string{"silence", "promote", "operator"}},
			"to call it back":              {"ssm:CancelCommand", "*", nil, []string{"promote", "operator"}},
			"to change a document":         {"ssm:UpdateDocument", document(n.Name, "stop"), nil, nil},
			"to end a machine":             {"ec2:TerminateInstances", w.arnOf("ec2", machine), []string{tag, n.Name}, nil},
		} {
			for _, who := range all {
				if got := tm.may(t, tm.doers(t)[who], c.action, c.resource, c.context...); got != slices.Contains(c.who, who) {
					t.Errorf("%s: %s may: %v", name, who, got)
				}
			}
		}
	})
}

// TestWhoReadsAndWritesRecords: the instance's own items alone, and who writes is changed
// by those alone who replace a writer.
func TestWhoReadsAndWritesRecords(t *testing.T) {
	failovers(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		other := w.other(n)
		leases, registry := w.arnOf("dynamodb", "table/originchain-leases"), w.arnOf("dynamodb", "table/originchain-registry")
		secret := func(name string) string {
			return w.arnOf("secretsmanager", "secret:originchain/"+name+"-AbCdEf")
		}
		const key = "dynamodb:LeadingKeys"
		all, nodes, writers := []string{"silence", "promote", "dns", "operator"}, []string{"silence", "promote", "operator"}, []string{"promote", "operator"}
		for name, c := range map[string]struct {
			action, resource string
			context          []string
			who              []string
		}{
			"read who writes":              {"dynamodb:GetItem", leases, []string{key, n.Name}, all},
			"change who writes":            {"dynamodb:UpdateItem", leases, []string{key, n.Name}, writers},
			"delete who writes":            {"dynamodb:DeleteItem", leases, []string{key, n.Name}, nil},
			"read who writes elsewhere":    {"dynamodb:GetItem", leases, []string{key, other.Name}, nil},
			"change who writes elsewhere":  {"dynamodb:UpdateItem", leases, []string{key, other.Name}, nil},
			"change both at once":          {"dynamodb:UpdateItem", leases, []string{key, n.Name + severalValues + other.Name}, nil},
			"read without a key":           {"dynamodb:GetItem", leases, nil, nil},
			"scan":                         {"dynamodb:Scan", leases, nil, nil},
			"read the journal":             {"dynamodb:GetItem", registry, []string{key, n.Name}, all},
			"list the nodes":               {"dynamodb:Query", registry, []string{key, n.Name}, all},
			"keep the journal":             {"dynamodb:PutItem", registry, []string{key, n.Name}, all},
			"drop the journal":             {"dynamodb:DeleteItem", registry, []string{key, n.Name}, nil},
			"keep another's journal":       {"dynamodb:PutItem", registry, []string{key, other.Name}, nil},
			"read incidents":               {"dynamodb:Query", registry, []string{key, "control"}, nil},
			"read the admin token":         {"secretsmanager:GetSecretValue", secret(n.Name + "/admin-token"), nil, nodes},
			"change the admin token":       {"secretsmanager:PutSecretValue", secret(n.Name + "/admin-token"), nil, nil},
			"read another's admin token":   {"secretsmanager:GetSecretValue", secret(other.Name + "/admin-token"), nil, nil},
			"read a longer name":           {"secretsmanager:GetSecretValue", secret(n.Name + "/admin-token-other"), nil, nil},
			"read the nodes' certificates": {"secretsmanager:GetSecretValue", secret(n.Name + "/certificates/" + n.Name + "-a"), nil, nil},
			"read the settings":            {"ssm:GetParameter", w.arnOf("ssm", "parameter/originchain/"+n.Name), nil, []string{"operator"}},
			"read another's settings":      {"ssm:GetParameter", w.arnOf("ssm", "parameter/originchain/"+other.Name), nil, nil},
			"look at alarms":               {"cloudwatch:DescribeAlarms", w.arnOf("cloudwatch", "alarm:x"), nil, []string{"silence"}},
			"set an alarm off":             {"cloudwatch:SetAlarmState", w.arnOf("cloudwatch", "alarm:x"), nil, nil},
			"read the archive":             {"s3:GetObject", "arn:aws:s3:::" + w.archive(n) + "/x", nil, nil},
			"approve":                      {"states:SendTaskSuccess", w.arnOf("states", "stateMachine:oc-"+n.Name+"-failover"), nil, []string{"operator"}},
			"approve for another":          {"states:SendTaskSuccess", w.arnOf("states", "stateMachine:oc-"+other.Name+"-failover"), nil, nil},
			"read what it was asked":       {"states:GetExecutionHistory", w.arnOf("states", "execution:oc-"+n.Name+"-failover:x"), nil, []string{"operator"}},
			"change the state machine":     {"states:UpdateStateMachine", w.arnOf("states", "stateMachine:oc-"+n.Name+"-failover"), nil, nil},
		} {
			for _, who := range all {
				if got := tm.may(t, tm.doers(t)[who], c.action, c.resource, c.context...); got != slices.Contains(c.who, who) {
					t.Errorf("%s: %s may: %v", name, who, got)
				}
			}
		}
		// The key of tables and secrets is theirs through these services alone.
		through := map[string][]string{"silence": {"dynamodb", "secretsmanager"}, "promote": {"dynamodb", "secretsmanager"}, "operator": {"dynamodb", "secretsmanager"}, "dns": {"dynamodb"}}
		for who, statements := range tm.doers(t) {
			for i := range statements {
				if s := &statements[i]; slices.Contains(s.actions(), "kms:Decrypt") {
					var want []string
					for _, service := range through[who] {
						want = append(want, service+"."+w.config.Region+".amazonaws.com")
					}
					if got := tm.texts(s.Condition["StringEquals"]["kms:ViaService"]); !slices.Equal(got, want) || len(s.actions()) != 1 {
						t.Errorf("%s may %v through %q", who, s.actions(), got)
					}
				}
			}
		}
	})
}

// TestWhoMayChangeTheName: that of the writer alone, to an address, and only who has to.
func TestWhoMayChangeTheName(t *testing.T) {
	failovers(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		const names, types, actions = "route53:ChangeResourceRecordSetsNormalizedRecordNames", "route53:ChangeResourceRecordSetsRecordTypes", "route53:ChangeResourceRecordSetsActions"
		zone := "arn:aws:route53:::hostedzone/" + n.ZoneID
		movers := []string{"dns", "operator"}
		change := func(name, kind, action string) []string { return []string{names, name, types, kind, actions, action} }
		for name, c := range map[string]struct {
			action, resource string
			context          []string
			who              []string
		}{
			"the writer's name":        {"route53:ChangeResourceRecordSets", zone, change(n.Record, "A", "UPSERT"), movers},
			"in another zone":          {"route53:ChangeResourceRecordSets", "arn:aws:route53:::hostedzone/ZOTHER", change(n.Record, "A", "UPSERT"), nil},
			"a node's name":            {"route53:ChangeResourceRecordSets", zone, change(n.NodeName(0), "A", "UPSERT"), nil},
			"the name by health":       {"route53:ChangeResourceRecordSets", zone, change(n.AutoName(), "A", "UPSERT"), nil},
			"another tenant's name":    {"route53:ChangeResourceRecordSets", zone, change(w.other(n).Record, "A", "UPSERT"), nil},
			"it and another's at once": {"route53:ChangeResourceRecordSets", zone, change(n.Record+severalValues+w.other(n).Record, "A", "UPSERT"), nil},
			"to delete it":             {"route53:ChangeResourceRecordSets", zone, change(n.Record, "A", "DELETE"), nil},
			"to delete and make it":    {"route53:ChangeResourceRecordSets", zone, change(n.Record, "A", "UPSERT"+severalValues+"DELETE"), nil},
			"a text of the name":       {"route53:ChangeResourceRecordSets", zone, change(n.Record, "TXT", "UPSERT"), nil},
			"another name by CNAME":    {"route53:ChangeResourceRecordSets", zone, change(n.Record, "CNAME", "UPSERT"), nil},
			"nothing that is said":     {"route53:ChangeResourceRecordSets", zone, nil, nil},
			"to read the zone":         {"route53:ListResourceRecordSets", zone, nil, movers},
			"to read another zone":     {"route53:ListResourceRecordSets", "arn:aws:route53:::hostedzone/ZOTHER", nil, nil},
			"to wait for a change":     {"route53:GetChange", "arn:aws:route53:::change/C1", nil, movers},
			"to delete the zone":       {"route53:DeleteHostedZone", zone, nil, nil},
		} {
			for _, who := range []string{"silence", "promote", "dns", "operator"} {
				if got := tm.may(t, tm.doers(t)[who], c.action, c.resource, c.context...); got != slices.Contains(c.who, who) {
					t.Errorf("%s: %s may: %v", name, who, got)
				}
			}
		}
	})
}

// TestFunctionsMakeNoInterfaces: Lambda does, for those in the VPC; their own code may not.
func TestFunctionsMakeNoInterfaces(t *testing.T) {
	failovers(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		resource := w.arnOf("ec2", "network-interface/eni-1")
		for who, in := range map[string]bool{"silence": true, "promote": true, "dns": false} {
			s := tm.doers(t)[who]
			if got := tm.may(t, s, "ec2:CreateNetworkInterface", resource); got != in {
				t.Errorf("Lambda may for %s: %v", who, got)
			}
			if tm.may(t, s, "ec2:CreateNetworkInterface", resource, "lambda:SourceFunctionArn", w.arnOf("lambda", "function:oc-"+n.Name+"-"+who)) {
				t.Errorf("the code of %s may", who)
			}
			if tm.may(t, s, "ec2:CreateNetworkInterface", w.arnOf("ec2", "subnet/subnet-elsewhere")) {
				t.Errorf("%s may be in another network", who)
			}
			// Lambda asks of no interface, as there is none yet, and makes no function else.
			for _, action := range []string{"ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"} {
				for _, of := range []string{"*", w.arnOf("ec2", "*/*"), resource} {
					if got := tm.may(t, s, action, of); got != in {
						t.Errorf("Lambda may %s for %s, of %s: %v", action, who, of, got)
					}
					if tm.may(t, s, action, of, "lambda:SourceFunctionArn", w.arnOf("lambda", "function:oc-"+n.Name+"-"+who)) {
						t.Errorf("the code of %s may %s of %s", who, action, of)
					}
				}
			}
		}
	})
}

// TestTheStateMachineCallsWhatItIsOf: exactly the functions of its definition, and the
// topic that pages.
func TestTheStateMachineCallsWhatItIsOf(t *testing.T) {
	failovers(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		machine := tm.the(t, "AWS::StepFunctions::StateMachine")
		definition := machine["DefinitionString"].(string)
		if strings.Contains(definition, "${") {
			t.Error("a placeholder is left")
		}
		var asl struct {
			States map[string]struct {
				Type, Resource string
				TimeoutSeconds float64
				Parameters     struct{ FunctionName, TopicArn string }
			}
		}
		if err := json.Unmarshal([]byte(definition), &asl); err != nil {
			t.Fatal(err)
		}
		role, called := tm.policyOf(t, "MachineRole"), make(map[string]bool)
		for name, s := range asl.States {
			switch {
			case s.Parameters.FunctionName != "":
				called[s.Parameters.FunctionName] = true
				if !tm.may(t, role, "lambda:InvokeFunction", s.Parameters.FunctionName) {
					t.Errorf("%s calls %s, and may not", name, s.Parameters.FunctionName)
				}
				if own := tm.function(s.Parameters.FunctionName); own != nil && own["Timeout"].(float64) >= s.TimeoutSeconds {
					t.Errorf("%s gives up %v s after it has called what may take %v", name, s.TimeoutSeconds, own["Timeout"])
				}
			case s.Parameters.TopicArn != "":
				if !tm.may(t, role, "sns:Publish", s.Parameters.TopicArn) || s.Parameters.TopicArn != w.arnOf("sns", "originchain-"+n.Name+"-page") {
					t.Errorf("%s calls %s", name, s.Parameters.TopicArn)
				}
			case s.Type == "Task":
				t.Errorf("%s is of what is not known here: %+v", name, s)
			}
		}
		var want []string
		for _, name := range []string{"dns", "notify", "promote", "silence"} {
			want = append(want, w.arnOf("lambda", "function:oc-"+n.Name+"-"+name))
		}
		if got := slices.Sorted(maps.Keys(called)); !slices.Equal(got, want) {
			t.Errorf("calls %q, want %q", got, want)
		}
		other := w.other(n).Name
		for action, resource := range map[string]string{"lambda:InvokeFunction": w.arnOf("lambda", "function:oc-"+other+"-promote"), "sns:Publish": w.arnOf("sns", "originchain-"+other+"-page"),
			"states:StartExecution": w.arnOf("states", "stateMachine:oc-"+n.Name+"-failover"), "ssm:SendCommand": "*", "logs:DeleteLogGroup": "*", "lambda:UpdateFunctionCode": want[0]} {
			if tm.may(t, role, action, resource) {
				t.Errorf("it may %s %s", action, resource)
			}
		}
		if got := at(machine, "LoggingConfiguration", "Level"); got != "ALL" || at(machine, "StateMachineType") != "STANDARD" {
			t.Errorf("%v %v", got, at(machine, "StateMachineType"))
		}
		group := tm.resolve(at(machine, "LoggingConfiguration", "Destinations", 0, "CloudWatchLogsLogGroup", "LogGroupArn"))
		if !strings.HasPrefix(group, "<MachineLogs") {
			t.Errorf("its log is %s", group)
		}
	})
}

// function are the properties of a function by its ARN; nil for one that is elsewhere.
func (tm template) function(arn string) map[string]any {
	for _, f := range tm.resources("AWS::Lambda::Function") {
		p := f["Properties"].(map[string]any)
		if strings.HasSuffix(arn, ":function:"+p["FunctionName"].(string)) {
			return p
		}
	}
	return nil
}

// TestPlaceholdersAreKnown: a placeholder that the definition comes to have is a function's
// or the topic's, or newFailover does not know what it is.
func TestPlaceholdersAreKnown(t *testing.T) {
	for _, p := range statemachine.Placeholders() {
		if p != statemachine.Topic && !strings.HasSuffix(p, "FunctionArn") {
			t.Errorf("%s", p)
		}
	}
}

// TestLogsAreEncryptedWhereverTheyAre: the key is there for every group of its region, and
// for none of others.
func TestLogsAreEncryptedWhereverTheyAre(t *testing.T) {
	for _, d := range []string{"tiers", "options"} {
		w := deploy(t, d)
		var policy []statement
		network := w.stacks["OriginChain-Network"]
		for id, k := range network.resources("AWS::KMS::Key") {
			if strings.HasPrefix(id, "LogsKey") {
				policy = statements(t, at(k, "Properties", "KeyPolicy"))
			}
		}
		service := slices.IndexFunc(policy, func(s statement) bool { return s.Sid == "LogGroups" })
		ask := func(group string) bool {
			return network.may(t, policy[service:service+1], "kms:GenerateDataKey", "*", "kms:EncryptionContext:aws:logs:arn", w.arnOf("logs", "log-group:"+group))
		}
		for name, tm := range w.stacks {
			for id, g := range tm.resources("AWS::Logs::LogGroup") {
				group := at(g, "Properties", "LogGroupName").(string)
				if !ask(group) || at(g, "Properties", "KmsKeyId") == nil {
					t.Errorf("%s of %s, %s, is not encrypted by the key", id, name, group)
				}
			}
		}
		for _, group := range []string{"/aws/lambda/x", "/aws/vendedlogs/states/other/failover", "originchain/x"} {
			if ask(group) {
				t.Errorf("the key is for %s", group)
			}
		}
	}
}

// TestNoMachineBeforeItsFunctions: one that is changed with its functions is changed after them,
// and reads nothing that those do not answer yet.
func TestNoMachineBeforeItsFunctions(t *testing.T) {
	w, seen := deploy(t, "tiers"), 0
	for name, tm := range w.stacks {
		for id, s := range tm.resources("AWS::StepFunctions::StateMachine") {
			seen++
			first, _ := s["DependsOn"].([]any)
			for function := range tm.resources("AWS::Lambda::Function") {
				if !slices.Contains(first, any(function)) {
					t.Errorf("%s: %s depends on %v, and not on %s", name, id, first, function)
				}
			}
		}
	}
	if seen < 2*len(w.config.Tenants) {
		t.Errorf("%d state machines", seen)
	}
}

// TestWhatStartsAFailover: the one alarm that goes off, by a rule that lays aside what it
// cannot deliver, and a schedule; neither can start anything else.
func TestWhatStartsAFailover(t *testing.T) {
	failovers(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		machine := w.arnOf("states", "stateMachine:oc-"+n.Name+"-failover")
		dead := w.arnOf("sqs", "oc-"+n.Name+"-silent-dead")
		alarm := n.Name + "-oc-controlplane-instance-silent"
		rule := tm.the(t, "AWS::Events::Rule")
		if diff := cmp.Diff(map[string]any{"source": []any{"aws.cloudwatch"}, "detail-type": []any{"CloudWatch Alarm State Change"}, "account": []any{w.config.Account}, "region": []any{w.config.Region},
			"resources": []any{w.arnOf("cloudwatch", "alarm:"+alarm)}, "detail": map[string]any{"alarmName": []any{alarm}, "state": map[string]any{"value": []any{"ALARM"}}}}, rule["EventPattern"]); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		target := at(rule, "Targets", 0)
		if tm.resolve(at(target, "Arn")) != "<Machine>" || at(target, "DeadLetterConfig", "Arn") != dead || at(target, "Input") != nil || at(target, "InputPath") != nil || rule["State"] != "ENABLED" {
			t.Errorf("%v", target)
		}
		// The receiver ignores what is older than that.
		if age := at(target, "RetryPolicy", "MaximumEventAgeInSeconds"); age != silence.MaxEventAge.Seconds() {
			t.Errorf("it is tried for %v s", age)
		}
		watch := tm.schedule(t, "oc-"+n.Name+"-watch")
		to := watch["Target"].(map[string]any)
		var input struct {
			Watch bool `json:"watch"`
		}
		if err := json.Unmarshal([]byte(to["Input"].(string)), &input); err != nil || !input.Watch {
			t.Errorf("%v, %v", to["Input"], err)
		}
		if watch["ScheduleExpression"] != "rate(2 minutes)" || watch["State"] != "ENABLED" || to["Arn"] != machine || at(to, "DeadLetterConfig", "Arn") != dead || at(to, "RetryPolicy", "MaximumEventAgeInSeconds") != 120.0 {
			t.Errorf("%v", watch)
		}
		for role, may := range map[string]bool{"RuleRole": false, "WatchRole": true} {
			s := tm.policyOf(t, role)
			if !tm.may(t, s, "states:StartExecution", machine) || tm.may(t, s, "states:StartExecution", w.arnOf("states", "stateMachine:oc-"+w.other(n).Name+"-failover")) ||
				tm.may(t, s, "states:SendTaskSuccess", machine) || tm.may(t, s, "sqs:SendMessage", dead) != may {
				t.Errorf("%s: %+v", role, s)
			}
		}
		queue := tm.the(t, "AWS::SQS::Queue")
		if queue["SqsManagedSseEnabled"] != true || queue["QueueName"] != "oc-"+n.Name+"-silent-dead" || queue["MessageRetentionPeriod"] != 14.0*24*3600 {
			t.Errorf("%v", queue)
		}
		policy := statements(t, at(tm.the(t, "AWS::SQS::QueuePolicy"), "PolicyDocument"))
		send := func(context ...string) bool { return tm.may(t, policy, "sqs:SendMessage", dead, context...) }
		from := []string{"aws:SourceAccount", w.config.Account, "aws:SecureTransport", "true", "aws:SourceArn"}
		if !send(append(from, w.arnOf("events", "rule/oc-"+n.Name+"-silent"))...) || send(append(from, w.arnOf("events", "rule/other"))...) ||
			send("aws:SourceAccount", w.config.Account, "aws:SecureTransport", "false", "aws:SourceArn", w.arnOf("events", "rule/oc-"+n.Name+"-silent")) {
			t.Errorf("%+v", policy)
		}
	})
}

// schedule are the properties of one, by its name.
func (tm template) schedule(t *testing.T, name string) map[string]any {
	t.Helper()
	for _, s := range tm.resources("AWS::Scheduler::Schedule") {
		if at(s, "Properties", "Name") == name {
			return s["Properties"].(map[string]any)
		}
	}
	t.Fatalf("there is no schedule %s", name)
	return nil
}

// TestWhoCarriesOutIsNeverSetAside: the function that nobody but a failover calls is called
// once a day, by what can call nothing else, with what changes nothing.
func TestWhoCarriesOutIsNeverSetAside(t *testing.T) {
	failovers(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		function := w.arnOf("lambda", "function:oc-"+n.Name+"-promote")
		daily := tm.schedule(t, "oc-"+n.Name+"-ready")
		to := daily["Target"].(map[string]any)
		var ask promote.Ask
		if err := json.Unmarshal([]byte(to["Input"].(string)), &ask); err != nil || ask != (promote.Ask{Step: promote.Ready}) {
			t.Errorf("it is called with %v, %v", to["Input"], err)
		}
		if daily["ScheduleExpression"] != "rate(1 day)" || daily["State"] != "ENABLED" || to["Arn"] != function || at(to, "DeadLetterConfig", "Arn") != w.arnOf("sqs", "oc-"+n.Name+"-silent-dead") {
			t.Errorf("%v", daily)
		}
		if n := len(tm.resources("AWS::Scheduler::Schedule")); n != 2 {
			t.Errorf("%d schedules", n)
		}
		role := tm.policyOf(t, "ReadyRole")
		for action, resource := range map[string]string{"lambda:InvokeFunction": function, "sqs:SendMessage": w.arnOf("sqs", "oc-"+n.Name+"-silent-dead")} {
			if !tm.may(t, role, action, resource) {
				t.Errorf("it may not %s", action)
			}
		}
		for _, resource := range []string{w.arnOf("lambda", "function:oc-"+n.Name+"-dns"), w.arnOf("lambda", "function:oc-"+w.other(n).Name+"-promote"), w.arnOf("states", "stateMachine:oc-"+n.Name+"-failover")} {
			for _, action := range []string{"lambda:InvokeFunction", "states:StartExecution"} {
				if tm.may(t, role, action, resource) {
					t.Errorf("it may %s %s", action, resource)
				}
			}
		}
	})
}

// TestRolesAreTakenByWhomTheyAreFor: and not for somebody else's.
func TestRolesAreTakenByWhomTheyAreFor(t *testing.T) {
	failovers(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		for role, c := range map[string]struct{ service, source string }{
			"MachineRole": {"states.amazonaws.com", w.arnOf("states", "stateMachine:oc-"+n.Name+"-failover")},
			"RuleRole":    {"events.amazonaws.com", w.arnOf("events", "rule/oc-"+n.Name+"-silent")},
			"WatchRole":   {"scheduler.amazonaws.com", w.arnOf("scheduler", "schedule-group/default")},
			"ReadyRole":   {"scheduler.amazonaws.com", w.arnOf("scheduler", "schedule-group/default")},
			"Rolesilence": {"lambda.amazonaws.com", ""}, "Rolepromote": {"lambda.amazonaws.com", ""}, "Roledns": {"lambda.amazonaws.com", ""},
		} {
			found := false
			for id, r := range tm.resources("AWS::IAM::Role") {
				if !strings.HasPrefix(id, role) {
					continue
				}
				found = true
				for _, s := range statements(t, at(r, "Properties", "AssumeRolePolicyDocument")) {
					s.Resource = "*"
					ask := func(account, source string) bool {
						return tm.applies(t, &s, request{action: "sts:AssumeRole", resource: "x", context: map[string]string{"aws:SourceAccount": account, "aws:SourceArn": source}})
					}
					if got := at(s.Principal, "Service"); got != c.service || len(s.Principal.(map[string]any)) != 1 || !ask(w.config.Account, c.source) {
						t.Errorf("%s is for %v", id, s)
					}
					if c.source != "" && (ask("999999999999", c.source) || ask(w.config.Account, c.source+"x")) {
						t.Errorf("%s is taken for somebody else", id)
					}
				}
			}
			if !found {
				t.Errorf("there is no %s", role)
			}
		}
	})
}

// TestTheAlarmThatAFailoverBeginsWith is the one of the table, of what agents publish for
// the instance, and takes what is missing for silence.
func TestTheAlarmThatAFailoverBeginsWith(t *testing.T) {
	failovers(t, func(t *testing.T, _ *world, n *config.Tenant, tm template) {
		var of alarms.CloudWatch
		for _, w := range alarms.ForCloudWatch(alarms.Table()) {
			if w.Alarm == alarms.InstanceSilent {
				of = w
			}
		}
		a := tm.the(t, "AWS::CloudWatch::Alarm")
		for key, want := range map[string]any{"AlarmName": silence.AlarmName(n.Name), "Namespace": alarms.Namespace(n.Name), "MetricName": of.Metric, "Statistic": of.Statistic, "ComparisonOperator": of.Comparison,
			"Threshold": of.Threshold, "Period": of.Period.Seconds(), "EvaluationPeriods": float64(of.Periods), "DatapointsToAlarm": float64(of.Periods), "TreatMissingData": "breaching",
			"Dimensions": []any{map[string]any{"Name": agent.InstanceDimension, "Value": n.Name}}} {
			if diff := cmp.Diff(want, a[key]); diff != "" {
				t.Errorf("%s (-want +got)\n%s", key, diff)
			}
		}
	})
}

// TestFunctionsAreToldWhatTheyNeed: each begins with the environment that it is given, and
// its time is above what its code waits for.
func TestFunctionsAreToldWhatTheyNeed(t *testing.T) {
	own := []string{awsenv.Instance, awsenv.Leases, awsenv.Registry, awsenv.ZoneID, awsenv.Record}
	// least is what the longest of its steps may wait for, in seconds: the writer is watched
	// for failover.DefaultPatience, a new one looked for for a minute, a name changed for two.
	of := map[string]struct {
		needs, may []string
		inVPC      bool
		least      float64
	}{"silence": {nodes.Needs(), nodes.May(), true, 2 * failover.DefaultPatience.Seconds()}, "promote": {nodes.Needs(), nodes.May(), true, 90}, "dns": {own, nil, false, 125}}
	failovers(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		if got := len(tm.resources("AWS::Lambda::Function")); got != len(of) {
			t.Errorf("%d functions", got)
		}
		for name, c := range of {
			f := tm.function(w.arnOf("lambda", "function:oc-"+n.Name+"-"+name))
			given := at(f, "Environment", "Variables").(map[string]any)
			e, err := awsenv.Read(func(name string) string { s, _ := given[name].(string); return s }, c.needs, c.may)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for variable := range given {
				if !slices.Contains(slices.Concat(c.needs, c.may), variable) {
					t.Errorf("%s is told %s, which it does not ask for", name, variable)
				}
			}
			want := map[string]string{awsenv.Instance: n.Name, awsenv.Leases: "dynamodb://originchain-leases/" + n.Name + "?region=" + w.config.Region, awsenv.Record: n.Record}
			if c.inVPC {
				want[awsenv.CA], want[awsenv.DocumentPrefix] = n.CA, "OriginChain-"+n.Name
			} else {
				want[awsenv.ZoneID] = n.ZoneID
			}
			for variable, value := range want {
				if e.Get(variable) != value {
					t.Errorf("%s: %s is %q, want %q", name, variable, e.Get(variable), value)
				}
			}
			if f["Timeout"].(float64) < c.least || f["Timeout"].(float64) > 900 || f["MemorySize"].(float64) < 256 {
				t.Errorf("%s has %v s and %v MiB", name, f["Timeout"], f["MemorySize"])
			}
			if groups, _ := at(f, "VpcConfig", "SecurityGroupIds").([]any); (len(groups) == 2) != c.inVPC {
				t.Errorf("%s is in the groups %v", name, groups)
			}
			if subnets, _ := at(f, "VpcConfig", "SubnetIds").([]any); (len(subnets) == 3) != c.inVPC {
				t.Errorf("%s is in %v", name, subnets)
			}
		}
	})
}

// TestEveryFunctionIsBuiltAlike holds for those of all stacks.
func TestEveryFunctionIsBuiltAlike(t *testing.T) {
	each(t, func(t *testing.T, w *world, _ string, tm template) {
		for id, f := range tm.resources("AWS::Lambda::Function") {
			p := f["Properties"].(map[string]any)
			if p["Runtime"] != "provided.al2023" || p["Handler"] != "bootstrap" || !cmp.Equal(p["Architectures"], []any{"arm64"}) || p["TracingConfig"] != nil || p["ReservedConcurrentExecutions"] != nil {
				t.Errorf("%s: %v", id, p)
			}
			group := tm.resources("AWS::Logs::LogGroup")[strings.Trim(tm.resolve(at(p, "LoggingConfig", "LogGroup")), "<>")]
			role := tm.policyOf(t, strings.TrimSuffix(strings.TrimPrefix(tm.resolve(p["Role"]), "<"), ".Arn>"))
			for name, want := range map[any]bool{at(group, "Properties", "LogGroupName"): true, "/originchain/network/flows": false, "/originchain": false} {
				if got := tm.may(t, role, "logs:PutLogEvents", w.arnOf("logs", fmt.Sprintf("log-group:%v:log-stream:x", name))); got != want {
					t.Errorf("%s may write to %v: %v", id, name, got)
				}
			}
		}
	})
}

// TestDocumentsAreTheProgramsOwn: each verb's, in a new version where it changes.
func TestDocumentsAreTheProgramsOwn(t *testing.T) {
	all, err := documents.All()
	if err != nil {
		t.Fatal(err)
	}
	failovers(t, func(t *testing.T, _ *world, n *config.Tenant, tm template) {
		found := tm.resources("AWS::SSM::Document")
		if len(found) != len(all) {
			t.Errorf("%d documents, want %d", len(found), len(all))
		}
		byName := make(map[any]map[string]any)
		for _, d := range found {
			p := d["Properties"].(map[string]any)
			byName[p["Name"]] = p
		}
		for _, d := range all {
			var want any
			if err := json.Unmarshal([]byte(d.Content), &want); err != nil {
				t.Fatal(err)
			}
			p := byName["OriginChain-"+n.Name+"-"+d.Verb]
			if diff := cmp.Diff(want, p["Content"]); diff != "" || p["DocumentType"] != "Command" || p["UpdateMethod"] != "NewVersion" {
				t.Errorf("%s: %v %v (-want +got)\n%s", d.Verb, p["DocumentType"], p["UpdateMethod"], diff)
			}
		}
	})
}

// TestSettingsAreThoseOfPrograms: what scripts/promote-follower.sh reads of an instance.
func TestSettingsAreThoseOfPrograms(t *testing.T) {
	failovers(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		p := tm.the(t, "AWS::SSM::Parameter")
		got, err := settings.Parse([]byte(p["Value"].(string)))
		if err != nil {
			t.Fatal(err)
		}
		want := settings.Settings{Format: settings.Format, Instance: n.Name, Region: w.config.Region, Leases: "dynamodb://originchain-leases/" + n.Name + "?region=" + w.config.Region,
			Registry: "dynamodb://originchain-registry/" + n.Name + "?region=" + w.config.Region, Documents: "OriginChain-" + n.Name, ZoneID: n.ZoneID, Record: n.Record,
			AdminSecret: w.arnOf("secretsmanager", "secret:originchain/"+n.Name+"/admin-token"), CA: n.CA}
		if diff := cmp.Diff(want, got); diff != "" || p["Name"] != settings.Parameter(n.Name) || p["Type"] != "String" {
			t.Errorf("%v %v (-want +got)\n%s", p["Name"], p["Type"], diff)
		}
	})
}
