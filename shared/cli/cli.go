// Package cli is what the commands of one binary each have in common: a mistake on the
// command line is told from a failure, what went wrong is on standard error, without
// secrets, and the exit code says of which kind it is.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"originchain/shared/telemetry"
)

// Exit codes that every command has; above them each has its own.
const (
	ExitOK      = 0
	ExitFailure = 1
	ExitUsage   = 2
)

// UsageError is a mistake on the command line.
type UsageError struct{ Err error }

// Error implements error.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *UsageError) Unwrap() error { return e.Err }

// Usage marks an error as a mistake on the command line; nil stays nil.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return &UsageError{err}
}

// NoArgs is cobra.NoArgs, whose error is a mistake on the command line.
func NoArgs(cmd *cobra.Command, args []string) error { return Usage(cobra.NoArgs(cmd, args)) }

// Streams are the command line, and where a command writes.
type Streams struct {
	Args           []string
	Stdout, Stderr io.Writer
}

// Run runs a command, says on standard error what went wrong, and returns the exit code:
// that of code for what is neither done nor a mistake on the command line.
func Run(ctx context.Context, root *cobra.Command, s Streams, code func(error) int) int {
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usage(err) })
	root.SetArgs(s.Args)
	root.SetOut(s.Stdout)
	root.SetErr(s.Stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	text, exit := telemetry.Redact(err.Error()), ExitUsage
	var wrong *UsageError
	if errors.As(err, &wrong) {
		text += "\nrun " + root.Name() + " --help for the options"
	} else {
		exit = code(err)
	}
	for line := range strings.SplitSeq(text, "\n") {
		_, _ = fmt.Fprintf(s.Stderr, "%s: %s\n", root.Name(), line) // it is the last resort
	}
	return exit
}

// Completion prints a shell's completion script; usage marks a mistake on its command line.
// It is spelt out, as cobra's own one is a mistake with an error of no kind.
func Completion(usage func(error) error) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use: "completion " + strings.Join(shells, "|"), Short: "Print a completion script for a shell", ValidArgs: shells,
		Args: func(cmd *cobra.Command, args []string) error {
			return usage(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)(cmd, args))
		},
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			default:
				return root.GenPowerShellCompletionWithDesc(out)
			}
		},
	}
}
