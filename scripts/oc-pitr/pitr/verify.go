package pitr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"originchain/shared/progress"
	"originchain/shared/restore"
	"originchain/shared/telemetry"
	"originchain/shared/verification"
)

const verifyLong = `Verify that an archive can be restored. Both modes look at everything: the digest of
every key against the one that the writer recorded, every object of the checkpoint, every
frame up to the target, every record and row through the loaders that the server reads
them with, indexes, counters, foreign keys. A sample is never called verified.

  full       restore into a scratch directory, which is removed in the end, and check it
             as oc-server verify does; needs the disk space of the whole state
  streaming  read the checkpoint where it is, three times from its beginning to its end,
             and keep only what the log behind it has changed in the scratch directory,
             up to --scratch-bytes; where that is too little nothing is verified, and
             the exit code is 52

With --record how it ended is kept in the registry that the age of the last verification
is counted from. It is looked at before anything is verified; a verification that is not
green, or could not be recorded, leaves that age growing.`

// mode is how an archive is verified.
type mode string

const (
	modeFull      mode = "full"
	modeStreaming mode = "streaming"
)

// verifyFlags are the options of verify.
type verifyFlags struct {
	target  targetFlags
	mode    string
	scratch int64
	keep    bool
	// record is the registry that keeps how it ended; "" is none.
	record string
}

func (f *verifyFlags) check() error {
	if t := &f.target; f.record != "" && (t.time != "" || t.lsn != 0 || t.epoch != 0 || t.checkpoint != "" || t.clock != "") {
		return usage(errors.New("--record goes with --latest: what is recorded as verified is the newest point, by the checkpoint that a restore would take"))
	}
	switch mode(f.mode) {
	case modeFull:
		if f.scratch != 0 {
			return usage(errors.New("--scratch-bytes goes with --mode streaming: a full verification needs the space of the whole state"))
		}
	case modeStreaming:
		if f.keep {
			return usage(errors.New("--keep goes with --mode full: streaming makes no directory that could be kept"))
		}
		if f.scratch < 0 {
			return usage(fmt.Errorf("--scratch-bytes %d: give a number of bytes", f.scratch))
		}
	default:
		return usage(fmt.Errorf("--mode %q: give full or streaming", f.mode))
	}
	return nil
}

func (c *command) verifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use: "verify --archive URL [--data-dir SCRATCH]", Short: "Verify that an archive can be restored, by looking at all of it", Long: verifyLong,
		Example: "  " + name + " verify --archive file:///var/lib/originchain/archive --latest --json\n" +
			"  " + name + " verify --archive s3://bucket/prefix --mode streaming",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.env()
			if err := f.check(); err != nil {
				return err
			}
			if f.record != "" {
				return c.verifyAndRecord(cmd.Context(), &f)
			}
			return c.verify(cmd.Context(), &f, &verified{})
		},
	}
	f.target.register(cmd)
	cmd.Flags().StringVar(&f.mode, "mode", string(modeFull), "full: restore into scratch; streaming: read the checkpoint where it is")
	cmd.Flags().Int64Var(&f.scratch, "scratch-bytes", 0, fmt.Sprintf("with --mode streaming: how much scratch the changes of the log may take (default %d)", int64(restore.DefaultScratchBytes)))
	cmd.Flags().StringVar(&f.record, "record", "", "keep how it ended in this registry, such as dynamodb://originchain-registry/acme?region=eu-central-1; goes with --instance-id")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "leave the restored directory")
	return cmd
}

// verified is the document of verify. OK says that all of it was restored, looked at,
// and is as it must be.
type verified struct {
	OK       bool                 `json:"ok"`
	Mode     mode                 `json:"mode"`
	Restore  *restore.Result      `json:"restore"`
	Contents *verification.Report `json:"contents"`
	// Unread are documents of the archive, such as a checkpoint's manifest, that cannot be
	// read and were done without: what they lead to was not verified.
	Unread []string `json:"unread,omitempty"`
	// Scratch is the most that a streaming verification had on disk.
	Scratch int64  `json:"scratch_bytes,omitempty"`
	Error   string `json:"error,omitempty"`
}

