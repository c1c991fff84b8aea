package stack_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/jsii-runtime-go"
	"github.com/google/go-cmp/cmp"

	"originchain/infra/config"
	"originchain/shared/alarms"
	"originchain/shared/failover"
	"originchain/shared/instance"
)

// observed calls f with the observability of every tenant of both deployments.
func observed(t *testing.T, f func(t *testing.T, w *world, n *config.Tenant, tm template)) {
	t.Helper()
	tenants(t, func(t *testing.T, w *world, n *config.Tenant, _, _ template) {
		f(t, w, n, w.stacks["OriginChain-"+n.Name+"-Observability"])
	})
}

// TestEveryAlarmOfTheTableIsMade: as the table says, once for each place, with the section
// of the runbook, and waking somebody where that is its severity.
func TestEveryAlarmOfTheTableIsMade(t *testing.T) {
	observed(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		made := make(map[string]map[string]any)
		for _, a := range tm.resources("AWS::CloudWatch::Alarm") {
			p := a["Properties"].(map[string]any)
			made[p["AlarmName"].(string)] = p
		}
		for _, want := range alarms.ForCloudWatch(alarms.Table()) {
			if want.Alarm == alarms.InstanceSilent {
				if made[want.Of(n.Name, "")] != nil {
					t.Error("the failover's own alarm is made twice")
				}
				continue
			}
			nodes := []string{""}
			if want.PerNode {
				nodes = n.Nodes()
			}
			for _, node := range nodes {
				p, ok := made[want.Of(n.Name, node)]
				if !ok {
					t.Errorf("%s is missing", want.Of(n.Name, node))
					continue
				}
				delete(made, want.Of(n.Name, node))
				dimensions := []any{map[string]any{"Name": "Instance", "Value": n.Name}}
				if node != "" {
					dimensions = append(dimensions, map[string]any{"Name": "Node", "Value": node})
				}
				statistic, other := "Statistic", "ExtendedStatistic"
				if strings.HasPrefix(want.Statistic, "p") {
					statistic, other = other, statistic
				}
				got := map[string]any{"metric": p["MetricName"], "namespace": p["Namespace"], "dimensions": p["Dimensions"], "statistic": p[statistic], "other": p[other], "comparison": p["ComparisonOperator"],
					"threshold": p["Threshold"], "period": p["Period"], "periods": p["EvaluationPeriods"], "of": p["DatapointsToAlarm"], "missing": p["TreatMissingData"]}
				if diff := cmp.Diff(map[string]any{"metric": want.Metric, "namespace": alarms.Namespace(n.Name), "dimensions": dimensions, "statistic": want.Statistic, "other": nil, "comparison": want.Comparison,
					"threshold": want.Threshold, "period": want.Period.Seconds(), "periods": float64(want.Periods), "of": float64(want.Periods), "missing": string(want.Missing)}, got); diff != "" {
					t.Errorf("%s (-want +got)\n%s", want.Of(n.Name, node), diff)
				}
				tm.wakes(t, p, want.Severity <= alarms.OneAlarm, want.Runbook)
			}
		}
		delete(made, n.Name+"-writer-unreplaced")
		for name, p := range made { // those of the deployment's own parts
			tm.wakes(t, p, true, "docs/RUNBOOK.md#the-deployments-own-alarms")
			if !strings.HasPrefix(name, n.Name+"-") || p["TreatMissingData"] == "missing" {
				t.Errorf("%s: %v", name, p)
			}
		}
	})
}

