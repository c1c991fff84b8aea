package roster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"originchain/shared/alarms"
)

// written makes a directory of files, each of mode 0600.
func written(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const whole = `webhook_allow = ["127.0.0.0/8"]

[smtp]
server = "mail.example.com:587"
from = "oc@example.com"
user = "oc"
password_file = "smtp.password"

[[subscriber]]
id = "ops"
email = "ops@example.com"
up_to = 2

[[subscriber]]
id = "pager"
webhook = "https://hooks.example.com/T0KEN"
secret_file = "pager.secret"
`

func TestARoster(t *testing.T) {
	dir := written(t, map[string]string{FileName: whole, "smtp.password": "hunter2hunter2\n", "pager.secret": "0123456789abcdef\n"})
	r, err := Read(dir)
	if err != nil || r.Mail == nil || r.Webhooks == nil || len(r.Subscribers) != 2 {
		t.Fatalf("%v, %+v", err, r)
	}
	ops, pager := r.Subscribers[0], r.Subscribers[1]
	if ops.UpTo != alarms.OneAlarm || pager.UpTo != alarms.TenantDown || string(pager.Secret) != "0123456789abcdef" || string(pager.Webhook) != "https://hooks.example.com/T0KEN" {
		t.Errorf("%+v", r.Subscribers)
	}
	if r, err := Read(t.TempDir()); err != nil || len(r.Subscribers) != 0 || r.Webhooks == nil {
		t.Errorf("without a file: %v, %+v", err, r)
	}
}

// Whatever is wrong is said, all at once, and nothing secret with it.
func TestRostersThatAreRefused(t *testing.T) {
	secrets := map[string]string{"smtp.password": "hunter2hunter2", "pager.secret": "0123456789abcdef"}
	for name, c := range map[string]struct {
		change func(string) string
		files  map[string]string
		mode   string // the file that others may read
		want   []string
	}{
		"the file may be read by others": {mode: FileName, want: []string{"chmod 600"}},
		"a secret may be read by others": {mode: "pager.secret", want: []string{"chmod 600", "pager"}},
		"a secret is not there":          {files: map[string]string{"smtp.password": "x"}, want: []string{"pager.secret"}},
		"a secret is short":              {files: map[string]string{"pager.secret": "short"}, want: []string{"16 bytes"}},
		"a secret has two lines":         {files: map[string]string{"smtp.password": "hunter2\nhunter2"}, want: []string{"one line"}},
		"no mail server":                 {change: func(s string) string { return s[strings.Index(s, "[["):] }, want: []string{"[smtp]"}},
		"no TOML":                        {change: func(s string) string { return s + "\nwebhook = T0KEN" }, want: []string{"line 19"}},
		"a setting of another program":   {change: func(s string) string { return s + "\ncolour = 1" }, want: []string{"colour"}},
		"plain HTTP to somewhere":        {change: func(s string) string { return strings.Replace(s, "https:", "http:", 1) }, want: []string{"https"}},
		"twice, and of no severity": {change: func(s string) string {
			return strings.Replace(strings.Replace(s, "up_to = 2", "up_to = 4", 1), `"pager"`, `"ops"`, 1)
		}, want: []string{"twice", "severity 4"}},
		"no range, and a user without pwd": {change: func(s string) string {
			return strings.Replace(strings.Replace(s, "/8", "/99", 1), `password_file = "smtp.password"`, "", 1)
		}, want: []string{"webhook_allow", "go together"}},
	} {
		files := map[string]string{FileName: whole}
		if c.change != nil {
			files[FileName] = c.change(whole)
		}
		for k, v := range secrets {
			files[k] = v
		}
		for k, v := range c.files {
			files[k] = v
		}
		if name == "a secret is not there" {
			delete(files, "pager.secret")
		}
		dir := written(t, files)
		if c.mode != "" {
			if err := os.Chmod(filepath.Join(dir, c.mode), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Read(dir)
		if err == nil {
			t.Errorf("%s: it was taken", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %q in: %v", name, want, err)
			}
		}
		for _, secret := range []string{"hunter2", "0123456789", "T0KEN", "short"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error tells %s: %v", name, secret, err)
			}
		}
	}
}