// verify looks at everything, and has in v what it found.
func (c *command) verify(ctx context.Context, f *verifyFlags, v *verified) (err error) {
	req, err := c.request()
	if err != nil {
		return err
	}
	if f.target.time == "" && f.target.lsn == 0 {
		f.target.latest = true
	}
	if err := f.target.into(&req); err != nil {
		return err
	}
	store, err := c.open(ctx)
	if err != nil {
		return err
	}
	scratch, clean, err := c.scratch(f.keep)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clean()) }()
	display := progress.New(c.Stderr)
	v.Mode = mode(f.mode)
	planned := func(p *restore.Plan) {
		v.Unread = p.Unread()
		display.Note("%s", planLine(p))
	}
	if v.Mode == modeStreaming {
		err = v.streaming(ctx, restore.StreamOptions{Store: store, Request: req, FS: c.FS, Scratch: scratch, ScratchBytes: f.scratch, Planned: planned, Begin: begin(display)})
	} else {
		v.Restore, err = restore.Run(ctx, restore.Options{Store: store, Request: req, FS: c.FS, DataDir: scratch, Begin: begin(display), Planned: planned})
		if err == nil {
			v.Contents, err = verification.Run(ctx, verification.Options{FS: c.FS, DataDir: scratch, Begin: begin(display)})
		}
	}
	display.Close()
	if v.Restore == nil {
		return err
	}
	v.OK = err == nil && v.Restore.Verified && v.Contents.OK && len(v.Unread) == 0
	if err != nil {
		v.Error = telemetry.Redact(err.Error())
	}
	if printErr := c.print(v, func(w io.Writer) { verifiedText(w, v) }); printErr != nil || err != nil {
		return errors.Join(err, printErr)
	}
	switch {
	case !v.OK && v.Contents.FoundFaults == 0:
		return &coded{ExitFaults, fmt.Errorf("%d parts of %s cannot be read or reached, and what they hold or lead to was not verified: each is named above", len(v.Unread), store)}
	case !v.OK:
		return &coded{ExitFaults, fmt.Errorf("%d faults in what was restored from %s", v.Contents.FoundFaults, store)}
	}
	return nil
}

// streaming verifies the state as it is in the archive. What could not be read is no
// fault of the state: nothing is said of that then.
func (v *verified) streaming(ctx context.Context, o restore.StreamOptions) (err error) {
	begun := time.Now()
	s, err := restore.Stream(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	report, err := verification.RunView(ctx, verification.ViewOptions{View: s, At: s.At, Begin: o.Begin})
	if unread := s.Failed(); unread != nil {
		return unread
	}
	v.Contents, v.Restore, v.Scratch = report, s.Result(begun), s.ScratchBytes()
	v.Restore.Keys = report.State.Keys
	v.Restore.Verified = err == nil && report.Complete && !slices.ContainsFunc(report.Faults, func(f verification.Fault) bool { return f.Check == verification.CheckDigest })
	return err
}

func verifiedText(w io.Writer, v *verified) {
	did := "restored to"
	if v.Mode == modeStreaming {
		did = "read as it is in the archive, up to"
	}
	resultLine := fmt.Sprintf("%s LSN %d of epoch %d, %s, digest %s", did, v.Restore.LSN, v.Restore.Epoch, moment(v.Restore.Timestamp), v.Restore.Digest)
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
	for _, f := range v.Unread {
		_, _ = fmt.Fprintf(w, "  FAULT archive: %s\n", f)
	}
	if v.OK {
		_, _ = fmt.Fprintln(w, "OK: everything was "+map[mode]string{modeFull: "restored, ", modeStreaming: ""}[v.Mode]+"read and compared")
	}
}