// TestAWriterThatNobodyReplacesWakesSomebody: by the metric that a failover begins with, whatever
// of the failover's parts is away, and not before one that works has come to its end.
func TestAWriterThatNobodyReplacesWakesSomebody(t *testing.T) {
	observed(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		first := w.stacks["OriginChain-"+n.Name+"-Failover"].the(t, "AWS::CloudWatch::Alarm")
		var second map[string]any
		for _, a := range tm.resources("AWS::CloudWatch::Alarm") {
			if at(a, "Properties", "AlarmName") == n.Name+"-writer-unreplaced" {
				second = a["Properties"].(map[string]any)
			}
		}
		if second == nil {
			t.Fatal("nobody is woken but by the failover's own parts")
		}
		tm.wakes(t, second, true, "docs/RUNBOOK.md#"+alarms.InstanceSilent)
		for _, key := range []string{"Namespace", "MetricName", "Dimensions", "Statistic", "ComparisonOperator", "Threshold", "Period", "TreatMissingData"} {
			if diff := cmp.Diff(first[key], second[key]); diff != "" {
				t.Errorf("%s (-the failover's +this one's)\n%s", key, diff)
			}
		}
		longest := failover.DefaultPatience
		for _, f := range w.stacks["OriginChain-"+n.Name+"-Failover"].resources("AWS::Lambda::Function") {
			if at(f, "Properties", "FunctionName") == "oc-"+n.Name+"-promote" {
				longest += time.Duration(at(f, "Properties", "Timeout").(float64) * float64(time.Second))
			}
		}
		after := time.Duration(second["Period"].(float64) * second["EvaluationPeriods"].(float64) * float64(time.Second))
		if after <= longest || longest < time.Minute || after > 5*time.Minute || second["DatapointsToAlarm"] != second["EvaluationPeriods"] || !strings.HasPrefix(second["AlarmDescription"].(string), "Severity 1. ") {
			t.Errorf("it wakes somebody after %s, and a failover may take %s: %v", after, longest, second)
		}
	})
}

// wakes says whether an alarm wakes somebody, both when it fires and when it is over.
func (tm template) wakes(t *testing.T, p map[string]any, should bool, section string) {
	t.Helper()
	var want any
	if should {
		want = []any{map[string]any{"Ref": "Page"}}
	}
	if diff := cmp.Diff([]any{want, want}, []any{p["AlarmActions"], p["OKActions"]}); diff != "" || p["ActionsEnabled"] != true {
		t.Errorf("%v (-want +got)\n%s", p["AlarmName"], diff)
	}
	if says := p["AlarmDescription"].(string); !strings.HasPrefix(says, "Severity ") || !strings.HasSuffix(says, " "+section) {
		t.Errorf("%v says %q", p["AlarmName"], says)
	}
}

// TestWhatTheDeploymentsAlarmsWatchIsThere: a name that is mistyped watches nothing, and
// never fires.
func TestWhatTheDeploymentsAlarmsWatchIsThere(t *testing.T) {
	for _, d := range []string{"tiers", "options"} {
		w := deploy(t, d)
		there := make(map[string]bool)
		for _, tm := range w.stacks {
			for kind, key := range map[string]string{"AWS::Lambda::Function": "FunctionName", "AWS::SQS::Queue": "QueueName", "AWS::Events::Rule": "Name", "AWS::StepFunctions::StateMachine": "StateMachineName"} {
				for _, r := range tm.resources(kind) {
					there[kind+" "+tm.resolve(at(r, "Properties", key))] = true
				}
			}
		}
		dead := make(map[string]bool)
		for name, tm := range w.stacks {
			for _, a := range tm.resources("AWS::CloudWatch::Alarm") {
				for _, dim := range at(a, "Properties", "Dimensions").([]any) {
					of := at(dim, "Value").(string)
					kind := map[any]string{"FunctionName": "AWS::Lambda::Function", "QueueName": "AWS::SQS::Queue", "RuleName": "AWS::Events::Rule", "StateMachineArn": "AWS::StepFunctions::StateMachine"}[at(dim, "Name")]
					if kind == "AWS::StepFunctions::StateMachine" {
						of = of[strings.LastIndex(of, ":")+1:]
					}
					if kind != "" && !there[kind+" "+of] {
						t.Errorf("%s: %v watches %s %s, which there is not", name, at(a, "Properties", "AlarmName"), kind, of)
					}
					dead[of] = true
				}
			}
		}
		for key := range there {
			_, name, _ := strings.Cut(key, " ")
			if strings.HasPrefix(key, "AWS::SQS::Queue ") && !dead[name] && !strings.HasSuffix(name, "-alarms") || strings.HasPrefix(key, "AWS::Lambda::Function ") && !dead[name] || strings.HasPrefix(key, "AWS::StepFunctions") && !dead[name] {
				t.Errorf("nothing watches %s", key)
			}
		}
	}
}

