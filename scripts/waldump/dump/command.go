// Package dump is the program waldump: it prints segment files of the log, a
// line per frame, and verifies them. It changes nothing, and works on copies as
// well as on the log of a running server.
package dump

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"originchain/shared/cli"
	"originchain/shared/fault"
)

// Exit codes.
const (
	ExitOK         = 0
	ExitCorruption = 1
	ExitUsage      = 2
	ExitUnreadable = 3
)

const long = `waldump prints segment files of the OriginChain log: the header, a line per
frame, the footer, and a verdict. Every frame is checked as it is read: CRC,
LSN, epoch, stamp, chain, digest. Nothing is changed.

A DIR stands for its segments, oldest first, held against each other and
against its durable mark.

Exit codes:
  0  all files are intact (an open segment may end in a torn tail)
  1  corruption
  2  wrong usage
  3  a file cannot be read, or was written by a newer version`

// usageError is a mistake on the command line.
type usageError struct{ error }

// Command returns the waldump command. version is printed by --version, format
// prints keys for --ops.
func Command(version string, format KeyFormatter) *cobra.Command {
	o := Options{FS: vfs.Default, FormatKey: format}
	cmd := &cobra.Command{
		Use:           "waldump [flags] FILE...|DIR",
		Short:         "Print and verify segment files of the log",
		Long:          long,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("name at least one segment file or a log directory")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Out = cmd.OutOrStdout()
			return Run(o, args)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	flags := cmd.Flags()
	flags.BoolVar(&o.JSON, "json", false, "print one JSON object per line instead of text")
	flags.BoolVar(&o.Ops, "ops", false, "print the operations of each frame")
	flags.BoolVar(&o.Verify, "verify", false, "also check the SHA-256 of sealed files, the footer against the frames, and one operation per key")
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "print the verdicts alone")
	cmd.AddCommand(cli.Completion(func(err error) error {
		if err != nil {
			err = usageError{err}
		}
		return err
	}))
	return cmd
}

// Execute runs the command, prints its error, and returns the exit code.
func Execute(cmd *cobra.Command) int {
	err := cmd.Execute()
	var usage usageError
	var corrupt *fault.Corruption
	code := ExitUnreadable
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &usage):
		code = ExitUsage
		err = fmt.Errorf("%w; see waldump --help", err)
	case errors.As(err, &corrupt):
		code = ExitCorruption
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "waldump:", err)
	return code
}
