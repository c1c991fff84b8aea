package main

import (
	"encoding/json"
	"os/exec"
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
	for _, text := range []string{`it's a "path" with $HOME, \ and ` + "`id`", "", "var/demo", "~/demo", "a=b", "a b"} {
		out, err := exec.Command("sh", "-c", "printf %s "+quote(text)).Output()
		if err != nil || string(out) != text {
			t.Errorf("%q: %q, %v", text, out, err)
		}
	}
}