// TestAlarmsBecomeIncidents: by way of a queue that gives again what was not handled, and
// lays it aside in the end.
func TestAlarmsBecomeIncidents(t *testing.T) {
	observed(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		raw := w.raw["OriginChain-"+n.Name+"-Observability"]
		arn := func(service, name string) string {
			return "arn:aws:" + service + ":" + w.config.Region + ":" + w.config.Account + ":" + name
		}
		raw.HasResourceProperties(jsii.String("AWS::Events::Rule"), map[string]any{"State": "ENABLED",
			"EventPattern": map[string]any{"source": []any{"aws.cloudwatch"}, "detail-type": []any{"CloudWatch Alarm State Change"}, "account": []any{w.config.Account}, "detail": map[string]any{"alarmName": []any{map[string]any{"prefix": n.Name + "-"}}}},
			"Targets":      []any{map[string]any{"Arn": arn("sqs", "oc-"+n.Name+"-alarms"), "DeadLetterConfig": map[string]any{"Arn": arn("sqs", "oc-"+n.Name+"-alarms-dead")}}}})
		raw.HasResourceProperties(jsii.String("AWS::Lambda::EventSourceMapping"), map[string]any{"EventSourceArn": arn("sqs", "oc-"+n.Name+"-alarms"), "FunctionResponseTypes": []any{"ReportBatchItemFailures"}, "Enabled": true})
		raw.HasResourceProperties(jsii.String("AWS::Scheduler::Schedule"), map[string]any{"ScheduleExpression": "rate(1 minute)", "State": "ENABLED",
			"Target": map[string]any{"Arn": arn("lambda", "function:oc-"+n.Name+"-notify"), "Input": `{"source":"aws.scheduler"}`}})
		q := tm.resources("AWS::SQS::Queue")["Alarms"]["Properties"].(map[string]any)
		timeout := at(tm.the(t, "AWS::Lambda::Function"), "Timeout").(float64)
		if q["VisibilityTimeout"].(float64) < 6*timeout || at(q, "RedrivePolicy", "maxReceiveCount") != 5.0 || tm.resolve(at(q, "RedrivePolicy", "deadLetterTargetArn")) != "<AlarmsDead.Arn>" {
			t.Errorf("a call takes %v s, and the queue is %v", timeout, q)
		}
		if timeout >= 120 {
			t.Errorf("a call takes %v s, and the state machine of a failover waits for 120", timeout)
		}
		for _, f := range tm.resources("AWS::Lambda::Function") {
			if at(f, "Properties", "ReservedConcurrentExecutions") != nil {
				t.Error("an empty account has no concurrency to reserve")
			}
			var all []string
			for i := range w.config.Tenants {
				all = append(all, w.config.Tenants[i].Name)
			}
			want := map[string]any{"OC_INSTANCE": n.Name, "OC_INSTANCES": strings.Join(all, ","), "OC_MAIL_FROM": w.config.MailFrom, "OC_REGISTRY": "dynamodb://originchain-registry/" + n.Name + "?region=" + w.config.Region,
				"OC_CONTROL_REGISTRY": "dynamodb://originchain-registry/control?region=" + w.config.Region}
			if diff := cmp.Diff(want, at(f, "Properties", "Environment", "Variables")); diff != "" {
				t.Error(diff)
			}
			// With as many instances as there may be, of the longest names, it is what Lambda takes.
			longest := strings.Repeat("x", 31)
			if instance.CheckName(longest) != nil || instance.CheckName(longest+"x") == nil {
				t.Error("the longest names are others")
			}
			bytes := config.MaxTenants * len(","+longest)
			for k, v := range want {
				bytes += len(k)
				if k != "OC_INSTANCES" {
					bytes += len(v.(string))
				}
			}
			if bytes > 4<<10 {
				t.Errorf("the environment has %d bytes", bytes)
			}
		}
	})
}

