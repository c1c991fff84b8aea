package secret_test

import (
	"strings"
	"testing"

	"originchain/shared/aws/secret"
	"originchain/test/awsfake"
)

// The value before the last cannot be read, and the last can: one that has settled is used
// alone, where nothing was known before. Of one that has not nobody can say what to use.
func TestTheOneBeforeCannotBeRead(t *testing.T) {
	f := awsfake.Start(t)
	const name = "acme/admin-token"
	f.Secrets.Put(name, "oc_admin_one")
	arn := f.Secrets.Put(name, "oc_admin_two")
	read := func() (string, error) {
		f.Secrets.Next("GetSecretValue", awsfake.Behaviour{}, awsfake.Fail("AccessDeniedException", "the role may not"))
		return secret.New(f.Config(), arn).Value(t.Context())
	}
	if v, err := read(); v != "" || err == nil || !strings.Contains(err.Error(), "before the last") {
		t.Errorf("a new value: %q, %v", v, err)
	}
	f.Secrets.Age(name, secret.SettlesIn)
	if v, err := read(); v != "oc_admin_two" || err != nil {
		t.Errorf("one that has settled: %q, %v", v, err)
	}
}
