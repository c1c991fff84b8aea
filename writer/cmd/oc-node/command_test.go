package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
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
		{[]string{"--help"}, nil, exitOK, "Exit codes:"},
		{[]string{"--version"}, nil, exitOK, "test, go"},
		{[]string{"completion", "bash"}, nil, exitOK, "oc-node"},
		{nil, nil, exitUsage, "name a command"},
		{[]string{"reboot"}, nil, exitUsage, "reboot"},
		{append([]string{"stop"}, unit...), nil, exitUsage, "--epoch"},
		{[]string{"stop", "--epoch", "5"}, nil, exitUsage, "--unit"},
		{[]string{"stop", "--epoch", "5", "--unit", "/etc/passwd"}, nil, exitUsage, "--unit"},
		{append([]string{"stop", "--epoch", "-1"}, unit...), nil, exitUsage, "-1"},
		{append([]string{"stop", "--epoch", "5", "more"}, unit...), nil, exitUsage, "more"},
		{append([]string{"stop", "--epoch", "5"}, unit...), nil, exitRefused, "nothing was changed"},
		{append([]string{"start", "--epoch", "5"}, unit...), nil, exitRefused, "nothing was changed"},
		{append([]string{"restart", "--epoch", "5"}, unit...), nil, exitRefused, "nothing was changed"},
		{append([]string{"restart", "--unattended", "--epoch", "5"}, unit...), nil, exitRefused, "nothing was changed"},
		{append([]string{"process", "--epoch", "0"}, unit...), nil, exitFailure, "systemctl"},
		{append([]string{"process", "--unattended"}, unit...), nil, exitUsage, "--unattended"},
		{append([]string{"unit"}, unit...), nil, exitFailure, "oc-http.service"},
		{append([]string{"rewrite", "--epoch", "5"}, unit...), nil, exitUsage, "--text-base64"},
		{append([]string{"rewrite", "--epoch", "5", "--text-base64", "a"}, unit...), nil, exitUsage, "--text-base64"},
		{append([]string{"rewrite", "--epoch", "5", "--text-base64", "aGVsbG8="}, unit...), nil, exitFailure, "oc-http.service"},
		{[]string{"agent"}, nil, exitUsage, "--instance and --registry"},
		{[]string{"agent", "--instance", "a", "--registry", "x"}, nil, exitUsage, "--registry"},
		{[]string{"agent", "--instance", "a", "--registry", reg}, nil, exitUsage, "region"},
		{[]string{"agent", "--region", "eu-central-1"}, map[string]string{"OC_INSTANCE": "a", "OC_REGISTRY": reg}, exitOK, ""},
	} {
		code, out, said := call(t, c.env, c.args...)
		if code != c.code || !strings.Contains(out+said, c.want) {
			t.Errorf("%v: exit code %d, want %d with %q\n%s%s", c.args, code, c.code, c.want, out, said)
		}
		if code == exitUsage && (out != "" || !strings.Contains(said, "oc-node --help")) {
			t.Errorf("%v: a usage error prints %q, %q", c.args, out, said)
		}
		if code == exitFailure || code == exitRefused {
			var f failure
			if err := json.Unmarshal([]byte(out), &f); err != nil || f.Error == "" || f.Refused != (code == exitRefused) {
				t.Errorf("%v: %v: %q", c.args, err, out)
			}
		}
	}
}
