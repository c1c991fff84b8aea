package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"originchain/shared/telemetry"
	"originchain/writer/machine"
)

// name is what the command is called by, in its messages too.
const name = "oc-node"

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitRefused = 3
)

const long = `Instance control on a node's machine, and the agent that tells the control plane of it.

Every command but agent prints one JSON document on standard output, below 24,000
characters, and ends within three minutes. One that changes something first reads the
record of who writes, which the unit's --control names, and changes nothing unless that
is of the epoch that the command is of: so a command that comes late does no harm. A stop
holds the unit until a start, in "held" of every document. What was held by hand is started
by hand alone: a command that is sent to the machine carries --unattended.

oc-node and oc-server of a node are to be of one release: install both together.

Exit codes:
  0  done
  1  failed; the message says what is known
  2  usage
  3  refused: the record is of another epoch, or cannot be read. Nothing was changed`

// maxErrorBytes bounds a message in an answer.
const maxErrorBytes = 4000

// program is what the outside of the command is made of.
type program struct {
	version        string
	args           []string
	lookupEnv      func(string) (string, bool)
	stdout, stderr io.Writer
	// etc and run are systemd's directories of units.
	etc, run string
}

// errUsage marks a mistake on the command line.
type errUsage struct{ error }

func (e errUsage) Unwrap() error { return e.error }

func usage(err error) error {
	if err == nil {
		return nil
	}
	return errUsage{err}
}

func run(ctx context.Context, p program) int {
	root := p.root()
	root.SetArgs(p.args)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	if err != nil {
		text := telemetry.Redact(err.Error())
		if code(err) == exitUsage {
			text += "\nrun " + name + " --help for the options"
		}
		for line := range strings.SplitSeq(text, "\n") {
			_, _ = fmt.Fprintf(p.stderr, "%s: %s\n", name, line)
		}
	}
	return code(err)
}

func code(err error) int {
	var wrong errUsage
	var refused *machine.RefusedError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &wrong):
		return exitUsage
	case errors.As(err, &refused):
		return exitRefused
	}
	return exitFailure
}

func (p program) root() *cobra.Command {
	root := &cobra.Command{
		Use: name, Short: "Instance control on a node's machine, and its agent", Long: long,
		Version: fmt.Sprintf("%s, %s", p.version, runtime.Version()), SilenceUsage: true, SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error { return usage(cobra.NoArgs(cmd, args)) },
		RunE: func(*cobra.Command, []string) error {
			return usage(errors.New("name a command: process, stop, start, restart, unit, rewrite or agent"))
		},
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	for _, sub := range append(p.verbs(), p.agent(), p.completion()) {
		if sub.Args == nil {
			sub.Args = func(cmd *cobra.Command, args []string) error { return usage(cobra.NoArgs(cmd, args)) }
		}
		sub.Flags().SortFlags = false
		root.AddCommand(sub)
	}
	return root
}

// answer prints the one document of a command.
func (p program) answer(document any) error {
	enc := json.NewEncoder(p.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(document)
}

// failure is the document of a command that failed.
type failure struct {
	Epoch uint64 `json:"epoch"`
	Error string `json:"error"`
	// Refused: nothing was changed, for RecordEpoch's sake; 0 if that is not known.
	Refused     bool   `json:"refused"`
	RecordEpoch uint64 `json:"record_epoch,omitempty"`
	// Held: a hold of oc-node stands, this command's or one before.
	Held bool `json:"held"`
}

// failed prints why a command failed, and returns it.
func (p program) failed(m *machine.Machine, epoch uint64, err error) error {
	text := telemetry.Redact(err.Error())
	out := failure{Epoch: epoch, Error: text[:min(len(text), maxErrorBytes)], Held: held(m)}
	var refused *machine.RefusedError
	if errors.As(err, &refused) {
		out.Refused, out.RecordEpoch = true, refused.Found
	}
	return errors.Join(err, p.answer(out))
}

// completion prints a shell's completion script.
func (p program) completion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use: "completion " + strings.Join(shells, "|"), Short: "Print a completion script for a shell", ValidArgs: shells,
		Args: func(cmd *cobra.Command, args []string) error {
			return usage(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)(cmd, args))
		},
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(p.stdout, true)
			case "zsh":
				return root.GenZshCompletion(p.stdout)
			case "fish":
				return root.GenFishCompletion(p.stdout, true)
			default:
				return root.GenPowerShellCompletionWithDesc(p.stdout)
			}
		},
	}
}
