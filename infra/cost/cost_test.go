package cost_test

import (
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/infra/cost"
	"originchain/infra/prices"
	"originchain/shared/alarms"
)

var update = flag.Bool("update", false, "rewrite docs/COSTS.md")

const (
	page       = "../../docs/COSTS.md"
	begin, end = "<!-- costs: made by make golden -->\n", "<!-- costs: end -->\n"
)

// tiers are the instances of infra/testdata/tiers.json, one of each tier.
func tiers() []string { return []string{"dev", "starter", "pro", "scale", "dedicated"} }

// golden are the templates that the tests of infra/stack hold.
func golden(t *testing.T, deployment string) map[string]cost.Template {
	t.Helper()
	files, err := filepath.Glob("../stack/testdata/" + deployment + "/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no templates: %v", err)
	}
	out := make(map[string]cost.Template)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".json")] = parse(t, string(text))
	}
	return out
}

func parse(t *testing.T, text string) (tm cost.Template) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &tm); err != nil {
		t.Fatal(err)
	}
	return tm
}

// TestGoldenCosts: docs/COSTS.md is what the templates come to.
func TestGoldenCosts(t *testing.T) {
	counted, err := cost.Count(golden(t, "tiers"), tiers())
	if err != nil {
		t.Fatal(err)
	}
	regions, err := prices.Regions()
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	add := func(text string, err error) {
		if err != nil {
			t.Fatal(err)
		}
		tables = append(tables, text)
	}
	for _, r := range regions {
		l, err := prices.Load(r)
		if err != nil {
			t.Fatal(err)
		}
		add(cost.Tables(l, counted, tiers()))
		if r == "us-east-1" {
			// The other list has no price of DynamoDB that could be supported.
			add(cost.UseTable(l))
		}
		add(cost.SourceTable(l), nil)
	}
	got := strings.Join(tables, "\n")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	old, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q and %q", page, begin, end)
	}
	if *update {
		if err := os.WriteFile(page, []byte(head+begin+"\n"+got+"\n"+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.TrimSpace(old), strings.TrimSpace(got)); diff != "" {
		t.Errorf("%s (-page +templates); if it is meant, run make golden:\n%s", page, diff)
	}
}

// TestEveryOptionIsCounted: of all that can be deployed, it is known what it costs.
func TestEveryOptionIsCounted(t *testing.T) {
	counted, err := cost.Count(golden(t, "options"), []string{"strict", "owned-key", "abroad"})
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]string{"strict": "ec2.m6i.xlarge.dedicated", "owned-key": "ec2.c6g.large", "abroad": "ec2.t3.micro"} {
		if n := counted[name][cost.Machines][key]; n == 0 || math.Mod(n, cost.Hours) != 0 {
			t.Errorf("%s: %v hours of %s: %v", name, n, key, counted[name])
		}
	}
	// A machine of dedicated tenancy has no price here: nothing is left out in silence.
	l, err := prices.Load("us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	var missing *prices.MissingError
	if _, err := cost.Tables(l, counted, []string{"strict"}); !errors.As(err, &missing) || !slices.Equal(missing.Keys, []string{"ec2.m6i.xlarge.dedicated"}) {
		t.Error(err)
	}
}

// one is a deployment of an instance, with what a test puts into it.
const one = `{"Resources": {
	"Volume": {"Type": "AWS::EC2::Volume", "Properties": {"VolumeType": "gp3", "Size": 100, "Iops": 4000, "Throughput": 225}},
	"Template": {"Type": "AWS::EC2::LaunchTemplate", "Properties": {"LaunchTemplateData": {"InstanceType": "m6g.xlarge", "Monitoring": {"Enabled": true},
		"TagSpecifications": [{"Tags": [{"Key": "Name", "Value": "acme-a"}, {"Key": "originchain:instance", "Value": "acme"}]}],
		"BlockDeviceMappings": [{"Ebs": {"VolumeType": "gp3", "VolumeSize": 16}}]}}},
	"Group": {"Type": "AWS::AutoScaling::AutoScalingGroup", "Properties": {"DesiredCapacity": "1", "LaunchTemplate": {"LaunchTemplateId": {"Ref": "Template"}}}},
	"Fast": {"Type": "AWS::CloudWatch::Alarm", "Properties": {"Namespace": "Own", "MetricName": "a", "Period": 10, "Dimensions": [{"Name": "Node", "Value": "x"}]}},
	"Slow": {"Type": "AWS::CloudWatch::Alarm", "Properties": {"Namespace": "Own", "MetricName": "a", "Period": 60, "Dimensions": [{"Name": "Node", "Value": "x"}]}},
	"Both": {"Type": "AWS::CloudWatch::Alarm", "Properties": {"Namespace": "OriginChain/acme", "MetricName": "oc_panics_total", "Period": 60, "Dimensions": [{"Name": "Instance", "Value": "acme"}]}},
	"Board": {"Type": "AWS::CloudWatch::Dashboard", "Properties": {"DashboardBody": "{\"widgets\": [{\"properties\": {\"metrics\": [[\"Own\", \"b\", {\"label\": \"x\"}], [\"Own\", \"a\", \"Node\", \"x\"], [\"AWS/SQS\", \"Age\"]]}}, {\"properties\": {}}]}"}},
	"Theirs": {"Type": "AWS::CloudWatch::Alarm", "Properties": {"Namespace": "AWS/Lambda", "MetricName": "Errors", "Period": 300}},
	"Silence": {"Type": "AWS::Lambda::Function", "Properties": {"FunctionName": "oc-acme-silence", "MemorySize": 512, "Architectures": ["arm64"]}},
	"Watch": {"Type": "AWS::Scheduler::Schedule", "Properties": {"ScheduleExpression": "rate(2 minutes)", "Target": {"Arn": "arn:aws:states:x:1:stateMachine:oc-acme-failover"}}}
}}`

const shared = `{"Resources": {
	"Endpoint": {"Type": "AWS::EC2::VPCEndpoint", "Properties": {"VpcEndpointType": "Interface", "SubnetIds": ["a", "b", "c"]}},
	"Gateway": {"Type": "AWS::EC2::VPCEndpoint", "Properties": {"VpcEndpointType": "Gateway"}},
	"Key": {"Type": "AWS::KMS::Key"},
	"Secret": {"Type": "AWS::SecretsManager::Secret", "Properties": {"Tags": [{"Key": "originchain:instance", "Value": "acme"}]}}
}}`

// put are the metrics that an agent makes readings of, as its sampler picks them.
func put() map[string]bool {
	all := make(map[string]bool)
	for _, a := range alarms.Table() {
		for _, c := range a.Any {
			all[c.Metric] = c.Metric != alarms.LastVerifiedAge
		}
	}
	delete(all, alarms.LastVerifiedAge)
	return all
}

// machine is a state machine of a template, as far as its way is needed.
type machine struct {
	StartAt string
	States  map[string]struct {
		Type, Next, Default string
		Choices             []struct{ Variable, Next string }
	}
}

// TestQuietWays: what an execution that finds nothing to do is charged for is the states of
// its way through the machine that is deployed.
func TestQuietWays(t *testing.T) {
	stacks := golden(t, "tiers")
	want := 0.0
	for _, c := range []struct {
		stack  string
		n      float64
		chosen map[string]string // by state that chooses: what its rule's Variable is, or "" for the default
	}{
		{"dev-Failover", 21900, map[string]string{"Whence": "$.event.watch", "Holding": "$.confirm.held", "Verdict": "Ignored"}},
		{"dev-Verification", 730.0 / 24, map[string]string{"HandedOver": ""}},
	} {
		var m machine
		for _, r := range stacks[c.stack].Resources {
			var p struct{ DefinitionString string }
			if r.Type == "AWS::StepFunctions::StateMachine" {
				if err := errors.Join(json.Unmarshal(r.Properties, &p), json.Unmarshal([]byte(p.DefinitionString), &m)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for at := m.StartAt; at != ""; want += c.n {
			s := m.States[at]
			next := s.Next
			if pick, chooses := c.chosen[at]; chooses {
				next = s.Default
				for _, rule := range s.Choices {
					if pick != "" && (rule.Variable == pick || rule.Next == pick) {
						next = rule.Next
					}
				}
			} else if s.Type == "" || s.Type == "Choice" {
				t.Fatalf("%s: the quiet way comes to %q, a %q of which this test knows nothing", c.stack, at, s.Type)
			}
			at = next
		}
	}
	counted, err := cost.Count(stacks, tiers())
	if err != nil {
		t.Fatal(err)
	}
	if got := counted["dev"][cost.Schedules]["states.transition"]; math.Abs(got-want) > 1e-6 {
		t.Errorf("%v transitions a month are counted, and the machines have %v", got, want)
	}
}

func TestCount(t *testing.T) {
	got, err := cost.Count(map[string]cost.Template{"acme-Instance": parse(t, one), "Network": parse(t, shared)}, []string{"acme"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]cost.Quantities{
		"": {cost.Endpoints: {"vpc.endpoint": 3 * 730}, cost.Keys: {"kms.key": 1}},
		"acme": {
			cost.Machines: {"ec2.m6g.xlarge": 730}, cost.Volumes: {"ebs.gp3.gib": 116, "ebs.gp3.iops": 1000, "ebs.gp3.mibps": 100}, cost.Keys: {"secrets.secret": 1},
			// Those of detailed monitoring, an alarm's own, the dashboard's own, and the node's.
			cost.Alarms: {"cloudwatch.alarm.fast": 1, "cloudwatch.alarm": 3, "cloudwatch.dashboard": 1, "cloudwatch.request": 6 * 60 * 730,
				"cloudwatch.metric": 7 + 1 + 1 + 2*float64(len(put()))},
			cost.Schedules: {"scheduler.invocation": 21900, "states.transition": 6 * 21900, "lambda.request": 21900, "lambda.arm64": 21900 * 0.25},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestWhatNobodyKnowsIsAnError(t *testing.T) {
	for name, c := range map[string][2]string{
		"a type":               {`"AWS::KMS::Key"`, `"AWS::RDS::DBInstance"`},
		"a volume":             {`"VolumeType": "gp3", "Size"`, `"VolumeType": "io2", "Size"`},
		"a root volume":        {`"VolumeType": "gp3", "VolumeSize"`, `"VolumeType": "gp2", "VolumeSize"`},
		"how many machines":    {`"DesiredCapacity": "1"`, `"DesiredCapacity": ""`},
		"a launch template":    {`{"Ref": "Template"}`, `{"Ref": "Another"}`},
		"a type of machine":    {`"m6g.xlarge"`, `""`},
		"whose machine it is":  {`"originchain:instance", "Value": "acme"}]}]`, `"other", "Value": "acme"}]}]`},
		"which machine it is":  {`"Key": "Name"`, `"Key": "name"`},
		"what a board shows":   {`[\"Own\", \"b\",`, `[\"Own\",`},
		"a board":              {`{\"widgets\"`, `{widgets`},
		"an endpoint":          {`"Interface", "SubnetIds": ["a", "b", "c"]`, `"Interface"`},
		"an endpoint's type":   {`"Gateway"}`, `"GatewayLoadBalancer"}`},
		"an alarm":             {`"MetricName": "Errors"`, `"Metrics": [{}]`},
		"a schedule":           {`rate(2 minutes)`, `cron(0/5 * * * ? *)`},
		"what a schedule does": {`arn:aws:states:`, `arn:aws:batch:`},
		"a function":           {`"oc-acme-silence"`, `"oc-acme-other"`},
		"its architecture":     {`"arm64"`, `"x86_64"`},
	} {
		a, b := strings.Replace(one, c[0], c[1], 1), strings.Replace(shared, c[0], c[1], 1)
		if got, err := cost.Count(map[string]cost.Template{"acme-Instance": parse(t, a), "Network": parse(t, b)}, []string{"acme"}); err == nil || a+b == one+shared {
			t.Errorf("%s: %v", name, got)
		}
	}
	var unknown *cost.UnknownError
	text := strings.Replace(shared, "AWS::KMS::Key", "AWS::RDS::DBInstance", 1)
	if _, err := cost.Count(map[string]cost.Template{"Network": parse(t, text)}, nil); !errors.As(err, &unknown) || !slices.Equal(unknown.Types, []string{"AWS::RDS::DBInstance"}) {
		t.Error(err)
	}
}

func TestSchedules(t *testing.T) {
	for text, want := range map[string]float64{
		"rate(1 minute)": 43800, "rate(2 minutes)": 21900, "rate(6 hours)": 730.0 / 6, "rate(1 day)": 730.0 / 24,
		"cron(30 3 * * ? *)": 730.0 / 24, "cron(30 3 ? * SUN *)": 730.0 / 24 / 7,
	} {
		tm := strings.Replace(one, "rate(2 minutes)", text, 1)
		got, err := cost.Count(map[string]cost.Template{"acme-Instance": parse(t, tm)}, []string{"acme"})
		if n := got["acme"][cost.Schedules]["scheduler.invocation"]; err != nil || math.Abs(n-want) > 1e-6 {
			t.Errorf("%s: %v a month, want %v: %v", text, n, want, err)
		}
	}
}