// TestQueuesAndTopics: none is open, in plain text, or forgetful.
func TestQueuesAndTopics(t *testing.T) {
	each(t, func(t *testing.T, w *world, _ string, tm template) {
		policies := make(map[string][]statement)
		for _, kind := range []string{"AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"} {
			for _, p := range tm.resources(kind) {
				of, _ := at(p, "Properties", "Queues").([]any)
				topics, _ := at(p, "Properties", "Topics").([]any)
				for _, ref := range append(of, topics...) {
					policies[tm.resolve(ref)] = statements(t, at(p, "Properties", "PolicyDocument"))
				}
			}
		}
		for kind, action := range map[string]string{"AWS::SQS::Queue": "sqs:SendMessage", "AWS::SNS::Topic": "sns:Publish"} {
			for id, r := range tm.resources(kind) {
				p := r["Properties"].(map[string]any)
				if p["SqsManagedSseEnabled"] != true && p["KmsMasterKeyId"] == nil {
					t.Errorf("%s is not encrypted", id)
				}
				if strings.HasSuffix(id, "Dead") && p["MessageRetentionPeriod"] != 14*24*3600.0 {
					t.Errorf("%s forgets: %v", id, p)
				}
				name, _ := p["QueueName"].(string)
				service := "sqs"
				if name == "" {
					name, service = p["TopicName"].(string), "sns"
				}
				resource := "arn:aws:" + service + ":" + w.config.Region + ":" + w.config.Account + ":" + name
				ask := func(secure, account string) request {
					return request{action: action, resource: resource, context: map[string]string{"aws:SecureTransport": secure, "aws:SourceAccount": account, "aws:SourceArn": "arn:aws:events:x:1:rule/x"}}
				}
				of := policies["<"+id+">"]
				if tm.denied(t, of, ask("false", w.config.Account)) != "OnlyTLS!" || tm.denied(t, of, ask("true", w.config.Account)) != "" {
					t.Errorf("%s takes what is not encrypted on its way, or nothing: %+v", id, of)
				}
				if tm.allowed(t, of, ask("true", "999999999999")) || tm.allowed(t, of, ask("true", w.config.Account)) {
					t.Errorf("%s takes from whoever asks", id)
				}
			}
		}
	})
}

// TestWhoMayWakeSomebody: alarms of the tenant's own, and nobody else by the topic's policy.
func TestWhoMayWakeSomebody(t *testing.T) {
	observed(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		topic := "arn:aws:sns:" + w.config.Region + ":" + w.config.Account + ":originchain-" + n.Name + "-page"
		if at(tm.the(t, "AWS::SNS::Topic"), "TopicName") != "originchain-"+n.Name+"-page" {
			t.Errorf("%v", tm.the(t, "AWS::SNS::Topic"))
		}
		of := statements(t, at(tm.the(t, "AWS::SNS::TopicPolicy"), "PolicyDocument"))
		key := statements(t, at(tm.the(t, "AWS::KMS::Key"), "KeyPolicy"))
		for alarm, want := range map[string]bool{n.Name + "-health": true, "other-health": false} {
			for account, ours := range map[string]bool{w.config.Account: true, "999999999999": false} {
				context := map[string]string{"aws:SourceAccount": account, "aws:SourceArn": "arn:aws:cloudwatch:" + w.config.Region + ":" + w.config.Account + ":alarm:" + alarm, "aws:SecureTransport": "true"}
				if got := tm.allowed(t, of, request{action: "sns:Publish", resource: topic, context: context}); got != (want && ours) {
					t.Errorf("%s of %s: %v", alarm, account, got)
				}
				service := slices.DeleteFunc(slices.Clone(key), func(s statement) bool { return s.Sid != "Alarms" })
				if got := tm.allowed(t, service, request{action: "kms:GenerateDataKey", resource: "*", context: context}); got != (want && ours) {
					t.Errorf("the key, for %s of %s: %v", alarm, account, got)
				}
			}
		}
	})
}

