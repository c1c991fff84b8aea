// Package pitr is the program oc-pitr: it lists what an archive can be restored to,
// restores it, verifies that it can, and makes a restored copy its instance's history.
package pitr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"originchain/shared/cli"
	"originchain/shared/object"
	"originchain/shared/progress"
	"originchain/shared/restore"
	"originchain/shared/telemetry"
)

// Program is what the outside of the command is made of.
type Program struct {
	Version        string
	Args           []string
	LookupEnv      func(string) (string, bool)
	Stdout, Stderr io.Writer
	// Openers make the stores of schemes other than file.
	Openers map[string]object.Opener
	// FS is where directories are; nil is the machine's.
	FS vfs.FS
}

const name = "oc-pitr"

const long = `oc-pitr restores an OriginChain instance from its archive: to a moment, to an LSN, or
to the newest point that the archive holds.

The archive is only read, except by accept, which takes an epoch in it, and by purge. Results go to
standard output, with --json as exactly one JSON document, and progress to standard
error.

`

// Main runs the command line and returns the exit code.
func Main(ctx context.Context, p Program) int {
	if p.FS == nil {
		p.FS = vfs.Default
	}
	c := &command{Program: p}
	root := c.root()
	root.SetArgs(p.Args)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	err := root.ExecuteContext(ctx)
	code := exitCode(err)
	if err != nil {
		c.fail(err, code)
	}
	return code
}

// command is one run of the program.
type command struct {
	Program
	common
	// told says that the document of --json has been printed.
	told bool
}

// common are the options that the commands share.
type common struct {
	archive, dataDir, instance, region string
	asJSON, crossRegion                bool
}

// The options that have an environment variable, by the rule of oc-server.
const (
	archiveEnv = "OC_ARCHIVE"
	dataDirEnv = "OC_DATA_DIR"
	regionEnv  = "OC_REGION"
)

func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use: name, Short: "Restore an instance from its archive", Long: long + exitCodes(),
		Version:       fmt.Sprintf("%s, %s", c.Version, runtime.Version()),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          func(cmd *cobra.Command, args []string) error { return usage(cobra.NoArgs(cmd, args)) },
		RunE: func(*cobra.Command, []string) error {
			return usage(errors.New("name a command: restore, list, verify, accept or purge"))
		},
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	f := root.PersistentFlags()
	f.SortFlags = false
	f.StringVar(&c.archive, "archive", "", "where the archive is, file:///directory or s3://bucket/prefix ["+archiveEnv+"]")
	f.StringVar(&c.dataDir, "data-dir", "", "the data directory ["+dataDirEnv+"]")
	f.StringVar(&c.instance, "instance-id", "", "whose archive it must be (default: any)")
	f.StringVar(&c.region, "region", "", "the region of this machine; an archive of another one is refused (default: not asked) ["+regionEnv+"]")
	f.BoolVar(&c.crossRegion, "allow-cross-region", false, "use an archive of another region")
	f.BoolVar(&c.asJSON, "json", false, "print one JSON document on standard output")
	for _, sub := range []*cobra.Command{c.restoreCommand(), c.listCommand(), c.verifyCommand(), c.acceptCommand(), c.purgeCommand(), cli.Completion(usage)} {
		if sub.Args == nil {
			sub.Args = func(cmd *cobra.Command, args []string) error { return usage(cobra.NoArgs(cmd, args)) }
		}
		sub.Flags().SortFlags = false
		root.AddCommand(sub)
	}
	return root
}

// Options are the names of all options of all commands, for the documents' test.
func Options() (names []string) {
	root := (&command{}).root()
	for _, cmd := range append(root.Commands(), root) {
		for _, set := range []*pflag.FlagSet{cmd.Flags(), cmd.PersistentFlags()} {
			set.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		}
	}
	return names
}

// env fills in what was not given.
func (c *command) env() {
	for _, o := range []struct {
		into *string
		name string
	}{{&c.archive, archiveEnv}, {&c.dataDir, dataDirEnv}, {&c.region, regionEnv}} {
		if *o.into == "" {
			*o.into, _ = c.LookupEnv(o.name)
		}
	}
}

// open opens the archive's store.
func (c *command) open(ctx context.Context) (object.Store, error) {
	if c.archive == "" {
		return nil, usage(errors.New("--archive: say where the archive is"))
	}
	s, err := object.Open(ctx, c.archive, c.Openers)
	if err != nil {
		return nil, fmt.Errorf("--archive: %w", err)
	}
	return s, nil
}

// request is what the shared options say of a restore.
func (c *command) request() (r restore.Request, err error) {
	if c.instance != "" {
		if r.Instance, err = ulid.ParseStrict(c.instance); err != nil {
			return r, usage(fmt.Errorf("--instance-id %q is not a ULID: %w", c.instance, err))
		}
	}
	r.Region, r.AllowCrossRegion = c.region, c.crossRegion
	return r, nil
}

// print gives the result: the document, or the text for a person.
func (c *command) print(document any, text func(io.Writer)) error {
	if !c.asJSON {
		text(c.Stdout)
		return nil
	}
	c.told = true
	enc := json.NewEncoder(c.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(document)
}

// failed is the document of an error.
type failed struct {
	Error string `json:"error"`
	Exit  int    `json:"exit_code"`
	// Detail is what a target's error knows, such as the nearest points.
	Detail any `json:"detail,omitempty"`
}

// fail tells an error: on standard error, and with --json as the document, unless
// there was one.
func (c *command) fail(err error, code int) {
	text := telemetry.Redact(err.Error())
	if code == ExitUsage {
		text += "\nrun " + name + " --help for the commands, and " + name + " COMMAND --help for their options"
	}
	for line := range strings.SplitSeq(text, "\n") {
		_, _ = fmt.Fprintf(c.Stderr, "%s: %s\n", name, line)
	}
	if !c.asJSON || c.told {
		return
	}
	doc := failed{Error: telemetry.Redact(err.Error()), Exit: code}
	var target *restore.TargetError
	var clock *restore.ClockError
	var named *restore.CheckpointError
	var begin *restore.BeginError
	switch {
	case errors.As(err, &target):
		doc.Detail = target
	case errors.As(err, &clock):
		doc.Detail = clock
	case errors.As(err, &named):
		doc.Detail = named
	case errors.As(err, &begin):
		doc.Detail = begin
	}
	_ = c.print(doc, nil) // standard output is gone: standard error has it
}

// progressSteps is about how often a phase's progress is shown.
const progressSteps = 200

// begin shows the phases of a long command as tasks.
func begin(d *progress.Display) func(name, unit string, total int64) (advance func(int64), end func()) {
	return func(name, unit string, total int64) (func(int64), func()) {
		task := d.Start(name, unit, total)
		steps := newSteps(task, total)
		return steps.add, steps.end
	}
}
