package secret

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"originchain/test/awsfake"
)

// Who has a value goes on with it while the service is away, and without it where the
// service says that it may not have it any more.
func TestTheServiceIsAway(t *testing.T) {
	f := awsfake.Start(t)
	s := New(f.Config(), f.Secrets.Put("acme/admin-token", "oc_admin_one"))
	var got []string
	take := func() {
		v, err := s.Value(t.Context())
		if err != nil {
			v = "none"
		}
		got = append(got, v)
		s.at = time.Time{}
	}
	take()
	f.Secrets.Next("GetSecretValue", awsfake.Times(3, awsfake.Lost())...)
	take()
	f.Secrets.Next("GetSecretValue", awsfake.Times(3, awsfake.Throttle())...)
	take()
	f.Secrets.Next("GetSecretValue", awsfake.Fail("AccessDeniedException", "the role may not"))
	take()
	take()
	if diff := cmp.Diff([]string{"oc_admin_one", "oc_admin_one", "oc_admin_one", "none", "oc_admin_one"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A service that takes a request and does not answer costs little where the value is known.
func TestTheServiceHangs(t *testing.T) {
	f := awsfake.Start(t)
	s := New(f.Config(), f.Secrets.Put("acme/admin-token", "oc_admin_one"))
	if _, err := s.Value(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.at = time.Time{}
	until := make(chan struct{})
	defer close(until)
	f.Secrets.Next("GetSecretValue", awsfake.Held(until))
	ctx, cancel := context.WithTimeout(t.Context(), 10*renewWithin)
	defer cancel()
	if v, err := s.Value(ctx); v != "oc_admin_one" || err != nil || ctx.Err() != nil {
		t.Errorf("%q, %v, %v", v, err, ctx.Err())
	}
}

// Who has a value in hand that is refused learns of the one that took its place, and who has
// learnt of it early goes back to what it had: each value is named once.
func TestOthers(t *testing.T) {
	f := awsfake.Start(t)
	const name = "acme/admin-token"
	arn := f.Secrets.Put(name, "one")
	f.Secrets.Age(name, time.Hour)
	s := New(f.Config(), arn)
	others := func() (out []string) {
		use, err := s.Value(t.Context())
		for err == nil && use != "" && len(out) < 10 {
			out = append(out, use)
			use = s.Other(t.Context(), out)
		}
		return out
	}
	want := func(why string, values ...string) {
		t.Helper()
		if diff := cmp.Diff(values, others()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", why, diff)
		}
	}
	want("there was but one", "one")
	f.Secrets.Put(name, "two")
	f.Secrets.Put(name, "three")
	want("the service was asked a moment ago", "one")
	s.asked = time.Time{}
	want("changed twice since it was read", "one", "two", "three")
	want("now they are known", "two", "three", "one")
	s.asked = time.Time{}
	f.Secrets.Next("GetSecretValue", awsfake.Times(3, awsfake.Fail("AccessDeniedException", "the role may not"))...)
	want("the service is away", "two", "three", "one")
}
