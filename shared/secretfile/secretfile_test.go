package secretfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const most = 32

func TestLine(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string // of the error
	}{
		"one line":               {" hunter2 \n", 0o600, ""},
		"as long as may be":      {strings.Repeat("x", most), 0o400, ""},
		"longer":                 {strings.Repeat("x", most+1), 0o600, "longer than 32 bytes"},
		"two lines":              {"hunter2\nhunter3", 0o600, "one line"},
		"nothing":                {"\n", 0o600, "one line"},
		"its group may read it":  {"hunter2", 0o640, "chmod 600"},
		"others may write to it": {"hunter2", 0o602, "chmod 600"},
	} {
		path := filepath.Join(t.TempDir(), "secret")
		if err := errors.Join(os.WriteFile(path, []byte(c.text), 0o600), os.Chmod(path, c.mode)); err != nil {
			t.Fatal(err)
		}
		got, err := Line(path, most)
		switch {
		case c.want == "" && (err != nil || got != strings.TrimSpace(c.text)):
			t.Errorf("%s: %q, %v", name, got, err)
		case c.want != "" && (err == nil || got != "" || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter")):
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := Line(t.TempDir(), most); err == nil || !strings.Contains(err.Error(), "no file") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none"), most); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
