package process

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/mtls"
)

func TestDevelopmentCertificates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	code, out, errs := run(t, "cert", "dev", "--dir", dir)
	if code != ExitOK || errs != "" {
		t.Fatalf("%d %s", code, errs)
	}
	for _, node := range []string{"writer", "follower"} {
		own := filepath.Join(dir, node)
		id, err := mtls.Load(own, nil)
		if err != nil {
			t.Fatal(err)
		}
		if id.Self().Node != node || !strings.Contains(out, "--node-id "+node+" --replication-tls-dir "+own+"\n") || !strings.Contains(out, "made      "+filepath.Join(own, mtls.KeyFile)+"\n") {
			t.Errorf("%s: %s", id.Self(), out)
		}
	}
	if _, out, _ := run(t, "cert", "dev", "--dir", dir); strings.Contains(out, "made") || strings.Count(out, "kept") != 8 {
		t.Errorf("the second run: %s", out)
	}

	code, out, _ = run(t, "cert", "dev", "--dir", dir, "--node", "third", "--node", "writer", "--node", "third", "--host", "db.example", "--host", "::1", "--days", "7", "--json")
	var v madeCertificates
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != ExitOK {
		t.Fatalf("%d %v %s", code, err, out)
	}
	did := make(map[string]string)
	for _, f := range v.Files {
		name, err := filepath.Rel(dir, f.File)
		if err != nil {
			t.Fatal(err)
		}
		did[name] = f.Did
	}
	want := map[string]string{"ca.key": "kept", "ca.crt": "kept", "third/ca.crt": "made", "third/node.key": "made", "third/node.crt": "made",
		"writer/ca.crt": "kept", "writer/node.key": "kept", "writer/node.crt": "renewed"}
	if diff := cmp.Diff(want, did); diff != "" {
		t.Error(diff)
	}
	nodes := []madeNode{{"third", []string{"--node-id", "third", "--replication-tls-dir", filepath.Join(dir, "third")}},
		{"writer", []string{"--node-id", "writer", "--replication-tls-dir", filepath.Join(dir, "writer")}}}
	if diff := cmp.Diff(nodes, v.Nodes); diff != "" || v.Dir != dir || v.Error != "" {
		t.Errorf("%s %+v", diff, v)
	}
}

func TestDevelopmentCertificatesEndWithTheCodeOfWhatHappened(t *testing.T) {
	foreign := t.TempDir()
	write(t, filepath.Join(foreign, "ca.key"), []byte("somebody's"))
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, nil)
	for _, c := range []struct {
		dir   string
		code  int
		fails string
	}{{foreign, ExitRefused, "move it away"}, {filepath.Join(file, "x"), ExitFailure, file}} {
		code, out, errs := run(t, "cert", "dev", "--dir", c.dir)
		if code != c.code || out != "" || !strings.Contains(errs, c.fails) {
			t.Errorf("%d, want %d: %q %q", code, c.code, out, errs)
		}
		code, out, _ = run(t, "cert", "dev", "--dir", c.dir, "--json")
		var v madeCertificates
		if err := json.Unmarshal([]byte(out), &v); err != nil || code != c.code || !strings.Contains(v.Error, c.fails) || v.Nodes != nil {
			t.Errorf("%d %v %s", code, err, out)
		}
	}
	if content, err := os.ReadFile(filepath.Join(foreign, "ca.key")); err != nil || string(content) != "somebody's" {
		t.Errorf("%q %v", content, err)
	}
}

func TestDevelopmentCertificatesUsage(t *testing.T) {
	for _, args := range [][]string{{"cert"}, {"cert", "prod"}, {"cert", "dev"}, {"cert", "dev", "x"}, {"cert", "dev", "--listen", ":1"},
		{"cert", "dev", "--dir", "d", "--days", "0"}, {"cert", "dev", "--dir", "d", "--node", "../x"}, {"cert", "dev", "--dir", "d", "--host", "h:1"}} {
		if code, out, errs := run(t, args...); code != ExitUsage || out != "" || !strings.Contains(errs, "--help") {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
	if _, err := os.Stat("d"); err == nil {
		t.Error("a run that was refused made its directory")
	}
	code, out, _ := run(t, "cert", "dev", "--help")
	for _, want := range []string{"Exit codes:", "--json", "--days int", "(default 90)", "[writer,follower]", "localhost, 127.0.0.1, ::1"} {
		if code != ExitOK || !strings.Contains(out, want) {
			t.Errorf("--help lacks %q: %d %s", want, code, out)
		}
	}
}
