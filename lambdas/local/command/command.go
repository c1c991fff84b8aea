// Package command is the command line of oc-control.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"originchain/lambdas/local/control"
	"originchain/lambdas/local/layout"
)

// Program is what the outside of the command is made of.
type Program struct {
	Version        string
	Args           []string
	Stdout, Stderr io.Writer
	// Up has an instance up until ctx ends or it is told to end. It calls ready once the
	// writer is ready and all followers are in sync.
	Up func(ctx context.Context, o UpOptions, ready func(short error) error) error
}

// UpOptions are the flags of up.
type UpOptions struct {
	Dir layout.Dir
	// Followers is how many a new instance has; an old one keeps its own.
	Followers int
	// FollowersGiven says that a person asked for that many.
	FollowersGiven bool
	// Server is the program of the nodes, as an absolute path.
	Server string
	// More are flags for every node.
	More []string
	// VerifyEvery is how often a recovery point is verified, VerifyMode how.
	VerifyEvery time.Duration
	VerifyMode  string
	// Out is for what a person is told, Log for what is logged.
	Out, Log io.Writer
}

// Exit codes.
const (
	ExitFailed  = 1
	ExitUsage   = 2
	ExitDown    = 3
	ExitRefused = 4
	ExitLost    = 5
)

const long = `oc-control has an OriginChain instance up on this machine: a writer and its followers,
each from a systemd unit file, an archive, a lease store, DNS, and one endpoint that
follows the writer. When the writer dies, a follower that has every acknowledged write
takes its place within seconds.

Exit codes: 0 done; 1 it failed, and the message says what to do; 2 the command line is
wrong; 3 no instance is up in that directory; 4 the promotion was refused, for the
reasons that the report names; 5 a drill has lost something.`

// usageError is a command line that is wrong.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// refusedError is a promotion that was not to be.
type refusedError struct {
	verdict string
	// said names the guards that stand, and what gives them up.
	said error
}

func (e *refusedError) Error() string {
	if e.said != nil {
		return e.said.Error()
	}
	return fmt.Sprintf("nothing was changed: the verdict is %s; the report says why, and which flag gives up which guard", e.verdict)
}

// errLost ends a drill that has lost what was acknowledged, or has what was refused.
var errLost = errors.New("acknowledged writes are not there any more, or refused ones are there; keep the directory as it is, and report it with the drill's report")

// Main runs the command line and returns the exit code.
func Main(ctx context.Context, p Program) int {
	c := &command{Program: p}
	root := c.root()
	root.SetArgs(p.Args)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	_, _ = fmt.Fprintf(p.Stderr, "oc-control: %v\n", err) // stderr is the last resort
	return exitCode(err)
}

func exitCode(err error) int {
	var (
		usage   *usageError
		down    *control.DownError
		refused *refusedError
	)
	switch {
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &down):
		return ExitDown
	case errors.As(err, &refused):
		return ExitRefused
	case errors.Is(err, errLost):
		return ExitLost
	}
	return ExitFailed
}

type command struct {
	Program
	dir string
}

func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use: "oc-control", Short: "Have an instance up on this machine", Long: long, Version: c.Version,
		SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs,
	}
	root.PersistentFlags().StringVar(&c.dir, "dir", "var/instance", "the instance's directory")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(c.upCommand(), c.downCommand(), c.statusCommand(), c.promoteCommand(), c.drillCommand())
	for _, sub := range root.Commands() {
		sub.Args = func(cmd *cobra.Command, args []string) error {
			if err := cobra.NoArgs(cmd, args); err != nil {
				return &usageError{err}
			}
			return nil
		}
	}
	return root
}

// Options are the names of all flags.
func Options() (names []string) {
	root := (&command{}).root()
	for _, cmd := range append(root.Commands(), root) {
		for _, set := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
			set.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		}
	}
	return names
}

// place is the directory that was named.
func (c *command) place() (layout.Dir, error) { return layout.Open(c.dir) }

func (c *command) client() (*control.Client, layout.Dir, error) {
	dir, err := c.place()
	return control.NewClient(dir.Socket()), dir, err
}

// sayf tells a person; with --json, standard output is the document's.
func (c *command) sayf(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format+"\n", args...) // a terminal that is gone hears nothing
}

// document writes the one JSON document of a command.
func (c *command) document(v any) error {
	out := json.NewEncoder(c.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(v)
}
