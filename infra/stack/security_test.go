package stack_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"
	"github.com/google/go-cmp/cmp"

	"originchain/infra/config"
)

// each calls f with every template of both deployments.
func each(t *testing.T, f func(t *testing.T, w *world, name string, tm template)) {
	t.Helper()
	for _, d := range []string{"tiers", "options"} {
		w := deploy(t, d)
		for _, name := range slices.Sorted(maps.Keys(w.stacks)) {
			t.Run(d+"/"+name, func(t *testing.T) { f(t, w, name, w.stacks[name]) })
		}
	}
}

// tenants calls f with every tenant of both deployments.
func tenants(t *testing.T, f func(t *testing.T, w *world, n *config.Tenant, archive, instance template)) {
	t.Helper()
	for _, d := range []string{"tiers", "options"} {
		w := deploy(t, d)
		for i := range w.config.Tenants {
			n := &w.config.Tenants[i]
			t.Run(d+"/"+n.Name, func(t *testing.T) {
				f(t, w, n, w.stacks[w.archiveStack(n)], w.stacks["OriginChain-"+n.Name+"-Instance"])
			})
		}
	}
}

// statement is one of a policy.
type statement struct {
	Sid, Effect                 string
	Action, Resource, Principal any
	Condition                   map[string]map[string]any
	NotAction, NotResource      any
}

func (s *statement) actions() []string { return words(s.Action) }

// words is a text, or a list of such, as a list; what is no text is shown as JSON.
func words(v any) (out []string) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
			continue
		}
		text, _ := json.Marshal(e)
		out = append(out, string(text))
	}
	return out
}

// statements are those of a policy document.
func statements(t *testing.T, document any) (out []statement) {
	t.Helper()
	text, err := json.Marshal(at(document, "Statement"))
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil || len(out) == 0 {
		t.Fatalf("no policy: %v, %v", document, err)
	}
	return out
}

func TestNetworkHasNoWayOut(t *testing.T) {
	for _, d := range []string{"tiers", "options"} {
		w := deploy(t, d)
		raw, tm := w.raw["OriginChain-Network"], w.stacks["OriginChain-Network"]
		for _, kind := range []string{"AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::EgressOnlyInternetGateway", "AWS::EC2::Route", "AWS::EC2::EIP", "AWS::EC2::VPCGatewayAttachment"} {
			raw.ResourceCountIs(jsii.String(kind), jsii.Number(0))
		}
		raw.HasResourceProperties(jsii.String("AWS::EC2::FlowLog"), map[string]any{"TrafficType": "ALL", "ResourceType": "VPC"})
		var zones []string
		for _, s := range tm.resources("AWS::EC2::Subnet") {
			zones = append(zones, at(s, "Properties", "AvailabilityZone").(string))
			if at(s, "Properties", "MapPublicIpOnLaunch") != false {
				t.Errorf("a subnet gives out public addresses: %v", s)
			}
		}
		want := slices.Sorted(slices.Values(w.config.Zones))
		if slices.Sort(zones); !slices.Equal(zones, want) {
			t.Errorf("subnets in %q, want one in each of %q", zones, want)
		}
	}
}

