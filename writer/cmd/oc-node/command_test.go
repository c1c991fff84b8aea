package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"originchain/shared/cli"
)

func call(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, said strings.Builder
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // an agent that begins ends at once
	code = run(ctx, program{version: "test", args: args, stdout: &out, stderr: &said, etc: dir, run: dir,
		lookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
	return code, out.String(), said.String()
}

func TestCommandLine(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no systemctl
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	reg := "file://" + t.TempDir() + "/registry"
	unit := []string{"--unit", "oc-http.service"}
	for _, c := range []struct {
		args []string
		env  map[string]string
		code int
		want string
	}{
		{[]string{"--help"}, nil, cli.ExitOK, "Exit codes:"},
		{[]string{"--version"}, nil, cli.ExitOK, "test, go"},
		{[]string{"completion", "bash"}, nil, cli.ExitOK, "oc-node"},
		{nil, nil, cli.ExitUsage, "name a command"},
		{[]string{"reboot"}, nil, cli.ExitUsage, "reboot"},
		{append([]string{"stop"}, unit...), nil, cli.ExitUsage, "--epoch"},
		{[]string{"stop", "--epoch", "5"}, nil, cli.ExitUsage, "--unit"},
		{[]string{"stop", "--epoch", "5", "--unit", "/etc/passwd"}, nil, cli.ExitUsage, "--unit"},
		{append([]string{"stop", "--epoch", "-1"}, unit...), nil, cli.ExitUsage, "-1"},
		{append([]string{"stop", "--epoch", "5", "more"}, unit...), nil, cli.ExitUsage, "more"},
		{append([]string{"stop", "--epoch", "5"}, unit...), nil, exitRefused, "nothing was changed"},
		{append([]string{"start", "--epoch", "5"}, unit...), nil, exitRefused, "nothing was changed"},
		{append([]string{"restart", "--epoch", "5"}, unit...), nil, exitRefused, "nothing was changed"},
		{append([]string{"restart", "--unattended", "--epoch", "5"}, unit...), nil, exitRefused, "nothing was changed"},
		{append([]string{"process", "--epoch", "0"}, unit...), nil, cli.ExitFailure, "systemctl"},
		{append([]string{"process", "--unattended"}, unit...), nil, cli.ExitUsage, "--unattended"},
		{append([]string{"unit"}, unit...), nil, cli.ExitFailure, "oc-http.service"},
		{append([]string{"rewrite", "--epoch", "5"}, unit...), nil, cli.ExitUsage, "--text-base64"},
		{append([]string{"rewrite", "--epoch", "5", "--text-base64", "a"}, unit...), nil, cli.ExitUsage, "--text-base64"},
		{append([]string{"rewrite", "--epoch", "5", "--text-base64", "aGVsbG8="}, unit...), nil, cli.ExitFailure, "oc-http.service"},
		{[]string{"agent"}, nil, cli.ExitUsage, "--instance and --registry"},
		{[]string{"agent", "--instance", "a", "--registry", "x"}, nil, cli.ExitUsage, "--registry"},
		{[]string{"agent", "--instance", "a", "--registry", reg}, nil, cli.ExitUsage, "region"},
		{[]string{"agent", "--region", "eu-central-1"}, map[string]string{"OC_INSTANCE": "a", "OC_REGISTRY": reg}, cli.ExitOK, ""},
	} {
		code, out, said := call(t, c.env, c.args...)
		if code != c.code || !strings.Contains(out+said, c.want) {
			t.Errorf("%v: exit code %d, want %d with %q\n%s%s", c.args, code, c.code, c.want, out, said)
		}
		if code == cli.ExitUsage && (out != "" || !strings.Contains(said, "oc-node --help")) {
			t.Errorf("%v: a usage error prints %q, %q", c.args, out, said)
		}
		if code == cli.ExitFailure || code == exitRefused {
			var f failure
			if err := json.Unmarshal([]byte(out), &f); err != nil || f.Error == "" || f.Refused != (code == exitRefused) {
				t.Errorf("%v: %v: %q", c.args, err, out)
			}
		}
	}
}
