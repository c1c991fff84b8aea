package stack_test

import (
	"archive/zip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"originchain/infra/config"
)

// verifier stands for oc-pitr on a machine that verifies: it notes how it was called, and
// ends as $WORLD says.
const verifier = `#!/bin/bash
echo "oc-pitr $*" >>"$WORLD/calls"
echo '{"ok": true}'
if [[ -e $WORLD/hangs ]]; then
  trap 'echo "oc-pitr was asked to end" >>"$WORLD/calls"; exit 1' TERM
  for ((;;)); do read -rt 0.05 <> <(:) || :; done
fi
[[ ! -e $WORLD/fills ]] || { echo x >"$SCRATCH/restored" && exit 61; }
[[ ! -e $WORLD/faults ]] || exit 61
`

// onDisk stands for a program that writes to the machine's disk: it cannot where that is full,
// or where what is restored has filled it.
const onDisk = `#!/bin/bash
if [[ -e $WORLD/full || -e $SCRATCH/restored ]]; then
  [[ ${0##*/} != tee ]] || cat
  echo "${0##*/}: No space left on device" >&2
  exit 1
fi
exec "/usr/bin/${0##*/}" "$@"
`

// newVerifier is a machine that has what one that verifies is given.
func newVerifier(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	f, err := os.Create(filepath.Join(m.dir, "world", "programs.zip"))
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	w, err := z.Create("oc-pitr")
	if err == nil {
		_, err = w.Write([]byte(verifier))
	}
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		err = f.Close()
	}
	for name, text := range map[string]string{"shutdown": shim, "tee": onDisk, "mktemp": onDisk} {
		if err == nil {
			err = os.WriteFile(filepath.Join(m.dir, "shims", name), []byte(text), 0o755)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	m.env = append(m.env, "SCRATCH="+m.dir+"/scratch", "ARCHIVE=s3://oc-acme?region=eu-central-1", "INSTANCE_ID=01JDV5K2Q8W3M0ZB7R4N6XHE9T", "RECORD=dynamodb://originchain-registry/acme?region=eu-central-1",
		"CROSS_REGION=false", "LIMIT_SECONDS=36000", "LOG="+m.dir+"/verify.log")
	return m
}

const verifyFile = "machine/verify.sh"

// TestAMachineVerifiesAndEndsItself: whatever happens it ends, with its log sent; and it
// succeeds only if the verification did.
func TestAMachineVerifiesAndEndsItself(t *testing.T) {
	const call = "oc-pitr verify --archive s3://oc-acme?region=eu-central-1 --instance-id 01JDV5K2Q8W3M0ZB7R4N6XHE9T --mode full --data-dir /scratch --record dynamodb://originchain-registry/acme?region=eu-central-1 --json"
	for name, c := range map[string]struct {
		world map[string]string
		env   []string
		ok    bool
		calls []string // of oc-pitr
		says  string
		sent  bool
	}{
		"well":                   {ok: true, calls: []string{call}, says: "the newest recovery point is well", sent: true},
		"in another region":      {env: []string{"CROSS_REGION=true"}, ok: true, calls: []string{call + " --allow-cross-region"}, says: "is well", sent: true},
		"faults":                 {world: map[string]string{"faults": ""}, calls: []string{call}, says: "ended with the exit code 61", sent: true},
		"it takes too long":      {world: map[string]string{"hangs": ""}, env: []string{"LIMIT_SECONDS=1"}, calls: []string{call, "oc-pitr was asked to end"}, says: "ended with the exit code 124", sent: true},
		"no programs":            {world: map[string]string{"programs.zip": "x"}, env: []string{"PROGRAMS_SECONDS=0"}, says: "did not come about within 0 s", sent: true},
		"the restore fills it":   {world: map[string]string{"fills": ""}, calls: []string{call}, says: "ended with the exit code 61", sent: true},
		"the disk is full":       {world: map[string]string{"full": ""}, env: []string{"PROGRAMS_SECONDS=0"}, says: "the log could not be sent"},
		"the log cannot be sent": {world: map[string]string{"logs-away": ""}, ok: true, calls: []string{call}, says: "the log could not be sent"},
		"no metadata":            {world: map[string]string{"no-metadata": ""}, ok: true, calls: []string{call}, says: "the log could not be sent"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newVerifier(t)
			for f, text := range c.world {
				m.put(t, f, text)
			}
			ok, calls, out := m.run(t, verifyFile, c.env...)
			if ok != c.ok || !strings.Contains(out, c.says) {
				t.Errorf("ok %v, want %v: %s", ok, c.ok, out)
			}
			if got := of(calls, "oc-pitr"); !slices.Equal(got, c.calls) {
				t.Errorf("calls %q, want %q", got, c.calls)
			}
			// Before anything else it is seen to that it ends, and it ends last.
			ends := of(calls, "shutdown")
			if len(ends) != 2 || !strings.HasPrefix(ends[0], "shutdown -h +") || ends[1] != "shutdown -h now" || calls[0] != ends[0] || calls[len(calls)-1] != ends[1] {
				t.Errorf("it does not end: %q", calls)
			}
			if sent := m.read("world/sent"); strings.Contains(sent, `{\"ok\": true}`) != (c.sent && c.calls != nil) || c.sent != strings.Contains(sent, "ended with the exit code") {
				t.Errorf("sent %q", sent)
			}
		})
	}
}

// verifyScript is the user data of the machine that verifies.
func (tm template) verifyScript() string {
	return tm.resolve(at(tm.resources("AWS::EC2::LaunchTemplate")["Template"], "Properties", "LaunchTemplateData", "UserData", "Fn::Base64"))
}

// TestScriptsThatVerifyAreSound: each fits what EC2 takes, shellcheck has nothing to say,
// and it has the time that the state machine waits for.
func TestScriptsThatVerifyAreSound(t *testing.T) {
	dir, files := t.TempDir(), []string(nil)
	tenants(t, func(t *testing.T, w *world, n *config.Tenant, _, _ template) {
		text := w.stacks["OriginChain-"+n.Name+"-Verification"].verifyScript()
		if len(text)+1024 > 16<<10 {
			t.Errorf("%d bytes", len(text))
		}
		for _, want := range []string{"INSTANCE_ID='" + n.InstanceID + "'\n", "ARCHIVE='s3://" + w.archive(n) + "?region=" + n.ArchiveRegion + "'\n",
			"RECORD='dynamodb://originchain-registry/" + n.Name + "?region=" + w.config.Region + "'\n", "LIMIT_SECONDS='36000'\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in\n%s", want, text)
			}
		}
		if strings.Contains(text, "remover=") || strings.Contains(text, "CROSS_REGION='true'") != n.AllowCrossRegion {
			t.Errorf("it is told of what it does not need:\n%s", text)
		}
		files = append(files, filepath.Join(dir, n.Name+".sh"))
		if err := os.WriteFile(files[len(files)-1], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	shellcheck(t, files)
}