func TestEndpointsLeadToTheAccountAlone(t *testing.T) {
	for _, d := range []string{"tiers", "options"} {
		w := deploy(t, d)
		region := w.config.Region
		want := map[string]string{"dynamodb": "Gateway", "s3": "Gateway", "ec2": "Interface", "ec2messages": "Interface", "kms": "Interface", "logs": "Interface",
			"monitoring": "Interface", "secretsmanager": "Interface", "ssm": "Interface", "ssmmessages": "Interface", "sts": "Interface"}
		if d == "options" {
			want["s3 in eu-west-1"] = "Interface"
		}
		got := make(map[string]string)
		for id, e := range w.stacks["OriginChain-Network"].resources("AWS::EC2::VPCEndpoint") {
			service := strings.Join(words(at(e, "Properties", "ServiceName")), "")
			service = service[strings.Index(service, "com.amazonaws."):]
			short := strings.TrimPrefix(strings.TrimPrefix(service, "com.amazonaws."+region+"."), `com.amazonaws.",{"Ref":"AWS::Region"},".`)
			short = strings.TrimSuffix(short, `"]]}`)
			if elsewhere, ok := at(e, "Properties", "ServiceRegion").(string); ok {
				short = "s3 in " + elsewhere
				if v := at(e, "Properties", "DnsOptions", "PrivateDnsOnlyForInboundResolverEndpoint"); v != "AllResolvers" {
					t.Errorf("%s answers to %v", id, v)
				}
			}
			got[short], _ = at(e, "Properties", "VpcEndpointType").(string)
			for _, s := range statements(t, at(e, "Properties", "PolicyDocument")) {
				key := "aws:ResourceAccount"
				if got[short] == "Interface" && !strings.HasPrefix(short, "s3") {
					key = "aws:PrincipalAccount"
				}
				if diff := cmp.Diff(map[string]map[string]any{"StringEquals": {key: w.config.Account}}, s.Condition); diff != "" {
					t.Errorf("%s lets others in (-want +got)\n%s", id, diff)
				}
			}
			if got[short] == "Interface" && (at(e, "Properties", "PrivateDnsEnabled") != true || len(at(e, "Properties", "SubnetIds").([]any)) != 3) {
				t.Errorf("%s is not reached under its name from every zone", id)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("endpoints (-want +got)\n%s", diff)
		}
	}
}

// TestGoldenRulesOfGroups: every rule of every group that is not one of these is a hole.
func TestGoldenRulesOfGroups(t *testing.T) {
	w := deploy(t, "options")
	vpc := w.config.CIDR.String()
	var got []string
	for _, name := range []string{"OriginChain-Network", "OriginChain-strict-Instance"} {
		tm := w.stacks[name]
		rule := func(group, way string, r any) {
			from := at(r, "CidrIp")
			for _, key := range []string{"SourceSecurityGroupId", "DestinationSecurityGroupId"} {
				if g := at(r, key); g != nil {
					from = strings.Join(words(g), "")
				}
			}
			got = append(got, fmt.Sprintf("%s %s %v %v:%v %s", group, way, from, at(r, "FromPort"), at(r, "ToPort"), at(r, "IpProtocol")))
		}
		for id, g := range tm.resources("AWS::EC2::SecurityGroup") {
			if at(g, "Properties", "SecurityGroupEgress") == nil {
				t.Errorf("%s lets everything out: it has no rule of its own", id)
			}
			for _, way := range []string{"Ingress", "Egress"} {
				rules, _ := at(g, "Properties", "SecurityGroup"+way).([]any)
				for _, r := range rules {
					rule(id, way, r)
				}
			}
		}
		for _, way := range []string{"Ingress", "Egress"} {
			for _, r := range tm.resources("AWS::EC2::SecurityGroup" + way) {
				rule(at(r, "Properties", "GroupId", "Fn::GetAtt", 0).(string), way, r["Properties"])
			}
		}
	}
	slices.Sort(got)
	golden(t, "rules.txt", []byte(strings.Join(got, "\n")+"\n"))
	for _, r := range got {
		if strings.Contains(r, "0.0.0.0/0") && !strings.HasPrefix(r, "Members") || strings.Contains(r, " 22:") || strings.Contains(r, "::/0") {
			t.Errorf("open to the world, or a shell: %s", r)
		}
	}
	if !strings.Contains(strings.Join(got, "\n"), "Egress "+vpc+" 7401:7401 tcp") {
		t.Error("nodes cannot replicate")
	}
}

func TestTablesCanBeHadBack(t *testing.T) {
	for _, d := range []string{"tiers", "options"} {
		raw := deploy(t, d).raw["OriginChain-Control"]
		raw.ResourceCountIs(jsii.String("AWS::DynamoDB::Table"), jsii.Number(2))
		for name, keys := range map[string][]any{
			"originchain-leases":   {map[string]any{"AttributeName": "lease", "KeyType": "HASH"}},
			"originchain-registry": {map[string]any{"AttributeName": "registry", "KeyType": "HASH"}, map[string]any{"AttributeName": "key", "KeyType": "RANGE"}},
		} {
			raw.HasResource(jsii.String("AWS::DynamoDB::Table"), map[string]any{"DeletionPolicy": "RetainExceptOnCreate", "UpdateReplacePolicy": "Retain", "Properties": map[string]any{
				"TableName": name, "KeySchema": keys, "BillingMode": "PAY_PER_REQUEST", "DeletionProtectionEnabled": true,
				"PointInTimeRecoverySpecification": map[string]any{"PointInTimeRecoveryEnabled": true},
				"SSESpecification":                 map[string]any{"SSEEnabled": true, "SSEType": "KMS", "KMSMasterKeyId": assertions.Match_AnyValue()}}})
		}
	}
}

// TestWhoSubscribesOthers: what oc-subscribers needs, and no more: with no role is it given.
func TestWhoSubscribesOthers(t *testing.T) {
	for _, d := range []string{"tiers", "options"} {
		w := deploy(t, d)
		tm := w.stacks["OriginChain-Control"]
		p := tm.the(t, "AWS::IAM::ManagedPolicy")
		if p["ManagedPolicyName"] != "oc-subscribers-"+w.config.Region || p["Roles"] != nil || p["Users"] != nil || p["Groups"] != nil {
			t.Errorf("%v", p)
		}
		policy, key := statements(t, p["PolicyDocument"]), ""
		for _, table := range tm.resources("AWS::DynamoDB::Table") {
			key = tm.resolve(at(table, "Properties", "SSESpecification", "KMSMasterKeyId"))
		}
		registry, keys := w.arnOf("dynamodb", "table/originchain-registry"), "dynamodb:LeadingKeys"
		via := func(service string) []string {
			return []string{"kms:ViaService", service + "." + w.config.Region + ".amazonaws.com"}
		}
		for name, c := range map[string]struct {
			action, resource string
			context          []string
			want             bool
		}{
			"list subscribers":        {"dynamodb:Query", registry, []string{keys, "control"}, true},
			"read one":                {"dynamodb:GetItem", registry, []string{keys, "control"}, true},
			"add one":                 {"dynamodb:PutItem", registry, []string{keys, "control"}, true},
			"delete":                  {"dynamodb:DeleteItem", registry, []string{keys, "control"}, false},
			"update past a condition": {"dynamodb:UpdateItem", registry, []string{keys, "control"}, false},
			"scan":                    {"dynamodb:Scan", registry, nil, false},
			"read without a key":      {"dynamodb:GetItem", registry, nil, false},
			"read a journal":          {"dynamodb:GetItem", registry, []string{keys, w.config.Tenants[0].Name}, false},
			"read who writes":         {"dynamodb:GetItem", w.arnOf("dynamodb", "table/originchain-leases"), []string{keys, "control"}, false},
			"decrypt the table":       {"kms:Decrypt", key, via("dynamodb"), true},
			"decrypt a secret":        {"kms:Decrypt", key, via("secretsmanager"), false},
			"decrypt otherwise":       {"kms:Decrypt", key, nil, false},
		} {
			if got := tm.may(t, policy, c.action, c.resource, c.context...); got != c.want {
				t.Errorf("%s, %s: %v, want %v", d, name, got, c.want)
			}
		}
	}
}

// TestKeysAreRotatedAndKept: as are all that the stacks make.
func TestKeysAreRotatedAndKept(t *testing.T) {
	each(t, func(t *testing.T, _ *world, _ string, tm template) {
		for id, k := range tm.resources("AWS::KMS::Key") {
			if at(k, "Properties", "EnableKeyRotation") != true || at(k, "Properties", "PendingWindowInDays") != 30.0 {
				t.Errorf("%s: %v", id, k["Properties"])
			}
			for _, s := range statements(t, at(k, "Properties", "KeyPolicy")) {
				// A condition may say better who: one role of one account.
				confined := s.Condition["StringEquals"]["kms:CallerAccount"] != nil && s.Condition["ArnEquals"]["aws:PrincipalArn"] != nil
				if slices.Contains(tm.principals(&s), "*") && s.Effect != "Deny" && !confined {
					t.Errorf("%s is for everybody: %+v", id, s)
				}
			}
			tm.giveAway(t, id, statements(t, at(k, "Properties", "KeyPolicy")))
		}
	})
}

// giveAway asks a key's policy who may give it to others.
func (tm template) giveAway(t *testing.T, id string, policy []statement) {
	t.Helper()
	ask := func(context map[string]string) bool {
		r := request{principal: "arn:aws:iam::1:role/Admin", action: "kms:CreateGrant", resource: "key", context: context}
		return tm.denied(t, policy, r) != ""
	}
	for name, c := range map[string]struct {
		context map[string]string
		denied  bool
	}{
		"a person, for another":    {nil, true},
		"a person, for a volume":   {map[string]string{"kms:GrantIsForAWSResource": "true"}, false},
		"a service, for itself":    {map[string]string{"aws:PrincipalIsAWSService": "true"}, false},
		"a person who says it":     {map[string]string{"kms:GrantIsForAWSResource": "false", "aws:PrincipalIsAWSService": "false"}, true},
		"a service, for a machine": {map[string]string{"kms:GrantIsForAWSResource": "true", "aws:PrincipalIsAWSService": "false"}, false},
	} {
		if got := ask(c.context); got != c.denied {
			t.Errorf("%s: %s: denied %t", id, name, got)
		}
	}
}

// TestMachinesOfGroupsCanStart: the service that starts them encrypts their disks, in a
// role that has no policy about any key.
func TestMachinesOfGroupsCanStart(t *testing.T) {
	tenants(t, func(t *testing.T, w *world, n *config.Tenant, _, tm template) {
		policy := tm.keyPolicy(t, n)
		role := func(name string) string { return "arn:aws:iam::" + w.config.Account + ":role/" + name }
		service := role("aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling")
		grant := map[string]string{"kms:CallerAccount": w.config.Account, "kms:GrantIsForAWSResource": "true"}
		for _, c := range []struct {
			who, action string
			context     map[string]string
			want        bool
		}{
			{service, "kms:Encrypt", grant, true}, {service, "kms:Decrypt", grant, true}, {service, "kms:ReEncryptTo", grant, true}, {service, "kms:ReEncryptFrom", grant, true},
			{service, "kms:GenerateDataKeyWithoutPlaintext", grant, true}, {service, "kms:DescribeKey", grant, true}, {service, "kms:CreateGrant", grant, true},
			{service, "kms:CreateGrant", map[string]string{"kms:CallerAccount": w.config.Account, "kms:GrantIsForAWSResource": "false"}, false},
			{service, "kms:ScheduleKeyDeletion", grant, false}, {service, "kms:Decrypt", map[string]string{"kms:CallerAccount": "210987654321"}, false},
			{role("Admin"), "kms:Decrypt", grant, false}, {role("Admin"), "kms:CreateGrant", grant, false},
		} {
			if got := tm.grants(t, policy, nil, request{c.who, c.action, "key", c.context}); got != c.want {
				t.Errorf("%s, %v: %s is %v, want %v", c.who, c.context, c.action, got, c.want)
			}
		}
	})
}

// keyPolicy is that of the key of an instance's volumes; of a key that is the tenant's
// own, what the stack says that it needs.
func (tm template) keyPolicy(t *testing.T, n *config.Tenant) (out []statement) {
	t.Helper()
	if n.KeyARN == "" {
		return statements(t, at(tm.the(t, "AWS::KMS::Key"), "KeyPolicy"))
	}
	text, _ := at(tm["Outputs"], "KeyPolicyNeeded", "Value").(string)
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	return out
}

func TestSecretsAreEncryptedAndNotInTemplates(t *testing.T) {
	each(t, func(t *testing.T, w *world, name string, tm template) {
		found := tm.resources("AWS::SecretsManager::Secret")
		for id, s := range found {
			if at(s, "Properties", "KmsKeyId") == nil || at(s, "Properties", "SecretString") != nil {
				t.Errorf("%s: %v", id, s["Properties"])
			}
			if g := at(s, "Properties", "GenerateSecretString"); g != nil {
				if n := at(g, "PasswordLength").(float64); n < 24 || n > 256 || at(g, "ExcludePunctuation") != true || at(g, "IncludeSpace") != false {
					t.Errorf("%s is no admin token: %v", id, g)
				}
			}
		}
		if name == "OriginChain-Control" {
			want := 0
			for i := range w.config.Tenants {
				want += 2 + w.config.Tenants[i].Followers
			}
			if len(found) != want {
				t.Errorf("%d secrets, want one for each tenant and one for each node: %d", len(found), want)
			}
		}
		text, _ := json.Marshal(tm)
		for _, word := range []string{"PRIVATE KEY", "oc_admin_", "AKIA"} {
			if strings.Contains(string(text), word) {
				t.Errorf("the template has %q in it", word)
			}
		}
	})
}
