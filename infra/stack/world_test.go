package stack_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"
	"github.com/google/go-cmp/cmp"

	"originchain/infra/config"
	"originchain/infra/stack"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestMain ends the one process of the CDK that all tests share.
func TestMain(m *testing.M) {
	flag.Parse()
	m.Run()
	jsii.Close()
}

// programs stand for what machines run: nothing is built for a test.
const programs = "testdata/bin"

// built are those of machines, and of functions.
func built() stack.Options {
	return stack.Options{Binaries: programs, Functions: programs + "/lambdas"}
}

// template is one stack as CloudFormation gets it.
type template map[string]any

// world is one deployment, synthesized.
type world struct {
	config *config.Config
	stacks map[string]template
	// raw are the same for the assertions of the CDK.
	raw map[string]assertions.Template
}

// deployments are synthesized once: starting the library costs seconds.
var deployments = struct {
	sync.Mutex
	made map[string]*world
}{made: make(map[string]*world)}

// deploy synthesizes a configuration of infra/testdata.
func deploy(t *testing.T, name string) *world {
	t.Helper()
	deployments.Lock()
	defer deployments.Unlock()
	if w := deployments.made[name]; w != nil {
		return w
	}
	file := filepath.Join("..", "testdata", name+".json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	deployments.made[name] = synthesize(t, file, text)
	return deployments.made[name]
}

func synthesize(t *testing.T, name string, text []byte) *world {
	t.Helper()
	c, err := config.Parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	return deployment(t, c)
}

// deployment synthesizes a configuration.
func deployment(t *testing.T, c *config.Config) *world {
	t.Helper()
	app := awscdk.NewApp(stack.AppProps())
	d := stack.Build(app, c, built())
	w := &world{config: c, stacks: make(map[string]template), raw: make(map[string]assertions.Template)}
	for _, s := range d.Stacks() {
		raw := assertions.Template_FromStack(s, nil)
		// Through JSON, so that a test sees the types that CloudFormation does.
		text, err := json.Marshal(raw.ToJSON())
		if err != nil {
			t.Fatal(err)
		}
		var tm template
		if err := json.Unmarshal(text, &tm); err != nil {
			t.Fatal(err)
		}
		w.stacks[*s.StackName()], w.raw[*s.StackName()] = tm, raw
	}
	return w
}

// resources are those of a type, by logical id.
func (tm template) resources(of string) map[string]map[string]any {
	out := make(map[string]map[string]any)
	all, _ := tm["Resources"].(map[string]any)
	for id, r := range all {
		if m := r.(map[string]any); m["Type"] == of {
			out[id] = m
		}
	}
	return out
}

// at follows keys and indexes into a value; nil where there is nothing.
func at(v any, path ...any) any {
	for _, p := range path {
		switch k := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[k]
		case int:
			l, _ := v.([]any)
			if k >= len(l) {
				return nil
			}
			v = l[k]
		}
	}
	return v
}

// hashes are the names of assets, and what a template says of them.
var hashes = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// golden compares a text with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-golden +got); if it is meant, run make golden:\n%s", file, diff)
	}
}

// TestGoldenTemplates: every stack of every tier and option is as it was.
func TestGoldenTemplates(t *testing.T) {
	for _, name := range []string{"tiers", "options"} {
		w := deploy(t, name)
		for _, s := range slices.Sorted(maps.Keys(w.stacks)) {
			var text bytes.Buffer
			e := json.NewEncoder(&text)
			e.SetIndent("", " ")
			e.SetEscapeHTML(false)
			if err := e.Encode(w.stacks[s]); err != nil {
				t.Fatal(err)
			}
			golden(t, name+"/"+strings.TrimPrefix(s, "OriginChain-")+".json", hashes.ReplaceAll(text.Bytes(), []byte("HASH")))
		}
		left, err := filepath.Glob("testdata/" + name + "/*.json")
		if err != nil || len(left) != len(w.stacks) {
			t.Errorf("%s: %d golden files for %d stacks; remove those of stacks that are gone (%v)", name, len(left), len(w.stacks), err)
		}
	}
}

// TestGoldenStateful: what holds data keeps its logical id. CloudFormation takes another
// id for another resource: it would make an empty one, and leave or delete what was.
func TestGoldenStateful(t *testing.T) {
	stateful := []string{"AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::KMS::Key", "AWS::EC2::Volume", "AWS::SecretsManager::Secret", "AWS::Logs::LogGroup"}
	// These hold no data, but an address, subscribers, or what was laid aside; and another one
	// of their name cannot be made while they are there.
	known := []string{"AWS::EC2::NetworkInterface", "AWS::SNS::Topic", "AWS::SQS::Queue", "AWS::SSM::Parameter", "AWS::Route53::RecordSet", "AWS::StepFunctions::StateMachine"}
	var lines []string
	for _, name := range []string{"tiers", "options"} {
		for s, tm := range deploy(t, name).stacks {
			for _, kind := range slices.Concat(stateful, known) {
				for id, r := range tm.resources(kind) {
					lines = append(lines, strings.Join([]string{name, s, kind, id}, " "))
					if slices.Contains(stateful, kind) && !stays(r) {
						t.Errorf("%s of %s goes with its stack, or is left by a deployment that fails: %v, %v", id, s, r["DeletionPolicy"], r["UpdateReplacePolicy"])
					}
				}
			}
		}
	}
	slices.Sort(lines)
	golden(t, "stateful.txt", []byte(strings.Join(lines, "\n")+"\n"))
}

// stays says that a resource outlives its stack, and what would replace it, but not the
// deployment that makes it and fails.
func stays(r map[string]any) bool {
	return r["DeletionPolicy"] == "RetainExceptOnCreate" && r["UpdateReplacePolicy"] == "Retain"
}

// TestNothingIsLeftByADeploymentThatFails: what was left would have the name that the next
// one needs.
func TestNothingIsLeftByADeploymentThatFails(t *testing.T) {
	each(t, func(t *testing.T, _ *world, _ string, tm template) {
		all, _ := tm["Resources"].(map[string]any)
		for id, r := range all {
			if p := at(r, "DeletionPolicy"); p != nil && p != "RetainExceptOnCreate" && p != "Delete" {
				t.Errorf("%s, %v: %v", id, at(r, "Type"), p)
			}
		}
	})
}

// TestTablesComeLast: they are protected, from who would take back a deployment that has
// failed as well. So nothing of their stack can fail when they are there, but the second of them.
func TestTablesComeLast(t *testing.T) {
	for _, d := range []string{"tiers", "options"} {
		tm := deploy(t, d).stacks["OriginChain-Control"]
		all, _ := tm["Resources"].(map[string]any)
		tables := tm.resources("AWS::DynamoDB::Table")
		for id, table := range tables {
			first, second := words(table["DependsOn"]), at(table, "Properties", "TableName") == "originchain-registry"
			for other, r := range all {
				if _, isTable := tables[other]; !isTable && !slices.Contains(first, other) || isTable && slices.Contains(first, other) != (second && other != id) {
					t.Errorf("%s and %s (%v) are made in no order: %q", id, other, at(r, "Type"), first)
				}
			}
		}
	}
}

// TestSynthesisIsRepeatable: nothing but the configuration is in a template.
func TestSynthesisIsRepeatable(t *testing.T) {
	first := deploy(t, "options")
	text, err := os.ReadFile("../testdata/options.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.stacks, synthesize(t, "options", text).stacks); diff != "" {
		t.Errorf("(-first +second)\n%s", diff)
	}
}
