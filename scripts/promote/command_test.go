package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"originchain/lambdas/local/layout"
	"originchain/shared/aws/ddblease"
	"originchain/shared/aws/ddblease/ddbtest"
	"originchain/shared/aws/ddbregistry"
	"originchain/shared/aws/settings"
	"originchain/shared/failover"
	"originchain/test/awsfake"
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
		{append(both, "--provider", "aws"), exitUsage, "--instance"},
		{append(both, "--provider", "aws", "--instance", "Acme"), exitUsage, "no name of an instance"},
		{append(both, "--provider", "aws", "--instance", "acme", "--dir", dir), exitUsage, "--dir is for"},
		{append(both, "--dir", dir, "--region", "eu-central-1"), exitUsage, "--provider aws"},
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
		exitFailure: errors.New("x"), exitRefused: &failover.RefusedError{}, exitOther: &failover.OtherRunError{}, exitLeft: &failover.LeftError{},
	} {
		if got := code(err); got != want {
			t.Errorf("%T is %d, want %d", err, got, want)
		}
	}
}

// What oc-control keeps is found; nothing is up, so that nothing is done.
func TestLocal(t *testing.T) {
	dir, err := layout.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range dir.Directories() {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	in, err := layout.New(1, func(_ string, n int) (out []string, err error) {
		for i := range n {
			out = append(out, fmt.Sprintf("127.0.0.%d", i+1))
		}
		return out, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.Save(in); err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Secret(dir.LeaseToken()); err != nil {
		t.Fatal(err)
	}
	d, zone, err := local(t.Context(), &options{dir: string(dir)})
	if err != nil || zone != in.Name || d.AdminToken == "" || d.Lease == nil || d.Registry == nil || d.Control == nil || d.DNS == nil {
		t.Errorf("%+v, %q, %v", d, zone, err)
	}
	if code, out := call("--writer-instance", "a", "--follower-instance", "b", "--dir", string(dir)); code != exitFailure {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// What a deployment has left is found; nothing is up, so that nothing is done.
func TestOnAWS(t *testing.T) {
	fake := awsfake.Start(t)
	for _, v := range fake.Environment() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	args := []string{"--provider", "aws", "--instance", "acme", "--writer-instance", "acme-a", "--follower-instance", "acme-b"}
	if code, out := call(args...); code != exitFailure || !strings.Contains(out, "there is no parameter /originchain/acme in "+awsfake.Region) {
		t.Errorf("exit code %d\n%s", code, out)
	}
	dynamo := ddbtest.Start(t)
	ddbtest.Table(t, dynamo, "leases", ddblease.KeyAttribute)
	ddbtest.Table(t, dynamo, "registry", ddbregistry.RegistryAttribute, ddbregistry.KeyAttribute)
	at := "?region=" + awsfake.Region + "&endpoint=" + url.QueryEscape(dynamo)
	text, err := json.Marshal(settings.Settings{
		Format: settings.Format, Instance: "acme", Region: awsfake.Region, Leases: "dynamodb://leases/acme" + at, Registry: "dynamodb://registry/acme" + at,
		Documents: "OriginChain-acme", ZoneID: "Z0123456789ABCDEFGHIJ", Record: "acme.db.example.com", AdminSecret: fake.Secrets.Put("acme/admin", "oc_admin_x"),
	})
	if err != nil {
		t.Fatal(err)
	}
	fake.SSM.Parameter(settings.Parameter("acme"), string(text))
	d, zone, err := onAWS(t.Context(), &options{instance: "acme"})
	if err != nil || zone != "acme.db.example.com" || d.AdminToken != "oc_admin_x" || d.Lease == nil || d.Registry == nil || d.Control == nil || d.DNS == nil {
		t.Errorf("%+v, %q, %v", d, zone, err)
	}
	if code, out := call(args...); code != exitFailure || !strings.Contains(out, `the registry has no node "acme-b"`) {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
