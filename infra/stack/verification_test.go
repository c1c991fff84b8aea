package stack_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/jsii-runtime-go"
	"github.com/google/go-cmp/cmp"

	"originchain/infra/config"
)

func verifications(t *testing.T, f func(t *testing.T, w *world, n *config.Tenant, tm template)) {
	t.Helper()
	tenants(t, func(t *testing.T, w *world, n *config.Tenant, _, _ template) {
		f(t, w, n, w.stacks["OriginChain-"+n.Name+"-Verification"])
	})
}

// TestRecoveryPointsAreVerified: once a day by the state machine, whose function says each
// quarter of an hour how long ago one was green.
func TestRecoveryPointsAreVerified(t *testing.T) {
	verifications(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		raw := w.raw["OriginChain-"+n.Name+"-Verification"]
		arn := func(service, name string) string {
			return "arn:aws:" + service + ":" + w.config.Region + ":" + w.config.Account + ":" + name
		}
		raw.HasResourceProperties(jsii.String("AWS::Scheduler::Schedule"), map[string]any{"ScheduleExpression": "cron(15 1 * * ? *)", "State": "ENABLED", "Target": map[string]any{"Arn": arn("states", "stateMachine:oc-"+n.Name+"-verify")}})
		raw.HasResourceProperties(jsii.String("AWS::Scheduler::Schedule"), map[string]any{"ScheduleExpression": "rate(15 minutes)", "State": "ENABLED", "Target": map[string]any{"Arn": arn("lambda", "function:oc-"+n.Name+"-pitrverify"), "Input": `{"age":true}`}})
		f := tm.the(t, "AWS::Lambda::Function")
		if at(f, "Timeout") != 900.0 || at(f, "EphemeralStorage", "Size") != 10240.0 || at(f, "VpcConfig") != nil {
			t.Errorf("%v", f)
		}
		// What a verification may write fits what there is, with room to spare.
		want := map[string]any{"OC_INSTANCE": n.Name, "OC_LEASES": "dynamodb://originchain-leases/" + n.Name + "?region=" + w.config.Region, "OC_REGISTRY": "dynamodb://originchain-registry/" + n.Name + "?region=" + w.config.Region,
			"OC_ARCHIVE": "s3://" + w.archive(n) + "?region=" + n.ArchiveRegion, "OC_SCRATCH_BYTES": "9663676416"}
		if diff := cmp.Diff(want, at(f, "Environment", "Variables")); diff != "" {
			t.Error(diff)
		}
		definition := tm.resolve(tm.the(t, "AWS::StepFunctions::StateMachine")["DefinitionString"])
		if !json.Valid([]byte(definition)) || strings.Contains(definition, "${") || !strings.Contains(definition, `"LaunchTemplateName": "originchain-`+n.Name+`-verify"`) || !strings.Contains(definition, arn("lambda", "function:oc-"+n.Name+"-pitrverify")) {
			t.Error(definition)
		}
	})
}

