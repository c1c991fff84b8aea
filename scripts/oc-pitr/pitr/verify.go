package pitr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"originchain/shared/progress"
	"originchain/shared/restore"
	"originchain/shared/telemetry"
	"originchain/shared/verification"
)

const verifyLong = `Verify that an archive can be restored, by restoring it: into a scratch directory, which
is removed in the end. Then the restored directory is checked as oc-server verify does:
the digest of every key against the one that the writer recorded, every record and row
through the loaders that the server reads them with, indexes, counters, foreign keys.

There is one mode, and it looks at everything: it needs the disk space of the whole
state. Rows, indexes and references can be held against each other only in a state that
is all there, and a sample is never called verified.`

func (c *command) verifyCommand() *cobra.Command {
	var t targetFlags
	var keep bool
	cmd := &cobra.Command{
		Use: "verify --archive URL [--data-dir SCRATCH]", Short: "Verify by a whole restore into scratch", Long: verifyLong,
		Example:               "  " + name + " verify --archive file:///var/lib/originchain/archive --latest --json",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.env()
			return c.verify(cmd.Context(), &t, keep)
		},
	}
	t.register(cmd)
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the restored directory")
	return cmd
}

// verified is the document of verify. OK says that all of it was restored, looked at,
// and is as it must be.
type verified struct {
	OK       bool                 `json:"ok"`
	Restore  *restore.Result      `json:"restore"`
	Contents *verification.Report `json:"contents"`
	Error    string               `json:"error,omitempty"`
}

func (c *command) verify(ctx context.Context, t *targetFlags, keep bool) (err error) {
	req, err := c.request()
	if err != nil {
		return err
	}
	if t.time == "" && t.lsn == 0 {
		t.latest = true
	}
	if err := t.into(&req); err != nil {
		return err
	}
	store, err := c.open(ctx)
	if err != nil {
		return err
	}
	scratch, clean, err := c.scratch(keep)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clean()) }()
	display := progress.New(c.Stderr)
	var v verified
	v.Restore, err = restore.Run(ctx, restore.Options{
		Store: store, Request: req, FS: c.FS, DataDir: scratch, Begin: begin(display),
		Planned: func(p *restore.Plan) { display.Note("%s", planLine(p)) },
	})
	if err == nil {
		v.Contents, err = verification.Run(ctx, verification.Options{FS: c.FS, DataDir: scratch, Begin: begin(display)})
	}
	display.Close()
	if v.Restore == nil {
		return err
	}
	v.OK = err == nil && v.Restore.Verified && v.Contents.OK
	if err != nil {
		v.Error = telemetry.Redact(err.Error())
	}
	if printErr := c.print(v, func(w io.Writer) { verifiedText(w, &v) }); printErr != nil || err != nil {
		return errors.Join(err, printErr)
	}
	if !v.OK {
		return &coded{ExitFaults, fmt.Errorf("%d faults in what was restored from %s", v.Contents.FoundFaults, store)}
	}
	return nil
}

// scratch is where to restore to, and what removes it.
func (c *command) scratch(keep bool) (path string, clean func() error, err error) {
	if path = c.dataDir; path != "" {
		if names, err := c.FS.List(path); err == nil && len(names) > 0 {
			return "", nil, &restore.NotEmptyError{Path: path, Holds: names[0]}
		}
		if keep {
			return path, func() error { return nil }, nil
		}
		return path, func() error { return ignoreMissing(c.FS.RemoveAll(path)) }, nil
	}
	if keep {
		return "", nil, usage(errors.New("--keep goes with --data-dir"))
	}
	above, err := os.MkdirTemp("", "oc-pitr-verify-")
	if err != nil {
		return "", nil, fmt.Errorf("make a scratch directory: %w; or name one with --data-dir", err)
	}
	return c.FS.PathJoin(above, "data"), func() error { return os.RemoveAll(above) }, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func verifiedText(w io.Writer, v *verified) {
	resultLine := fmt.Sprintf("restored to LSN %d of epoch %d, %s, digest %s", v.Restore.LSN, v.Restore.Epoch, moment(v.Restore.Timestamp), v.Restore.Digest)
	_, _ = fmt.Fprintln(w, resultLine)
	if r := v.Contents; r != nil {
		s := &r.State
		_, _ = fmt.Fprintf(w, "  %s keys, %s tenants, %s tables, %s rows, %s index entries, %s references\n",
			count(s.Keys), count(s.Tenants), count(s.Tables), count(s.Rows), count(s.IndexEntries), count(s.References))
		for i := range r.Faults {
			f := &r.Faults[i]
			_, _ = fmt.Fprintf(w, "  FAULT %s %s %s: %s; %s\n", f.Check, f.Table, f.Index, f.Problem, f.Do)
		}
	}
	if v.OK {
		_, _ = fmt.Fprintln(w, "OK: everything was restored, read and compared")
	}
}