// TestWhatTheNotifierMayDo asks its role's policy.
func TestWhatTheNotifierMayDo(t *testing.T) {
	observed(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		policy := tm.policyOf(t, "Rolenotify")
		registry, region, account := "", w.config.Region, w.config.Account
		for _, s := range policy {
			if s.Sid == "Incidents" {
				registry = tm.texts(s.Resource)[0]
			}
		}
		_, domain, _ := strings.Cut(w.config.MailFrom, "@")
		keys := func(k string) map[string]string { return map[string]string{"dynamodb:LeadingKeys": k} }
		from := func(a string) map[string]string { return map[string]string{"ses:FromAddress": a} }
		for name, c := range map[string]struct {
			action, resource string
			context          map[string]string
			want             bool
		}{
			"an incident":          {"dynamodb:PutItem", registry, keys("control"), true},
			"its journal read":     {"dynamodb:GetItem", registry, keys(n.Name), true},
			"its journal written":  {"dynamodb:PutItem", registry, keys(n.Name), false},
			"another's journal":    {"dynamodb:GetItem", registry, keys("other"), false},
			"all of it":            {"dynamodb:Scan", registry, nil, false},
			"alarms":               {"cloudwatch:DescribeAlarms", "arn:aws:cloudwatch:" + region + ":" + account + ":alarm:*", nil, true},
			"an alarm silenced":    {"cloudwatch:DisableAlarmActions", "arn:aws:cloudwatch:" + region + ":" + account + ":alarm:x", nil, false},
			"mail from its sender": {"ses:SendEmail", "arn:aws:ses:" + region + ":" + account + ":identity/" + domain, from(w.config.MailFrom), true},
			"mail from another":    {"ses:SendEmail", "arn:aws:ses:" + region + ":" + account + ":identity/" + domain, from("ceo@" + domain), false},
			"mail of another's":    {"ses:SendEmail", "arn:aws:ses:" + region + ":" + account + ":identity/example.net", from(w.config.MailFrom), false},
			"its queue":            {"sqs:DeleteMessage", "arn:aws:sqs:" + region + ":" + account + ":oc-" + n.Name + "-alarms", nil, true},
			"what was laid aside":  {"sqs:DeleteMessage", "arn:aws:sqs:" + region + ":" + account + ":oc-" + n.Name + "-alarms-dead", nil, false},
			"a failover":           {"states:StartExecution", "arn:aws:states:" + region + ":" + account + ":stateMachine:oc-" + n.Name + "-failover", nil, false},
			"its log":              {"logs:PutLogEvents", "arn:aws:logs:" + region + ":" + account + ":log-group:/originchain/" + n.Name + "/functions/notify:log-stream:x", nil, true},
			"the log of another's": {"logs:PutLogEvents", "arn:aws:logs:" + region + ":" + account + ":log-group:/originchain/other/functions/notify:log-stream:x", nil, false},
			"an admin token":       {"secretsmanager:GetSecretValue", "arn:aws:secretsmanager:" + region + ":" + account + ":secret:originchain/" + n.Name + "/admin-token-x", nil, false},
			"the archive":          {"s3:GetObject", "arn:aws:s3:::oc-" + n.Name + "-" + account + "-" + n.ArchiveRegion + "/x", nil, false},
			"another role":         {"sts:AssumeRole", "arn:aws:iam::" + account + ":role/Admin", nil, false},
		} {
			if got := tm.allowed(t, policy, request{action: c.action, resource: c.resource, context: c.context}); got != c.want {
				t.Errorf("%s: allowed is %v, want %v", name, got, c.want)
			}
		}
	})
}

