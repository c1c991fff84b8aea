package stack_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
	"originchain/infra/stack"
)

// app is one that is given a context, as the CDK's command line gives it.
func app(t *testing.T, context map[string]any) (awscdk.App, string) {
	t.Helper()
	p, dir := stack.AppProps(), t.TempDir()
	for k, v := range context {
		(*p.Context)[k] = v
	}
	p.Outdir = jsii.String(dir)
	return awscdk.NewApp(p), dir
}

// inContext is a configuration as it stands in cdk.json.
func inContext(t *testing.T, file string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestFaultsAreFoundBeforeAnythingIsMade(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte(`{"account": "1", "region": "us-west-1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		context map[string]any
		want    []string
	}{
		"no configuration": {nil, []string{`put it into the context of cdk.json as "originchain"`}},
		"faults in cdk.json": {map[string]any{"originchain": map[string]any{"account": "1", "regoin": "x"}},
			[]string{"the context originchain of cdk.json has 4 faults", "account: ", "region: missing", "regoin: unknown"}},
		"faults in a file": {map[string]any{"config": bad, "originchain": 7}, []string{bad + " has 3 faults", "account: ", "region: us-west-1 has 2"}},
		"no file":          {map[string]any{"config": bad + "x"}, []string{"-c config="}},
		"no programs": {map[string]any{"config": "../testdata/options.json", "binaries": "testdata", "functions": programs + "/lambdas"},
			[]string{"testdata/linux-amd64/oc-server is not there: `make machines`", "testdata/linux-arm64/oc-node is not there"}},
		"no functions": {map[string]any{"config": "../testdata/options.json", "binaries": programs, "functions": "testdata"},
			[]string{"testdata/silence/bootstrap is not there: `make lambdas`", "testdata/notify/bootstrap is not there"}},
	} {
		t.Run(name, func(t *testing.T) {
			a, dir := app(t, c.context)
			err := stack.Synthesize(a)
			for _, w := range c.want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in %v", w, err)
				}
			}
			if strings.HasPrefix(name, "faults") && !errors.As(err, new(*config.Error)) {
				t.Errorf("%T", err)
			}
			if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
				t.Errorf("made %v, %v", made, err)
			}
		})
	}
}

// TestTheExampleIsSynthesized: cdk.json is an example that works, and asks no account.
func TestTheExampleIsSynthesized(t *testing.T) {
	context := inContext(t, "../../cdk.json")["context"].(map[string]any)
	context["binaries"], context["functions"] = programs, programs+"/lambdas"
	a, dir := app(t, context)
	if err := stack.Synthesize(a); err != nil {
		t.Fatal(err)
	}
	manifest := inContext(t, filepath.Join(dir, "manifest.json"))
	if manifest["missing"] != nil {
		t.Errorf("an account would be asked for %v", manifest["missing"])
	}
	artifacts := manifest["artifacts"].(map[string]any)
	for _, name := range []string{"Network", "Control", "acme-Archive", "acme-Instance"} {
		if at(artifacts, "OriginChain-"+name, "properties", "terminationProtection") != true {
			t.Errorf("%s can be deleted by a slip of the hand", name)
		}
	}
	// What is read from the archive comes after it.
	depends, _ := at(artifacts, "OriginChain-acme-Instance", "dependencies").([]any)
	found := make(map[any]bool)
	for _, d := range depends {
		found[d] = true
	}
	for _, name := range []string{"Network", "Control", "acme-Archive"} {
		if !found["OriginChain-"+name] {
			t.Errorf("the instance does not wait for %s: %v", name, depends)
		}
	}
}
