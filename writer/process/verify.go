package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"originchain/shared/progress"
	"originchain/shared/telemetry"
	"originchain/shared/verification"
)

// dataDirEnv is the environment variable of --data-dir, by the rule of package config.
const dataDirEnv = "OC_DATA_DIR"

const verifyLong = `Verify the data directory of a server that is stopped, from the bytes up:

  every segment of the log: frames, their chain, footers, the durable mark
  the state: its digest, recomputed from every key, against the log's
  every record and row, through the loaders that the server reads them with
  indexes against rows, in both directions; counters; foreign keys

Nothing in the directory is changed. It is locked meanwhile, so that no server
starts on it. Of each fault the first 100 are listed, with table, key (hex) and
what to do. Checks of tables (CHECK) are not evaluated again. The state's files
are read as the server reads them: bytes in them that no read needs, such as a
filter of the deepest level, are not looked at, and a rebuild replaces them.

Exit codes:
  0  everything was verified and is as it must be
  1  it could not be verified to the end: unreadable, or stopped by a signal
  2  usage
  3  faults were found, or the directory is none, or of a newer format
  4  a server has the data directory open
  6  no fault was found, and not everything could be verified: the state lacks
     the newest frames of the log, as a kill leaves it, and what they make of it
     is not there to be checked. Start the server, stop it, and verify again`

// verification is the subcommand that checks a data directory.
func (p Process) verification() *cobra.Command {
	var dataDir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "verify --data-dir D",
		Short:   "verify the data directory of a stopped server; changes nothing",
		Long:    verifyLong,
		Example: "  " + p.Name + " verify --data-dir /var/lib/originchain",
		Args: func(cmd *cobra.Command, args []string) error {
			return withCode(ExitUsage, p.hint(cobra.NoArgs(cmd, args)))
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dataDir == "" {
				dataDir, _ = p.LookupEnv(dataDirEnv)
			}
			if dataDir == "" {
				return withCode(ExitUsage, fmt.Errorf("--data-dir: name the directory to verify\nrun %s verify --help for the options", p.Name))
			}
			return p.verify(cmd.Context(), dataDir, asJSON)
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "directory of log and state (required) ["+dataDirEnv+"]")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document on standard output; progress stays on standard error")
	return cmd
}

// verified is the document of --json: the report, and what kept it from being whole.
type verified struct {
	*verification.Report
	Error string `json:"error,omitempty"`
}

func (p Process) verify(ctx context.Context, dataDir string, asJSON bool) error {
	log, err := telemetry.NewLogger(p.Stderr, "error")
	if err != nil {
		return err
	}
	running, _, stopWatching := p.watch(ctx, log)
	defer stopWatching()
	display := progress.New(p.Stderr)
	report, err := verification.Run(running, verification.Options{FS: vfs.Default, DataDir: dataDir, Begin: begin(display)})
	display.Close()
	if printErr := p.printVerified(verified{Report: report, Error: message(err)}, asJSON); printErr != nil {
		return errors.Join(err, printErr)
	}
	switch {
	case err != nil || report.OK:
		return err
	case report.FoundFaults > 0:
		return withCode(ExitRefused, fmt.Errorf("%d faults in %s", report.FoundFaults, dataDir))
	}
	return withCode(ExitIncomplete, fmt.Errorf("%s could not be verified in full: its state lacks the newest %d frames of the log; start the server, stop it, and verify again", dataDir, report.State.Behind))
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return telemetry.Redact(err.Error())
}

// progressSteps is about how often a phase's progress is shown: once a key would
// cost more than reading the key.
const progressSteps = 200

// begin shows the phases of a verification as tasks.
func begin(d *progress.Display) func(name, unit string, total int64) (advance func(int64), end func()) {
	return func(name, unit string, total int64) (func(int64), func()) {
		task := d.Start(name, unit, total)
		var held int64
		advance := func(n int64) {
			if held += n; held > total/progressSteps {
				task.Add(held)
				held = 0
			}
		}
		return advance, func() {
			task.Add(held)
			task.Done()
		}
	}
}

func (p Process) printVerified(v verified, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(p.Stdout)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	if v.Instance == "" { // refused before anything was read; the error says why
		return nil
	}
	_, err := io.WriteString(p.Stdout, v.text())
	return err
}

// text is the report for a person.
func (v *verified) text() string {
	var b strings.Builder
	n := func(count uint64) string { return progress.Thousands(int64(count)) }
	fmt.Fprintf(&b, "%s, instance %s, node %s\n", v.DataDir, v.Instance, v.Node)
	fmt.Fprintf(&b, "  log    LSN %d to %d: %d segments, %s frames, %s operations, %s bytes\n", v.Log.FirstLSN, v.Log.LastLSN,
		v.Log.Segments, n(v.Log.Frames), n(v.Log.Operations), progress.Thousands(v.Log.Bytes))
	if v.Log.TornTail != "" {
		fmt.Fprintf(&b, "         %s; nobody was told of it, and the next start cuts it\n", v.Log.TornTail)
	}
	fmt.Fprintf(&b, "  state  LSN %d, digest %s: %s keys, %s tenants, %s tables, %s rows, %s index entries, %s references\n", v.State.LSN, v.State.Digest,
		n(v.State.Keys), n(v.State.Tenants), n(v.State.Tables), n(v.State.Rows), n(v.State.IndexEntries), n(v.State.References))
	if v.State.Behind > 0 {
		fmt.Fprintf(&b, "         %s frames behind the log; the next start applies them, and what they make of it was not checked\n", n(v.State.Behind))
	}
	for i := range v.Faults {
		b.WriteString(line(&v.Faults[i]))
	}
	switch unlisted := v.FoundFaults - uint64(len(v.Faults)); {
	case v.OK:
		b.WriteString("OK: no fault found\n")
	case v.FoundFaults == 0 && v.Error == "":
		b.WriteString("NOT COMPLETE: no fault found in what could be verified\n")
	case unlisted > 0:
		fmt.Fprintf(&b, "and %s faults more\n", n(unlisted))
	}
	return b.String()
}

// line is one fault.
func line(f *verification.Fault) string {
	var b strings.Builder
	b.WriteString("FAULT " + f.Check)
	for _, part := range []struct{ name, text string }{{"tenant", f.Tenant}, {"table", f.Table}, {"index", f.Index}, {"key", f.Key}} {
		if part.text != "" {
			b.WriteString(", " + part.name + " " + part.text)
		}
	}
	fmt.Fprintf(&b, "\n  %s\n  do: %s\n", f.Problem, f.Do)
	return b.String()
}
