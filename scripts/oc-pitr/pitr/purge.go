package pitr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"originchain/shared/progress"
	"originchain/shared/purge"
	"originchain/shared/telemetry"
)

const purgeLong = `Remove a data subject's rows from an archive: from the log and the tail of every line
of its history, and from every checkpoint, with all versions of the objects that held
them. Rows are selected by primary key, or by a value that they ever had in an indexed
column; their index entries and the stored answers to requests for them go with them.
A key of several columns is a JSON array in the order of the primary key, as answers give
it: --pk '["eu",4711]'. A key of one column is as in the path of a row, without quotes.

It takes two steps. --dry-run reads the whole archive, changes nothing, and prints what
would be done and the id of the plan. --confirm ID does it, if the archive is still as it
was, and writes a record into the archive and a line into the audit log. A purge that was
stopped is gone on with by the same command.

First: delete the rows through the writer, without an Idempotency-Key; wait 24 hours, so
that stored answers which tell of them expire; wait until oc-pitr list shows the deletion
in the archive; then stop every node. Afterwards every node is to be built anew, since
its log, its state and its divergent files hold the rows: restore the latest point into
a new directory, accept it, start it as the writer, remove the old directories, and start
the followers with empty ones. The runbook has the steps. A row of another table that
speaks of the subject is purged by a command of its own.

--find PATH looks instead for the rows in a node's files: segments of the log, divergent
files, or a data directory, which stands for those in it. It prints the frames that tell
of the rows, changes nothing, and ends with code 83 if there are any. A state is not
looked into, since its files keep deleted values: destroy it. After the purge --find needs
--pk: what a --where selects has gone from the archive.

Points in time at which the rows were there stay restorable, without them. A copy of one
can become an instance of its own, and not its instance's history.`

// purgeFlags are the options of purge.
type purgeFlags struct {
	tenant, schema, pk, where     string
	confirm, actor, reason, audit string
	find                          []string
	dryRun                        bool
}

func (c *command) purgeCommand() *cobra.Command {
	var f purgeFlags
	cmd := &cobra.Command{
		Use: "purge --archive URL --tenant T --schema NAMESPACE.TABLE (--pk KEY | --where COLUMN=VALUE) (--dry-run | --confirm ID | --find PATH…)", Short: "Remove a data subject's rows from an archive", Long: purgeLong,
		Example: "  " + name + " purge --archive file:///var/lib/originchain/archive --tenant 01JADE0000000000000000000A --schema shop.customers --pk 4711 --dry-run\n" +
			"  " + name + " purge … --confirm 0f3a… --actor jane --audit-log /var/log/originchain/purges.log",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.env()
			return c.purge(cmd.Context(), &f, cmd.Flags().Changed("pk"))
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.tenant, "tenant", "", "the tenant's id")
	fl.StringVar(&f.schema, "schema", "", "the table, as namespace.table")
	fl.StringVar(&f.pk, "pk", "", "the primary key, as in the path of a row; of several columns a JSON array, such as '[\"eu\",4711]'")
	fl.StringVar(&f.where, "where", "", "COLUMN=VALUE instead, of a column that an index begins with")
	fl.BoolVar(&f.dryRun, "dry-run", false, "print the plan and its id, and change nothing")
	fl.StringVar(&f.confirm, "confirm", "", "the id of the plan to carry out")
	fl.StringArrayVar(&f.find, "find", nil, "look for the rows in this log file, divergent file or data directory of a node; may be given again")
	fl.StringVar(&f.actor, "actor", "", "with --confirm: who purges, for the record")
	fl.StringVar(&f.reason, "reason", "", "with --confirm: why, for the record; put no personal data in it")
	fl.StringVar(&f.audit, "audit-log", "", "with --confirm: the file to append the audit record to")
	return cmd
}

