package secret_test

import (
	"fmt"
	"strings"
	"testing"

	"originchain/shared/aws/secret"
	"originchain/test/awsfake"
)

func TestValue(t *testing.T) {
	f := awsfake.Start(t)
	arn := f.Secrets.Put("acme/admin-token", "oc_admin_one\n")
	s := secret.New(f.Config(), arn)
	for range 2 {
		if v, err := s.Value(t.Context()); err != nil || v != "oc_admin_one" {
			t.Fatalf("%q, %v", v, err)
		}
	}
	if n := len(f.Secrets.Calls("GetSecretValue")); n != 2 {
		t.Errorf("it was asked for %d times, want once for the value and once for the one before", n)
	}
	if text := fmt.Sprintf("%v %+v %s", s, s, s); strings.Contains(text, "oc_admin_one") {
		t.Errorf("it prints itself: %s", text)
	}
	for _, wrong := range []string{"", "   ", "two\nlines", strings.Repeat("x", secret.MaxBytes+1)} {
		arn := f.Secrets.Put("acme/wrong", wrong)
		if _, err := secret.New(f.Config(), arn).Value(t.Context()); err == nil || wrong != "" && strings.Contains(err.Error(), "two") {
			t.Errorf("%.20q: %v", wrong, err)
		}
	}
	if _, err := secret.New(f.Config(), arn+"x").Value(t.Context()); err == nil || !strings.Contains(err.Error(), "ResourceNotFound") {
		t.Errorf("%v", err)
	}
}

// A value that was changed is used once it has settled, and not before: those who are to
// take it may not have read it yet.
func TestANewValueSettles(t *testing.T) {
	f := awsfake.Start(t)
	f.Secrets.Put("acme/admin-token", "oc_admin_one")
	arn := f.Secrets.Put("acme/admin-token", "oc_admin_two")
	if v, err := secret.New(f.Config(), arn).Value(t.Context()); err != nil || v != "oc_admin_one" {
		t.Errorf("a new value: %q, %v", v, err)
	}
	f.Secrets.Age("acme/admin-token", secret.SettlesIn)
	if v, err := secret.New(f.Config(), arn).Value(t.Context()); err != nil || v != "oc_admin_two" {
		t.Errorf("one that has settled: %q, %v", v, err)
	}
}
