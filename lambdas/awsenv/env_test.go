package awsenv

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// whole is an environment in which all is well.
func whole() map[string]string {
	return map[string]string{
		Instance: "acme", Instances: "acme,globex-eu", ZoneID: "Z0123456789ABC", Record: "db.acme.example.com.",
		Leases: "dynamodb://eu-central-1/leases", Registry: "dynamodb://eu-central-1/registry?instance=acme", ControlRegistry: "file:///var/control", Archive: "s3://bucket/acme?region=eu-central-1",
		DocumentPrefix: "originchain-acme", AdminTokenSecret: "arn:aws:secretsmanager:eu-central-1:123456789012:secret:acme-admin-AbCdEf",
		MailFrom: "ops@example.com", StatusBucket: "originchain-status", ScratchBytes: "67108864",
	}
}

func read(values map[string]string) (*Env, error) {
	return Read(func(name string) string { return values[name] }, slices.Sorted(maps.Keys(whole())), nil)
}

func TestAnEnvironmentThatIsWell(t *testing.T) {
	e, err := read(whole())
	if err != nil || e.Scratch != 64<<20 || e.Get(Instances) != "acme,globex-eu" || e.Get(CA) != "" {
		t.Fatalf("%+v, %v", e, err)
	}
	one := whole()
	one[Instances] = "acme"
	if _, err := read(one); err != nil {
		t.Error(err)
	}
}

// Each value is checked before the function takes a call: what is wrong here would be found by a
// failover.
func TestAnEnvironmentWithAFault(t *testing.T) {
	for name, values := range map[string][]string{
		Instance:         {"Acme", "a/b", "acme,globex"},
		Instances:        {"acme,", ",acme", "acme,,globex", "acme globex", "acme, globex", "Acme"},
		ZoneID:           {"/hostedzone/Z0123456789ABC", "z1"},
		Record:           {"acme", "db acme.example.com", "*.example.com"},
		Leases:           {"leases", "https://example.com"},
		Registry:         {"registry", "s3://bucket"},
		ControlRegistry:  {"registry", "https://example.com"},
		Archive:          {"bucket", "https://example.com"},
		DocumentPrefix:   {"a", "originchain acme"},
		AdminTokenSecret: {"acme-admin", "arn:aws:ssm:eu-central-1:123456789012:parameter/x"},
		MailFrom:         {"ops", "ops@example.com\r\nBcc: x@example.com"},
		StatusBucket:     {"S", "UPPER"},
		ScratchBytes:     {"67108863", "64M", "-1"},
	} {
		for _, value := range values {
			env := whole()
			env[name] = value
			if _, err := read(env); err == nil || !strings.Contains(err.Error(), "1 faults") || !strings.Contains(err.Error(), name+":") {
				t.Errorf("%s=%q: %v", name, value, err)
			}
		}
	}
}

// All faults come at once, and none repeats a value, which may be a secret put in the wrong place.
func TestEveryFaultIsListed(t *testing.T) {
	env := whole()
	delete(env, Registry)
	env[ZoneID], env[Instances] = "hush-hush", "hush hush"
	_, err := read(env)
	if err == nil || !strings.Contains(err.Error(), "3 faults") || strings.Contains(err.Error(), "hush") {
		t.Fatal(err)
	}
	for _, name := range []string{Registry + " is not set", ZoneID, Instances} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
	if _, err := Read(func(string) string { return "" }, nil, []string{Instances}); err != nil {
		t.Errorf("what may be left out: %v", err)
	}
}
