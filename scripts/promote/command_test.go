package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"originchain/shared/failover"
)

func call(args ...string) (code int, out string) {
	var text strings.Builder
	code = run(context.Background(), program{version: "test", args: args, stdout: &text, stderr: &text, reach: reach()})
	return code, text.String()
}

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	both := []string{"--writer-instance", "a", "--follower-instance", "b"}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--help"}, exitOK, "--accept-data-loss"},
		{[]string{"--version"}, exitOK, "test, go"},
		{nil, exitUsage, "name both nodes"},
		{append(both, "more"), exitUsage, "more"},
		{append(both, "--what"), exitUsage, "--what"},
		{append(both, "--provider", "gcp"), exitUsage, "neither aws nor local"},
		{append(both, "--provider", "aws"), exitFailure, "Route 53"},
		{both, exitUsage, "--dir"},
		{append(both, "--dir", dir), exitFailure, "is oc-control up"},
	} {
		if code, out := call(c.args...); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%v: exit code %d\n%s", c.args, code, out)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for want, err := range map[int]error{
		exitOK: nil, exitFailure: errors.New("x"), exitRefused: &failover.RefusedError{}, exitOther: &failover.OtherRunError{}, exitLeft: &failover.LeftError{},
	} {
		if got := code(err); got != want {
			t.Errorf("%T is %d, want %d", err, got, want)
		}
	}
}

// What oc-control keeps is found, and its token is read; only the machines are another's.
func TestLocal(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"token":          "secret\n",
		"endpoints.json": `{"admin_token_file":"` + filepath.Join(dir, "token") + `","control":"file://` + dir + `/lease","zone":"t.example"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d, zone, err := local(t.Context(), &options{dir: dir}, func(endpoints, string) (failover.Control, failover.DNS, error) { return nil, nil, nil })
	if err != nil || zone != "t.example" || d.AdminToken != "secret" || d.Lease == nil || d.Registry == nil {
		t.Errorf("%+v, %q, %v", d, zone, err)
	}
	if code, out := call("--writer-instance", "a", "--follower-instance", "b", "--dir", dir); code != exitFailure || !strings.Contains(out, "supervisor") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestServerFlags(t *testing.T) {
	flags := serverFlags()
	for name, want := range map[string][2]bool{"sync-replicas": {true, true}, "sync-strict": {false, true}, "leader-addr": {true, true}, "what": {false, false}} {
		if takes, known := flags(name); takes != want[0] || known != want[1] {
			t.Errorf("--%s: %t, %t", name, takes, known)
		}
	}
}
