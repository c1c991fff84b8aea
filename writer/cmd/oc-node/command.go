package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"originchain/shared/cli"
	"originchain/shared/telemetry"
	"originchain/writer/machine"
)

// name is what the command is called by, in its messages too.
const name = "oc-node"

// exitRefused is beside those of every command.
const exitRefused = 3

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

func run(ctx context.Context, p program) int {
	return cli.Run(ctx, p.root(), cli.Streams{Args: p.args, Stdout: p.stdout, Stderr: p.stderr}, code)
}

// code is the exit code of a command that has failed.
func code(err error) int {
	var refused *machine.RefusedError
	if errors.As(err, &refused) {
		return exitRefused
	}
	return cli.ExitFailure
}

func (p program) root() *cobra.Command {
	root := &cobra.Command{
		Use: name, Short: "Instance control on a node's machine, and its agent", Long: long,
		Version: fmt.Sprintf("%s, %s", p.version, runtime.Version()),
		Args:    cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return cli.Usage(errors.New("name a command: process, stop, start, restart, unit, rewrite or agent"))
		},
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	for _, sub := range append(p.verbs(), p.agent(), cli.Completion(cli.Usage)) {
		if sub.Args == nil {
			sub.Args = cli.NoArgs
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
