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
