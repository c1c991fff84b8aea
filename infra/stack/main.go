package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"originchain/infra/config"
)

// Keys of the context. The configuration stands in cdk.json under contextKey, or in a
// file of its own, which `cdk -c config=FILE` names.
const (
	contextKey   = "originchain"
	fileKey      = "config"
	binariesKey  = "binaries"
	functionsKey = "functions"

	defaultBinaries  = "bin"
	defaultFunctions = "bin/lambdas"
)

// Main is the app that the CDK's command line runs: it synthesizes the stacks of the
// configuration. Faults go to stderr, and the exit code is 1.
func Main(stderr io.Writer) int {
	defer jsii.Close()
	app := awscdk.NewApp(AppProps())
	if err := Synthesize(app); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// Synthesize builds and writes the stacks of the configuration that an app is given.
func Synthesize(app awscdk.App) error {
	c, err := read(app)
	if err != nil {
		return err
	}
	o := Options{Binaries: defaultBinaries, Functions: defaultFunctions}
	for key, dir := range map[string]*string{binariesKey: &o.Binaries, functionsKey: &o.Functions} {
		if given, ok := app.Node().TryGetContext(jsii.String(key)).(string); ok {
			*dir = given
		}
	}
	if err := o.Check(c); err != nil {
		return err
	}
	Build(app, c, o)
	app.Synth(nil)
	return nil
}

// read finds the configuration in the context.
func read(app awscdk.App) (*config.Config, error) {
	given := app.Node().TryGetContext(jsii.String(contextKey))
	file, named := app.Node().TryGetContext(jsii.String(fileKey)).(string)
	switch {
	case named:
		// A file that is named beats what stands in cdk.json, which is always there.
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("the configuration that -c %s= names: %w", fileKey, err)
		}
		return config.Parse(file, text)
	case given == nil:
		return nil, fmt.Errorf("there is no configuration: put it into the context of cdk.json as %q, or name a file with -c %s=FILE", contextKey, fileKey)
	}
	text, err := json.Marshal(given)
	if err != nil {
		return nil, fmt.Errorf("the context %q of cdk.json: %w", contextKey, err)
	}
	return config.Parse("the context "+contextKey+" of cdk.json", text)
}

// functions are those that stacks have.
func functions() []string {
	return []string{"silence", "promote", "dns", "pitrverify", "status", "notify"}
}

// Check looks for the programs, and at them: CloudFormation takes any file, and a machine or
// a function that cannot run it would be found out when it is needed.
func (o Options) Check(c *config.Config) error {
	var faults []error
	seen := make(map[string]bool)
	for i := range c.Tenants {
		arch := c.Tenants[i].Architecture
		for _, name := range []string{"oc-server", "oc-node", "oc-pitr", "waldump"} {
			path := o.Binaries + "/linux-" + string(arch) + "/" + name
			if seen[path] {
				continue
			}
			seen[path] = true
			// Machines install them with a mode of their own.
			if err := program(o.Binaries, path, arch); err != nil {
				faults = append(faults, fmt.Errorf("%w: `make machines` builds what machines run", err))
			}
		}
	}
	for _, name := range functions() {
		path := o.Functions + "/" + name + "/bootstrap"
		err := program(o.Functions, path, config.ARM64)
		if err == nil {
			err = runByAnybody(o.Functions, path)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%w: `make lambdas` builds the functions", err))
		}
	}
	return errors.Join(faults...)
}
