package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"originchain/shared/cli"
	"originchain/shared/failover"
	"originchain/writer/machine"
)

// process is failover.Process in an answer. Epoch is that of the command: whoever has sent
// several tells their answers apart by it.
type process struct {
	Epoch   uint64 `json:"epoch"`
	Running bool   `json:"running"`
	PID     int    `json:"pid"`
	Reaped  bool   `json:"reaped"`
	Place   string `json:"place,omitempty"`
	// Held: a hold of oc-node stands, and nothing starts the unit until oc-node start.
	Held bool `json:"held"`
	// Left: it serves the record's epoch as its writer, and was not restarted.
	Left bool `json:"left,omitempty"`
}

// unit is a unit file in an answer: its text is base64.
type unit struct {
	Epoch uint64 `json:"epoch"`
	Name  string `json:"name"`
	Text  []byte `json:"text,omitempty"`
}

// verb is one command of instance control. One that reads changes nothing, and may be of
// no epoch.
type verb struct {
	name, short string
	reads       bool
	do          func(context.Context, *machine.Machine, uint64) (any, error)
}

func (p program) verbs() (out []*cobra.Command) {
	processes := func(do func(*machine.Machine, context.Context, uint64) (failover.Process, error)) func(context.Context, *machine.Machine, uint64) (any, error) {
		return func(ctx context.Context, m *machine.Machine, epoch uint64) (any, error) {
			pr, err := do(m, ctx, epoch)
			return processOf(m, epoch, pr), err
		}
	}
	for _, v := range []verb{
		{"process", "Tell what is known of the server's process; changes nothing", true, processes(
			func(m *machine.Machine, ctx context.Context, _ uint64) (failover.Process, error) {
				return m.Process(ctx)
			})},
		{"stop", "Hold the unit and end its process: SIGTERM, and SIGKILL after TimeoutStopSec", false, processes((*machine.Machine).Stop)},
		{"start", "Lift the hold and start the unit; one that runs is left alone, unless it is frozen", false, processes((*machine.Machine).Start)},
		{"restart", "Lift the hold, end the process, and start the unit as it reads now; a writer that serves is left alone", false,
			func(ctx context.Context, m *machine.Machine, epoch uint64) (any, error) {
				pr, left, err := m.Restart(ctx, epoch)
				out := processOf(m, epoch, pr)
				out.Left = left
				return out, err
			}},
		{"unit", "Print the unit file; changes nothing", true, func(_ context.Context, m *machine.Machine, epoch uint64) (any, error) {
			path, text, err := m.Text()
			return unit{epoch, path, text}, err
		}},
	} {
		out = append(out, p.verb(v))
	}
	return append(out, p.rewrite())
}

func processOf(m *machine.Machine, epoch uint64, p failover.Process) process {
	return process{Epoch: epoch, Running: p.Running, PID: p.PID, Reaped: p.Reaped, Place: p.Place, Held: held(m)}
}

// held says whether a hold of oc-node stands, or may: one that cannot be read.
func held(m *machine.Machine) bool {
	_, stands, err := m.Held()
	return stands || err != nil
}

// verb is a command of instance control: all have these flags, but for those that read.
func (p program) verb(v verb) *cobra.Command {
	var name string
	var epoch uint64
	var unattended bool
	cmd := &cobra.Command{Use: v.name + " --unit NAME --epoch N", Short: v.short}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if epoch == 0 && !v.reads {
			return cli.Usage(errors.New("--epoch: say of which epoch the command is; epochs begin at 1"))
		}
		m, err := machine.New(name, p.etc, p.run)
		if err != nil {
			return cli.Usage(fmt.Errorf("--unit: %w", err))
		}
		if unattended {
			m = m.Unattended()
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), machine.VerbTimeout)
		defer cancel()
		answer, err := v.do(ctx, m, epoch)
		var wrong *cli.UsageError
		switch {
		case errors.As(err, &wrong):
			return err
		case err != nil:
			return p.failed(m, epoch, err)
		}
		return p.answer(answer)
	}
	cmd.Flags().StringVar(&name, "unit", "", "the server's unit, such as oc-http.service")
	cmd.Flags().Uint64Var(&epoch, "epoch", 0, "the epoch of the record that the command was sent for; the answer repeats it")
	if !v.reads {
		cmd.Flags().BoolVar(&unattended, "unattended", false, "it was sent from afar: what somebody has held by hand is not started")
	}
	return cmd
}

func (p program) rewrite() *cobra.Command {
	var text string
	cmd := p.verb(verb{"rewrite", "Replace the unit file as one step, for the next start", false,
		func(ctx context.Context, m *machine.Machine, epoch uint64) (any, error) {
			if text == "" {
				return nil, cli.Usage(errors.New("--text-base64: give the unit file's new text"))
			}
			b, err := base64.StdEncoding.Strict().DecodeString(text)
			if err != nil {
				return nil, cli.Usage(fmt.Errorf("--text-base64: %w", err))
			}
			path, _, err := m.Text()
			if err != nil {
				return nil, err
			}
			return unit{Epoch: epoch, Name: path}, m.Rewrite(ctx, epoch, b)
		}})
	cmd.Use += " --text-base64 TEXT"
	cmd.Flags().StringVar(&text, "text-base64", "", fmt.Sprintf("the new text in base64, of at most %d bytes", machine.MaxTextBytes))
	return cmd
}