// selector reads what is to be purged.
func (f *purgeFlags) selector(hasPK bool) (s purge.Selector, err error) {
	if s.Tenant, err = ulid.ParseStrict(f.tenant); err != nil {
		return s, fmt.Errorf("--tenant %q is not a ULID: %w", f.tenant, err)
	}
	if !strings.Contains(f.schema, ".") {
		return s, fmt.Errorf("--schema %q: it is namespace.table", f.schema)
	}
	s.Schema, s.PK = f.schema, f.pk
	switch {
	case hasPK == (f.where != ""):
		return s, errors.New("give one of --pk and --where")
	case f.where != "":
		column, value, ok := strings.Cut(f.where, "=")
		if !ok || column == "" {
			return s, errors.New("--where: it is COLUMN=VALUE")
		}
		s.Column, s.Value = column, value
	}
	switch {
	case len(f.find) > 0 && (f.dryRun || f.confirm != ""):
		return s, errors.New("--find goes without --dry-run and --confirm")
	case len(f.find) == 0 && f.dryRun == (f.confirm != ""):
		return s, errors.New("give --dry-run, and then --confirm with the id that it prints")
	case f.confirm == "" && (f.actor != "" || f.reason != "" || f.audit != ""):
		return s, errors.New("--actor, --reason and --audit-log go with --confirm")
	case f.confirm != "" && (f.actor == "" || f.audit == ""):
		return s, errors.New("--confirm goes with --actor and --audit-log: a purge is recorded")
	case len(f.actor) > 255 || len(f.reason) > 1000 || !utf8.ValidString(f.actor+f.reason):
		return s, errors.New("--actor has at most 255 bytes of UTF-8, --reason 1000")
	}
	return s, nil
}

func (c *command) purge(ctx context.Context, f *purgeFlags, hasPK bool) (err error) {
	sel, err := f.selector(hasPK)
	if err != nil {
		return usage(err)
	}
	req, err := c.request()
	if err != nil {
		return err
	}
	store, err := c.open(ctx)
	if err != nil {
		return err
	}
	scratch, clean, err := c.scratch(false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clean()) }()
	display := progress.New(c.Stderr)
	defer display.Close()
	o := purge.Options{Store: store, Selector: sel, Instance: req.Instance, FS: c.FS, Scratch: scratch, Actor: f.actor, Reason: f.reason,
		Note: func(format string, args ...any) { display.Note(format, args...) }}
	if len(f.find) > 0 {
		return c.findPurged(ctx, o, f.find)
	}
	if f.dryRun {
		plan, err := purge.MakePlan(ctx, o)
		if err != nil {
			return err
		}
		return c.print(plan, func(w io.Writer) { purgePlanText(w, plan) })
	}
	return c.confirmPurge(ctx, o, f)
}

// errFound is the end of a search that has found something.
var errFound = errors.New("rows of the subject's are in files of a node: build it anew from the purged archive, then destroy its directory")

func (c *command) findPurged(ctx context.Context, o purge.Options, paths []string) error {
	found, err := purge.Find(ctx, o, paths)
	if err != nil {
		return err
	}
	if err := c.print(found, func(w io.Writer) { foundText(w, found) }); err != nil {
		return err
	}
	if found.Any() {
		return &coded{ExitFound, errFound}
	}
	return nil
}

func foundText(w io.Writer, f *purge.Found) {
	for i := range f.Files {
		x := &f.Files[i]
		_, _ = fmt.Fprintf(w, "%s: LSN %d to %d of epoch %d, %d frames tell of the rows", x.Path, x.First, x.Last, x.Epoch, x.Count)
		for j, n := range x.Frames {
			_, _ = fmt.Fprintf(w, "%s %d", map[bool]string{true: ": LSN", false: ","}[j == 0], n)
		}
		if x.Torn {
			_, _ = fmt.Fprint(w, "; it ends in bytes that are no frame, which were not looked into")
		}
		_, _ = fmt.Fprintln(w)
	}
	for _, path := range f.Unread {
		_, _ = fmt.Fprintf(w, "%s: not looked into, its files keep deleted values; destroy it\n", path)
	}
}

