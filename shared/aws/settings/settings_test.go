package settings

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"originchain/shared/aws/session"
	"originchain/test/awsfake"
)

func acme() Settings {
	return Settings{
		Format: Format, Instance: "acme", Region: awsfake.Region, Leases: "dynamodb://originchain-leases/acme", Registry: "dynamodb://originchain-registry/acme",
		Documents: "OriginChain-acme", ZoneID: "Z0123456789ABCDEFGHIJ", Record: "acme.db.example.com", AdminSecret: "arn:aws:secretsmanager:eu-central-1:123456789012:secret:x",
	}
}

func text(t *testing.T, s Settings) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSettingsAreRead(t *testing.T) {
	f := awsfake.Start(t)
	c := session.Config{Region: awsfake.Region, Endpoint: f.URL, Credentials: awsfake.Credentials()}
	var absent *NotFoundError
	if _, err := Load(t.Context(), c, "acme"); !errors.As(err, &absent) || absent.Region != awsfake.Region || !strings.Contains(err.Error(), "/originchain/acme") {
		t.Errorf("%v", err)
	}
	f.SSM.Parameter(Parameter("acme"), text(t, acme()))
	f.SSM.Next("GetParameter", awsfake.Throttle(), awsfake.Lost())
	if got, err := Load(t.Context(), c, "acme"); err != nil || got != acme() {
		t.Errorf("%+v, %v", got, err)
	}
	f.SSM.Parameter(Parameter("other"), text(t, acme()))
	if _, err := Load(t.Context(), c, "other"); err == nil || !strings.Contains(err.Error(), `of the instance "acme"`) {
		t.Errorf("%v", err)
	}
	if _, err := Load(t.Context(), c, "../acme"); err == nil || len(f.SSM.Calls("GetParameter")) != 5 {
		t.Errorf("%v after %d calls", err, len(f.SSM.Calls("GetParameter")))
	}
}

// Every fault is named, at once.
func TestFaults(t *testing.T) {
	for want, change := range map[string]func(*Settings){
		"format is 0":             func(s *Settings) { s.Format = 0 },
		"use a newer one":         func(s *Settings) { s.Format = Format + 1 },
		"no name of an instance":  func(s *Settings) { s.Instance = "A" },
		"leases":                  func(s *Settings) { s.Leases = "file:///x" },
		"registry":                func(s *Settings) { s.Registry = "dynamodb://t/x?profile=me" },
		"region is missing":       func(s *Settings) { s.Region = "" },
		"documents is missing":    func(s *Settings) { s.Documents = "" },
		"admin_secret is missing": func(s *Settings) { s.AdminSecret = "" },
		"give both, or none":      func(s *Settings) { s.Record = "" },
		"no certificate":          func(s *Settings) { s.CA = "x" },
		"want at most 4096":       func(s *Settings) { s.CA = strings.Repeat("x", MaxBytes) },
	} {
		s := acme()
		change(&s)
		if _, err := Parse([]byte(text(t, s))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if _, err := Parse([]byte(`{"format":1}`)); err == nil || strings.Count(err.Error(), "\n") != 5 {
		t.Errorf("%v", err)
	}
	for _, wrong := range []string{"", "{", text(t, acme()) + "{}", `[]`} {
		if _, err := Parse([]byte(wrong)); err == nil {
			t.Errorf("%q is read", wrong)
		}
	}
}