// TestTheMachineThatVerifies has the space, ends itself with what it restored, and is
// reached by nobody.
func TestTheMachineThatVerifies(t *testing.T) {
	verifications(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		p := tm.the(t, "AWS::EC2::LaunchTemplate")
		d := p["LaunchTemplateData"]
		disk := at(d, "BlockDeviceMappings", 0, "Ebs")
		for _, c := range []struct {
			in   any
			path []any
			want any
		}{
			{p, []any{"LaunchTemplateName"}, "originchain-" + n.Name + "-verify"}, {d, []any{"InstanceInitiatedShutdownBehavior"}, "terminate"}, {d, []any{"InstanceType"}, n.Machine.Type(n.Architecture)}, {d, []any{"KeyName"}, nil},
			{d, []any{"MetadataOptions"}, map[string]any{"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1.0, "InstanceMetadataTags": "disabled"}},
			{d, []any{"NetworkInterfaces", 0, "AssociatePublicIpAddress"}, false}, {d, []any{"NetworkInterfaces", 0, "DeleteOnTermination"}, true}, {d, []any{"Placement", "Tenancy"}, map[bool]string{false: "default", true: "dedicated"}[n.DedicatedTenancy]},
			{disk, []any{"Encrypted"}, true}, {disk, []any{"DeleteOnTermination"}, true}, {disk, []any{"VolumeSize"}, float64(16 + n.Machine.State.GiB + n.Machine.Log.GiB)},
		} {
			if diff := cmp.Diff(c.want, at(c.in, c.path...)); diff != "" {
				t.Errorf("%v (-want +got)\n%s", c.path, diff)
			}
		}
		if groups := at(d, "NetworkInterfaces", 0, "Groups").([]any); len(groups) != 1 || !strings.Contains(tm.resolve(groups[0]), "Members") {
			t.Errorf("it is in the groups %v", groups)
		}
		// Nodes may attach volumes to what has their tag.
		for _, s := range at(d, "TagSpecifications").([]any) {
			for _, tag := range at(s, "Tags").([]any) {
				if at(tag, "Key") == "originchain:instance" {
					t.Errorf("it is tagged as a node: %v", tag)
				}
			}
		}
	})
}

// TestWhatVerificationsMayDo asks the policies of the function, of the machine and of the
// state machine.
func TestWhatVerificationsMayDo(t *testing.T) {
	verifications(t, func(t *testing.T, w *world, n *config.Tenant, tm template) {
		region, account := w.config.Region, w.config.Account
		arn := func(service, resource string) string {
			return "arn:aws:" + service + ":" + region + ":" + account + ":" + resource
		}
		bucket := "arn:aws:s3:::" + w.archive(n)
		registry := ""
		for _, s := range tm.policyOf(t, "MachineRole") {
			if s.Sid == "Record" {
				registry = tm.texts(s.Resource)[0]
			}
		}
		keys := func(k string) map[string]string { return map[string]string{"dynamodb:LeadingKeys": k} }
		var template string
		for id := range tm.resources("AWS::EC2::LaunchTemplate") {
			template = arn("ec2", "launch-template/<"+id+">")
		}
		from := func(tpl, resource string) map[string]string {
			return map[string]string{"ec2:LaunchTemplate": tpl, "ec2:IsLaunchTemplateResource": resource}
		}
		for name, c := range map[string]struct {
			role, action, resource string
			context                map[string]string
			want                   bool
		}{
			"the function reads the archive":      {"Rolepitrverify", "s3:GetObject", bucket + "/log/x", nil, true},
			"the function writes the archive":     {"Rolepitrverify", "s3:PutObject", bucket + "/log/x", nil, false},
			"the function deletes there":          {"Rolepitrverify", "s3:DeleteObject", bucket + "/log/x", nil, false},
			"the function takes retention's role": {"Rolepitrverify", "sts:AssumeRole", "arn:aws:iam::" + account + ":role/oc-" + n.Name + "-retention-" + region, nil, false},
			"the function records":                {"Rolepitrverify", "dynamodb:PutItem", registry, keys(n.Name), true},
			"the function records another's":      {"Rolepitrverify", "dynamodb:PutItem", registry, keys("other"), false},
			"the machine reads the archive":       {"MachineRole", "s3:GetObject", bucket + "/log/x", nil, true},
			"the machine writes the archive":      {"MachineRole", "s3:PutObject", bucket + "/log/x", nil, false},
			"the machine records":                 {"MachineRole", "dynamodb:PutItem", registry, keys(n.Name), true},
			"the machine records another's":       {"MachineRole", "dynamodb:PutItem", registry, keys("control"), false},
			"the machine reads a secret":          {"MachineRole", "secretsmanager:GetSecretValue", arn("secretsmanager", "secret:originchain/"+n.Name+"/admin-token-x"), nil, false},
			"the machine attaches a volume":       {"MachineRole", "ec2:AttachVolume", arn("ec2", "volume/vol-1"), nil, false},
			"the machine takes commands":          {"MachineRole", "ssmmessages:OpenControlChannel", "*", nil, false},
			"the template is started":             {"StatesRole", "ec2:RunInstances", template, from(template, "true"), true},
			"what it makes":                       {"StatesRole", "ec2:RunInstances", arn("ec2", "instance/*"), from(template, "false"), true},
			"an image of one's own":               {"StatesRole", "ec2:RunInstances", "arn:aws:ec2:" + region + "::image/ami-1", from(template, "false"), false},
			"another template":                    {"StatesRole", "ec2:RunInstances", arn("ec2", "instance/*"), from(template+"x", "false"), false},
			"no template":                         {"StatesRole", "ec2:RunInstances", arn("ec2", "instance/*"), nil, false},
			"its machine is ended":                {"StatesRole", "ec2:TerminateInstances", arn("ec2", "instance/i-1"), map[string]string{"aws:ResourceTag/originchain:verify": n.Name}, true},
			"a node is ended":                     {"StatesRole", "ec2:TerminateInstances", arn("ec2", "instance/i-1"), map[string]string{"aws:ResourceTag/originchain:instance": n.Name}, false},
			"another's machine is ended":          {"StatesRole", "ec2:TerminateInstances", arn("ec2", "instance/i-1"), map[string]string{"aws:ResourceTag/originchain:verify": "other"}, false},
			"a machine is tagged when made":       {"StatesRole", "ec2:CreateTags", arn("ec2", "instance/*"), map[string]string{"ec2:CreateAction": "RunInstances", "aws:RequestTag/originchain:verify": n.Name}, true},
			"a node is tagged as one":             {"StatesRole", "ec2:CreateTags", arn("ec2", "instance/*"), map[string]string{"aws:RequestTag/originchain:verify": n.Name}, false},
			"the machine's role is given":         {"StatesRole", "iam:PassRole", "arn:aws:iam::" + account + ":role/oc-" + n.Name + "-verify-" + region, map[string]string{"iam:PassedToService": "ec2.amazonaws.com"}, true},
			"the nodes' role is given":            {"StatesRole", "iam:PassRole", "arn:aws:iam::" + account + ":role/oc-" + n.Name + "-node-" + region, map[string]string{"iam:PassedToService": "ec2.amazonaws.com"}, false},
			"the function is called":              {"StatesRole", "lambda:InvokeFunction", arn("lambda", "function:oc-"+n.Name+"-pitrverify"), nil, true},
			"another function is called":          {"StatesRole", "lambda:InvokeFunction", arn("lambda", "function:oc-"+n.Name+"-promote"), nil, false},
		} {
			if got := tm.allowed(t, tm.policyOf(t, c.role), request{action: c.action, resource: c.resource, context: c.context}); got != c.want {
				t.Errorf("%s: allowed is %v, want %v", name, got, c.want)
			}
		}
	})
}
