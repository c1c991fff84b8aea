// Package subscribers is the command oc-subscribers: who is told of incidents on AWS, in the
// documents that the function notify reads.
package subscribers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"runtime"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"originchain/lambdas/documents"
	"originchain/shared/aws/ddbregistry"
	"originchain/shared/cli"
	"originchain/shared/incident"
)

const name = "oc-subscribers"

// The exit codes: those of every command, and its own.
const (
	ExitOK      = cli.ExitOK
	ExitFailure = cli.ExitFailure
	ExitUsage   = cli.ExitUsage
	ExitRefused = 3
	ExitChanged = 4
)

const long = `oc-subscribers says who is told of incidents on AWS, by e-mail or by a signed webhook:
of those of all instances of a region. Beside an instance on one machine they are in its
notify.toml.

Secrets, and the URLs of webhooks, which often are some, are never shown. What is a
subscriber already as it is given is added by doing nothing, and what was removed already
is removed so: run a command again whose end was not seen.

Exit codes:
  0  done
  1  failed; the message says whether something may have been changed. Run it again,
     unless it says that one is to be removed
  2  usage
  3  nothing was done: the id is taken (--replace), or nobody's, or there are as many
     subscribers as are told
  4  nothing was done: somebody else has changed the subscriber at the same time`

// Program is what the outside of the command is made of.
type Program struct {
	Version        string
	Args           []string
	LookupEnv      func(string) (string, bool)
	Stdout, Stderr io.Writer
}

// Main runs the command line and returns the exit code.
func Main(ctx context.Context, p Program) int {
	c := &command{Program: p}
	return cli.Run(ctx, c.root(), cli.Streams{Args: p.Args, Stdout: p.Stdout, Stderr: p.Stderr}, code)
}

// code is the exit code of a run that has failed.
func code(err error) int {
	switch {
	case errors.Is(err, incident.ErrSubscribed), errors.Is(err, incident.ErrNoSubscriber), errors.Is(err, incident.ErrMaxNames), errors.Is(err, incident.ErrMaxSubscribers):
		return ExitRefused
	case errors.Is(err, incident.ErrConflict):
		return ExitChanged
	}
	return ExitFailure
}

// command is one run of the program.
type command struct {
	Program
	registry string
	asJSON   bool
}

// registryEnv is what the function has it by, too.
const registryEnv = "OC_CONTROL_REGISTRY"

func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use: name, Short: "Say who is told of incidents", Long: long,
		Version: fmt.Sprintf("%s, %s", c.Version, runtime.Version()),
		Args:    cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return cli.Usage(errors.New("name a command: list, add or remove"))
		},
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	f := root.PersistentFlags()
	f.SortFlags = false
	f.StringVar(&c.registry, "registry", "", "where subscribers are, dynamodb://originchain-registry/"+incident.ControlScope+"?region=… ["+registryEnv+"]")
	f.BoolVar(&c.asJSON, "json", false, "print one JSON document on standard output")
	root.AddCommand(c.listCommand(), c.addCommand(), c.removeCommand(), cli.Completion(cli.Usage))
	return root
}

// Options are the names of the options of a command, and "" has those of all of them; for
// the documents' test. nil: there is no such command.
func Options(of string) (names []string) {
	root := (&command{}).root()
	for _, cmd := range root.Commands() {
		if of == "" || cmd.Name() == of {
			for _, set := range []*pflag.FlagSet{root.PersistentFlags(), cmd.Flags()} {
				set.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
			}
		}
	}
	return names
}

// open opens what keeps subscribers; nothing is sent. Another registry of the table is
// refused: who is in that is told of nothing.
func (c *command) open(ctx context.Context) (*incident.Roster, error) {
	if c.registry == "" {
		c.registry, _ = c.LookupEnv(registryEnv)
	}
	if c.registry == "" {
		return nil, cli.Usage(errors.New("--registry: say where subscribers are"))
	}
	u, err := url.Parse(c.registry)
	if err != nil {
		return nil, cli.Usage(errors.New("--registry is no URL")) // the cause repeats it
	}
	at, err := ddbregistry.Parse(u)
	if err != nil {
		return nil, cli.Usage(fmt.Errorf("--registry: %w", err))
	}
	if at.Key != incident.ControlScope {
		return nil, cli.Usage(fmt.Errorf("--registry names the registry %q: incidents and subscribers are in %q, dynamodb://%s/%[2]s", at.Key, incident.ControlScope, at.Table))
	}
	store, err := ddbregistry.New(ctx, at)
	if errors.Is(err, ddbregistry.ErrURL) {
		err = cli.Usage(err)
	}
	if err != nil {
		return nil, fmt.Errorf("--registry: %w", err)
	}
	return incident.NewRoster(documents.Of(store)), nil
}

// print gives the result: the document, or the text for a person.
func (c *command) print(document any, text func(io.Writer) error) error {
	if !c.asJSON {
		return text(c.Stdout)
	}
	enc := json.NewEncoder(c.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(document)
}