// confirmPurge purges between two lines of the audit log: that it was begun, durable
// before anything is done, and how it ended.
func (c *command) confirmPurge(ctx context.Context, o purge.Options, f *purgeFlags) error {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard) // the line in the file is the record
	audit, err := telemetry.OpenAudit(f.audit, quiet)
	if err != nil {
		return err
	}
	who := &telemetry.Request{Actor: f.actor, Tenant: f.tenant}
	object := "purge/" + f.confirm + " of " + f.schema + " in " + o.Store.String()
	if err := audit.Record(who, telemetry.AuditEvent{Action: "archive.purge.begin", Object: object, Outcome: "ok"}); err != nil {
		return errors.Join(err, audit.Close())
	}
	done, err := purge.Run(ctx, o, f.confirm)
	outcome := "ok"
	if err != nil {
		outcome = fmt.Sprintf("exit_%d", exitCode(err))
	} else {
		object += ", record " + done.ID
	}
	if err := errors.Join(err, audit.Record(who, telemetry.AuditEvent{Action: "archive.purge", Object: object, Outcome: outcome}), audit.Close()); err != nil {
		return err
	}
	return c.print(done, func(w io.Writer) { purgedText(w, done) })
}

func purgePlanText(w io.Writer, p *purge.Plan) {
	_, _ = fmt.Fprintf(w, "%s\n", p.Describe())
	for _, r := range p.Ranges {
		_, _ = fmt.Fprintf(w, "  epoch %d: in the state after LSN %d to %d\n", r.Epoch, r.From, r.To)
	}
	for i := range p.Objects {
		x := &p.Objects[i]
		_, _ = fmt.Fprintf(w, "  %s %s: %d frames, %s bytes\n", verb(x.Drop), x.Key, x.Frames, count(uint64(x.Bytes)))
	}
	for i := range p.Checkpoints {
		x := &p.Checkpoints[i]
		_, _ = fmt.Fprintf(w, "  %s %s: %s bytes\n", verb(x.Drop), x.Key, count(uint64(x.Bytes)))
	}
	_, _ = fmt.Fprintf(w, "to be built anew afterwards, with every follower: %s\n", strings.Join(p.Nodes, ", "))
	remainsText(w, &p.Remains)
	if p.Live {
		_, _ = fmt.Fprintf(w, "NOT YET: the newest state has %d of the rows, and %d stored answers that tell of them\n", p.LiveRows, p.LiveAnswers)
		return
	}
	_, _ = fmt.Fprintf(w, "to do this: the same command with --confirm %s --actor WHO --audit-log FILE\n", p.ID)
}

func verb(drop bool) string {
	if drop {
		return "drop   "
	}
	return "rewrite"
}

func purgedText(w io.Writer, r *purge.Result) {
	_, _ = fmt.Fprintf(w, "purged: record %s, %d frames redacted, %d objects rewritten, %d dropped, %d erased with all their versions, %d old versions erased besides\n", r.ID, r.Frames, r.Replaced, r.Dropped, r.Erased, r.Versions)
	_, _ = fmt.Fprintf(w, "NOT DONE YET on the nodes: the log, the state and the divergent files of %s and of every follower hold the rows until each is built anew; see the runbook\n", strings.Join(r.Nodes, ", "))
	remainsText(w, &r.Remains)
}

// remainsText is what is left to be done in each data directory.
func remainsText(w io.Writer, r *purge.Remains) {
	_, _ = fmt.Fprintln(w, "in the data directory of each of them:")
	for _, h := range r.Files {
		_, _ = fmt.Fprintf(w, "  epoch %d, LSN %d to %d: %s\n    %s\n", h.Epoch, h.From, h.To, h.Log, h.Divergent)
	}
	_, _ = fmt.Fprintf(w, "  deleted values in: %s\n", strings.Join(r.States, ", "))
	_, _ = fmt.Fprintln(w, "  frames that the archive never had: any divergent file; look with --find")
}
