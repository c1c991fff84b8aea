package machine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"originchain/shared/telemetry"
)

const (
	// helpTimeout bounds the question to a server's program which flags it knows.
	helpTimeout = 4 * time.Second
	// maxHelpBytes bounds its answer.
	maxHelpBytes = 256 << 10
)

// flagLine is where a flag is explained.
var flagLine = regexp.MustCompile(`(?m)^\s+(?:-\w, )?--([a-z0-9][a-z0-9-]*)`)

// ofTwoVersions says of a flag that one of both programs does not know why that is so.
func ofTwoVersions(path, who, flag string) error {
	return fmt.Errorf("%s: %s does not know --%s: oc-node (%s) and oc-server of a node are to be of one release; install both", path, who, flag, telemetry.Version)
}

// known explains why a command line was not understood.
func known(path string, err error) error {
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		return ofTwoVersions(path, "oc-node", unknown.GetSpecifiedName())
	}
	return fmt.Errorf("%s: %w", path, err)
}

// knows says why the program that the unit starts would not take the unit's command line: it
// is asked itself which flags it knows, as it may be of another release than this program.
func (s *server) knows(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, helpTimeout)
	defer cancel()
	out := limited{most: maxHelpBytes}
	cmd := exec.CommandContext(ctx, s.program, "--help")
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, letGo
	for _, k := range slices.Sorted(maps.Keys(s.env)) {
		cmd.Env = append(cmd.Env, k+"="+s.env[k])
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %s --help does not say which flags the server knows: %w", path, s.program, err)
	}
	all := map[string]bool{}
	for _, m := range flagLine.FindAllSubmatch(out.b, -1) {
		all[string(m[1])] = true
	}
	for _, flag := range s.flags {
		if !all[flag] {
			return ofTwoVersions(path, s.program, flag)
		}
	}
	return nil
}

// given are the flags that a command line has.
func given(set *pflag.FlagSet) (out []string) {
	set.Visit(func(f *pflag.Flag) { out = append(out, f.Name) })
	return out
}
