package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"originchain/lambdas/instancetest"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/registry"
)

// On AWS nobody but the script starts the old writer's server again that it has stopped:
// where something was left too, and where nobody took its place.
func TestTheOldWriterIsStartedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		set    func(*instancetest.Instance)
		args   []string
		code   int
		starts bool
		want   string
	}{
		"it ends well":              {func(i *instancetest.Instance) { i.Kill("acme-a") }, nil, exitOK, true, "acme-b is the writer of epoch 2"},
		"something is left":         {func(i *instancetest.Instance) { i.Kill("acme-a"); i.Fail("dns", 1000) }, nil, exitLeft, true, "this was left"},
		"the machine is away":       {func(i *instancetest.Instance) { i.Kill("acme-a"); i.Fail("start", 1000) }, nil, exitOK, true, "was not let go"},
		"it was not stopped":        {func(*instancetest.Instance) {}, nil, exitFailure, false, "hands over to acme-b not now"},
		"nothing was to be done":    {func(i *instancetest.Instance) { i.Kill("acme-a") }, []string{"--dry-run"}, exitOK, false, ""},
		"nobody has taken its turn": {func(i *instancetest.Instance) { i.Kill("acme-a"); i.Fail("take", 1000) }, nil, exitFailure, true, "nobody has taken its place"},
	} {
		t.Run(name, func(t *testing.T) {
			i := instancetest.New(t, lease.NewMemory(lease.Hooks{}), registry.NewMemory(), 2)
			c.set(i)
			var text strings.Builder
			code := run(t.Context(), program{version: "test", stdout: &text, stderr: &text, reach: providers{providerAWS: func(context.Context, *options) (failover.Deps, string, error) {
				return i.Deps(), instancetest.Zone, nil
			}}, args: append([]string{"--provider", "aws", "--instance", "acme", "--writer-instance", "acme-a", "--follower-instance", "acme-b"}, c.args...)})
			if code != c.code || !strings.Contains(text.String(), c.want) || slices.Contains(i.Calls(), "start") != c.starts {
				t.Errorf("exit code %d, %v\n%s", code, i.Calls(), text.String())
			}
		})
	}
}