// TestSchedulesCanCallWhatTheyCall, and nothing else; and are taken by nobody else's.
func TestSchedulesCanCallWhatTheyCall(t *testing.T) {
	each(t, func(t *testing.T, w *world, _ string, tm template) {
		for id, s := range tm.resources("AWS::Scheduler::Schedule") {
			target := at(s, "Properties", "Target")
			role := at(target, "RoleArn", "Fn::GetAtt", 0).(string)
			calls := tm.resolve(at(target, "Arn"))
			action := "lambda:InvokeFunction"
			if strings.Contains(calls, ":states:") {
				action = "states:StartExecution"
			}
			policy := tm.policyOf(t, role)
			dead := tm.resolve(at(target, "DeadLetterConfig", "Arn"))
			for _, c := range []struct {
				action, resource string
				want             bool
			}{{action, calls, true}, {"sqs:SendMessage", dead, true}, {action, calls + "x", false}, {"lambda:UpdateFunctionCode", calls, false}} {
				if got := tm.allowed(t, policy, request{action: c.action, resource: c.resource}); got != c.want {
					t.Errorf("%s: %s of %s: %v", id, c.action, c.resource, got)
				}
			}
			trust := statements(t, at(tm.resources("AWS::IAM::Role")[role], "Properties", "AssumeRolePolicyDocument"))
			trust[0].Resource = "*"
			for account, want := range map[string]bool{w.config.Account: true, "999999999999": false} {
				if got := tm.allowed(t, trust, request{action: "sts:AssumeRole", resource: "x", context: map[string]string{"aws:SourceAccount": account, "aws:SourceArn": "arn:aws:scheduler:" + w.config.Region + ":" + account + ":schedule-group/default"}}); got != want {
					t.Errorf("%s: a schedule of %s takes its role: %v", id, account, got)
				}
			}
		}
	})
}

// TestTheDashboardBeginsWithWhatIsAskedFirst, has every metric of the table, and every
// alarm there is.
func TestTheDashboardBeginsWithWhatIsAskedFirst(t *testing.T) {
	observed(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		var board struct {
			Widgets []struct {
				Type                string
				X, Y, Width, Height int
				Properties          struct {
					Title, Markdown string
					Alarms          []string
					Metrics         [][]any
				}
			}
		}
		if err := json.Unmarshal([]byte(at(tm.the(t, "AWS::CloudWatch::Dashboard"), "DashboardBody").(string)), &board); err != nil {
			t.Fatal(err)
		}
		var first []string
		shown := make(map[string]int)
		for i, widget := range board.Widgets {
			if i < 7 {
				first = append(first, widget.Properties.Title)
			}
			for _, m := range widget.Properties.Metrics {
				shown[m[1].(string)]++
			}
			if widget.X+widget.Width > 24 {
				t.Errorf("%+v is beyond the edge", widget)
			}
			for _, other := range board.Widgets[:i] {
				if widget.X < other.X+other.Width && other.X < widget.X+widget.Width && widget.Y < other.Y+other.Height && other.Y < widget.Y+widget.Height {
					t.Errorf("%q covers %q", widget.Properties.Title, other.Properties.Title)
				}
			}
		}
		if diff := cmp.Diff([]string{"", "Alarms that fire come first", "Who writes (1)", "Silent for, s", "Not recoverable if this machine is lost, s", "Followers behind, LSN", "A write waits for the disk, ms"}, first); diff != "" {
			t.Error(diff)
		}
		for _, a := range alarms.ForCloudWatch(alarms.Table()) {
			if want := len(n.Nodes()); shown[a.Metric] != want && a.Metric != alarms.LastVerifiedAge || shown[a.Metric] == 0 {
				t.Errorf("%s is shown of %d nodes, and there are %d", a.Metric, shown[a.Metric], want)
			}
		}
		listed := board.Widgets[1].Properties.Alarms
		for _, a := range tm.resources("AWS::CloudWatch::Alarm") {
			if name := at(a, "Properties", "AlarmName").(string); !slices.Contains(listed, "arn:aws:cloudwatch:"+w.config.Region+":"+w.config.Account+":alarm:"+name) {
				t.Errorf("%s is not on the dashboard", name)
			}
		}
		if len(listed) > 100 || !slices.Contains(listed, "arn:aws:cloudwatch:"+w.config.Region+":"+w.config.Account+":alarm:"+n.Name+"-"+alarms.InstanceSilent) || !strings.Contains(board.Widgets[0].Properties.Markdown, n.Record) {
			t.Errorf("%d alarms; %+v", len(listed), board.Widgets[0])
		}
	})
}
