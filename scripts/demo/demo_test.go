package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/api"
)

func TestTableIsAligned(t *testing.T) {
	r := &api.SelectResult{Columns: []string{"name", "flights", "avg"}, Rows: []json.RawMessage{
		[]byte(`{"name":"Chicago O'Hare","flights":1095,"avg":7.5}`),
		[]byte(`{"name":"Zürich","flights":7,"avg":12}`),
		[]byte(`{"name":null,"flights":12,"avg":null}`),
	}}
	got, err := table(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `  name            flights   avg
  ──────────────  ───────  ────
  Chicago O'Hare     1095   7.5
  Zürich                7  12.0
  -                    12     -
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The file is read by a shell: a path with any character must come out of it whole.
func TestQuoteSurvivesAShell(t *testing.T) {
	text := `it's a "path" with $HOME, \ and ` + "`id`"
	out, err := exec.Command("sh", "-c", "printf %s "+quote(text)).Output()
	if err != nil || string(out) != text {
		t.Errorf("%q: %v", out, err)
	}
}

func TestWrittenFilesAreTheOwnersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tenant.token")
	for _, text := range []string{"first\n", "second\n"} {
		if err := writeFile(path, text); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Fatalf("%q, %v", got, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// A demo cut short between two writes must find its tenant again.
func TestRecordIsWrittenOnceAndKept(t *testing.T) {
	d := &demo{paths: layout(t.TempDir())}
	first, err := d.readRecord()
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.readRecord()
	if err != nil || again != first || first.Tenant == "" {
		t.Errorf("first %+v, then %+v, %v", first, again, err)
	}
	if err := os.WriteFile(d.record, []byte(`{"tenant":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.readRecord(); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a damaged record: %v", err)
	}
}
