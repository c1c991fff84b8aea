package docs

import (
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"originchain/scripts/oc-subscribers/subscribers"
	"originchain/shared/aws/ddblease/ddbtest"
	"originchain/shared/aws/ddbregistry"
	"originchain/shared/incident"
)

// typed has a shell say how it would call a program: its arguments, each ended by a
// character that none has, and a line's end.
const typed = `
set -euo pipefail
oc-subscribers() { printf '%s\x1f' "$@"; echo; }
`

// TestTheFunctionReadsWhatIsWritten: the registry that the command takes is the one that
// the deployed function is told of, and that the policy for people is for.
func TestTheFunctionReadsWhatIsWritten(t *testing.T) {
	for file, want := range map[string]string{
		"pro-Observability": `"OC_CONTROL_REGISTRY": "dynamodb://originchain-registry/` + incident.ControlScope + `?region=`,
		"Control":           "\"dynamodb:LeadingKeys\": [\n          \"" + incident.ControlScope + "\"\n",
	} {
		if text := page(t, "infra/stack/testdata/tiers/"+file+".json"); !strings.Contains(text, want) {
			t.Errorf("%s has no %s", file, want)
		}
	}
}

// TestDeploySubscribesWhoItSays: the commands of the page, as a shell reads them, against a
// table of the same name in an emulator.
func TestDeploySubscribesWhoItSays(t *testing.T) {
	found := slices.DeleteFunc(blocks(t, deployPage, "sh"), func(b string) bool { return !strings.Contains(b, "oc-subscribers") })
	if len(found) != 1 {
		t.Fatalf("%d blocks", len(found))
	}
	t.Chdir(t.TempDir()) // where the block makes the file of a secret
	shell := exec.CommandContext(t.Context(), "bash")
	shell.Stdin = strings.NewReader(typed + found[0])
	said, err := shell.Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	endpoint := ddbtest.Start(t)
	ddbtest.Table(t, endpoint, "originchain-registry", ddbregistry.RegistryAttribute, ddbregistry.KeyAttribute)
	var out strings.Builder
	for line := range strings.Lines(string(said)) {
		args := strings.Split(strings.TrimSuffix(line, "\x1f\n"), "\x1f")
		for i := range args {
			if strings.HasPrefix(args[i], "dynamodb://") {
				args[i] += "&endpoint=" + url.QueryEscape(endpoint)
			}
		}
		out.Reset()
		if code := subscribers.Main(t.Context(), subscribers.Program{Args: args, Stdout: &out, Stderr: &out, LookupEnv: func(string) (string, bool) { return "", false }}); code != subscribers.ExitOK {
			t.Fatalf("%q: exit code %d\n%s", args, code, &out)
		}
	}
	const want = `ID     BY       ADDRESS          UP TO
ops    email    ops@example.com  1
pager  webhook  (not shown)      2
`
	if out.String() != want {
		t.Errorf("%s", &out)
	}
}
