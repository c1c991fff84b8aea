package machine

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"originchain/shared/datadir"
	"originchain/shared/lease"
	"originchain/shared/unitfile"
	"originchain/writer/config"
)

// server is what a unit starts.
type server struct {
	cfg config.Config
	// faults are why the server would not start by it.
	faults []string
	// dataDir is absolute.
	dataDir string
	// program is what is started, with env as its environment; flags are those of its
	// command line.
	program string
	env     map[string]string
	flags   []string
}

// Config is the configuration of the server that the unit starts.
func (m *Machine) Config() (config.Config, error) {
	_, text, err := m.Text()
	if err != nil {
		return config.Config{}, err
	}
	s, err := readServer(m.path(), m.unit, text)
	if err != nil {
		return config.Config{}, err
	}
	return s.cfg, nil
}

// readServer reads a unit as systemd would start it, and its command line as the server
// would: with the unit's variables.
func readServer(path, unit string, text []byte) (*server, error) {
	f, err := unitfile.Parse(path, text)
	if err != nil {
		return nil, err
	}
	c, err := f.Command()
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	stem := strings.TrimSuffix(unit, ".service")
	specifiers := map[byte]string{'n': unit, 'N': stem, 'p': stem, 'H': host, 'S': "/var/lib", 't': "/run"}
	env, err := f.Environment(specifiers, os.ReadFile)
	if err != nil {
		return nil, err
	}
	program, argv, err := c.Argv(env, specifiers)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	flags := config.Register(set)
	if err := set.Parse(argv[1:]); err != nil {
		return nil, known(path, err)
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("%s: the server takes no word such as %q", path, set.Arg(0))
	}
	s := &server{program: program, env: env, flags: given(set)}
	s.cfg, s.faults = flags.Resolve(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if s.dataDir = s.cfg.DataDir; s.dataDir != "" && !filepath.IsAbs(s.dataDir) {
		dir, err := unitfile.Resolve(strings.TrimPrefix(f.Value("Service", "WorkingDirectory"), "-"), specifiers)
		if err != nil {
			return nil, fmt.Errorf("%s: WorkingDirectory: %w", path, err)
		}
		s.dataDir = filepath.Join("/", dir, s.dataDir)
	}
	return s, nil
}

// fits says why a text is not to become the unit file: the server would not start by it,
// or it would be another node, or one that no command reaches any more.
func (m *Machine) fits(ctx context.Context, text []byte) error {
	next, err := readServer(m.path(), m.unit, text)
	if err != nil {
		return err
	}
	if len(next.faults) > 0 {
		return fmt.Errorf("the server would not start by the new text: %s", strings.Join(next.faults, "; "))
	}
	_, old, err := m.Text()
	if err != nil {
		return err
	}
	now, err := readServer(m.path(), m.unit, old)
	if err != nil {
		return err
	}
	for _, same := range [][3]string{
		{"node-id", now.cfg.NodeID, next.cfg.NodeID}, {"instance-id", now.cfg.InstanceID, next.cfg.InstanceID},
		{"data-dir", now.dataDir, next.dataDir}, {"control", now.cfg.Control, next.cfg.Control},
	} {
		if same[1] != same[2] {
			return fmt.Errorf("the new text is not of this node: its --%s is %q, not %q", same[0], same[2], same[1])
		}
	}
	return next.knows(ctx, m.path())
}

// place is where the data directory is, if that is known and nobody has it open.
func (m *Machine) place() string {
	_, text, err := m.Text()
	if err != nil {
		return ""
	}
	s, err := readServer(m.path(), m.unit, text)
	if err != nil || s.dataDir == "" {
		return ""
	}
	// Who has it open may be a process that somebody started by hand.
	if open, err := datadir.Locked(s.dataDir); err != nil || open {
		return ""
	}
	place, err := lease.PlaceOf(s.dataDir)
	if err != nil {
		return ""
	}
	return place
}
