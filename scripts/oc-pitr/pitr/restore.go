package pitr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"originchain/shared/lsn"
	"originchain/shared/progress"
	"originchain/shared/restore"
	"originchain/shared/telemetry"
)

const restoreLong = `Restore an instance's state, from its archive into a fresh data directory.

The newest checkpoint at or before the target is fetched, and the log behind it is
replayed up to the exact frame. If its files are damaged or missing the restore fails and
names the checkpoints that are left; --checkpoint begins at one of them. The directory appears under its name when every key of
the restored state was read back and their digest is the one that the frame carries.

With --target all commits stamped at or before that moment are restored, and none
later. Stopped or killed, the same command goes on where it was; what is unfinished is
in DIR.restoring.

What becomes of the copy:
  opened without --archive and --control it is a new instance, with an id of its own
  opened with either it is read-only, until oc-pitr accept makes it the instance's
  history and ends the epoch that is live
  --accept does that at once. The epoch that ends is named with --ends-epoch, and its
  writer is stopped before: the archive cannot say whether that was done, because a
  writer that is idle ships nothing. It need not be named where the record of who
  writes (--control) is released, or stands unchanged for as long as a lease lasts,
  and is not behind the archive. What is refused is refused before anything is fetched
  --pause-at-target keeps it read-only wherever it is opened, until oc-pitr accept`

// targetFlags are the options that say what to restore.
type targetFlags struct {
	time   string
	lsn    uint64
	latest bool
	epoch  uint64
	clock  string
	// checkpoint is a number, or "" for the newest that leads to the target.
	checkpoint string
}

func (t *targetFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.time, "target", "", "the moment, such as 2026-03-01T12:00:00Z (RFC 3339)")
	f.Uint64Var(&t.lsn, "target-lsn", 0, "the frame")
	f.BoolVar(&t.latest, "latest", false, "the newest point that the archive holds")
	f.Uint64Var(&t.epoch, "epoch", 0, "the line of this epoch (default: of the highest)")
	f.StringVar(&t.checkpoint, "checkpoint", "", "begin the replay at the checkpoint of this LSN, 0 for the beginning of the log (default: the newest checkpoint that leads to the target)")
	f.StringVar(&t.clock, "clock", "", "what --target means where the writer's clock was stepped: stamp or wall")
}

func (t *targetFlags) into(r *restore.Request) error {
	given := 0
	for _, is := range []bool{t.time != "", t.lsn > 0, t.latest} {
		if is {
			given++
		}
	}
	if given != 1 {
		return usage(errors.New("give one of --target, --target-lsn and --latest"))
	}
	if t.time != "" {
		at, err := time.Parse(time.RFC3339Nano, t.time)
		if err != nil {
			return usage(fmt.Errorf("--target %q: give a moment with its zone, such as 2026-03-01T12:00:00Z or 2026-03-01T13:00:00.5+01:00", t.time))
		}
		r.Time = at
	}
	switch c := restore.Clock(t.clock); c {
	case restore.Unset, restore.Stamp, restore.Wall:
		if c != restore.Unset && t.time == "" {
			return usage(errors.New("--clock goes with --target"))
		}
		r.Clock = c
	default:
		return usage(fmt.Errorf("--clock %q: give stamp or wall", t.clock))
	}
	if t.checkpoint != "" {
		at, err := strconv.ParseUint(t.checkpoint, 10, 64)
		if err != nil {
			return usage(fmt.Errorf("--checkpoint %q: give the LSN of a checkpoint that oc-pitr list shows, or 0", t.checkpoint))
		}
		r.Checkpoint = new(lsn.LSN)
		*r.Checkpoint = lsn.LSN(at)
	}
	r.LSN, r.Latest, r.Epoch = lsn.LSN(t.lsn), t.latest, lsn.Epoch(t.epoch)
	return nil
}

// restoreFlags are the options of restore alone.
type restoreFlags struct {
	target             targetFlags
	node, control, url string
	dryRun, pause      bool
	accept, mismatch   bool
	ends               uint64
}

func (c *command) restoreCommand() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use: "restore --archive URL --data-dir DIR (--target TIME | --target-lsn N | --latest)", Short: "Restore into a fresh data directory", Long: restoreLong,
		Example: "  " + name + " restore --archive file:///var/lib/originchain/archive --data-dir /var/lib/restored --target 2026-03-01T12:00:00Z\n" +
			"  " + name + " restore --archive s3://bucket/prefix --data-dir D --latest --dry-run",
		DisableFlagsInUseLine: true,
		RunE:                  func(cmd *cobra.Command, _ []string) error { return c.restore(cmd.Context(), &f) },
	}
	f.target.register(cmd)
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show what would be restored, how far it reaches, and about how long it takes; leave nothing behind")
	cmd.Flags().BoolVar(&f.pause, "pause-at-target", false, "leave a directory that is read-only until it is accepted")
	cmd.Flags().BoolVar(&f.accept, "accept", false, "make the copy the history of its instance")
	cmd.Flags().Uint64Var(&f.ends, "ends-epoch", 0, "with --accept: the epoch that ends, whose writer was stopped; needed unless --control says so")
	cmd.Flags().BoolVar(&f.mismatch, "accept-digest-mismatch", false, "take a state whose digest is wrong; the result says so")
	cmd.Flags().StringVar(&f.node, "node-id", "", "the restored node's id (default: a new one)")
	cmd.Flags().StringVar(&f.control, "control", "", "with --accept: the record of who writes, such as file:///var/lib/originchain/control")
	cmd.Flags().StringVar(&f.url, "advertise", "", "with --control: where clients will reach the node")
	return cmd
}

func (c *command) restore(ctx context.Context, f *restoreFlags) error {
	c.env()
	req, err := c.request()
	if err != nil {
		return err
	}
	if err := f.target.into(&req); err != nil {
		return err
	}
	switch {
	case c.dataDir == "" && !f.dryRun:
		return usage(errors.New("--data-dir: name a directory that does not exist yet"))
	case f.accept && f.pause:
		return usage(errors.New("--accept and --pause-at-target exclude each other"))
	case (f.control != "") != (f.url != ""):
		return usage(errors.New("--control and --advertise go together: the record says where clients reach the node"))
	case f.control != "" && !f.accept:
		return usage(errors.New("--control goes with --accept"))
	case f.ends > 0 && !f.accept:
		return usage(errors.New("--ends-epoch goes with --accept"))
	}
	if err := c.nameTarget(); err != nil {
		return err
	}
	store, err := c.open(ctx)
	if err != nil {
		return err
	}
	control, err := openControl(ctx, c.FS, f.control)
	if err != nil {
		return err
	}
	display := progress.New(c.Stderr)
	o := restore.Options{
		Store: store, Request: req, FS: c.FS, DataDir: c.dataDir, NodeID: f.node, Pause: f.pause, AcceptMismatch: f.mismatch, Begin: begin(display),
		Planned: func(p *restore.Plan) {
			display.Note("%s", planLine(p))
			for _, unread := range p.Unread() {
				display.Note("the restore will do without: %s", telemetry.Redact(unread))
			}
		},
	}
	if f.accept {
		o.ThenAccept(restore.Acceptance{Control: control, Ends: lsn.Epoch(f.ends), URL: f.url, Region: c.region, AllowCrossRegion: c.crossRegion})
	}
	if f.dryRun {
		defer display.Close()
		return c.dryRun(ctx, store, req, o.Admit)
	}
	got, err := restore.Run(ctx, o)
	display.Close()
	if err != nil {
		return err
	}
	for _, unread := range got.Unread {
		_, _ = fmt.Fprintf(c.Stderr, "%s: WARNING: the restore has done without a part of the archive that cannot be read or reached: %s\n", name, telemetry.Redact(unread))
	}
	if got.Mismatch != nil {
		_, _ = fmt.Fprintf(c.Stderr, "%s: WARNING: a digest was not what the log says it was (want %s, got %s), and was accepted; restored.json in the directory says so\n", name, got.Mismatch.Want, got.Mismatch.Got)
	}
	return c.print(got, func(w io.Writer) { resultText(w, got) })
}

// nameTarget gives "." and ".." the names that they have where they are, and a link that
// of where it leads: that is where the restore works, beside its target.
func (c *command) nameTarget() (err error) {
	if c.dataDir == "" {
		return nil
	}
	path := filepath.Clean(c.dataDir)
	if base := filepath.Base(path); base == "." || base == ".." {
		if path, err = filepath.Abs(path); err != nil {
			return fmt.Errorf("--data-dir: %w", err)
		}
		c.dataDir = path
	}
	if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSymlink == 0 {
		return nil //nolint:nilerr // what is wrong with it is told where it is used
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return usage(fmt.Errorf("--data-dir %s is a link that leads nowhere: make the directory that it leads to, or name another one: %w", c.dataDir, err))
	}
	c.dataDir = path
	return nil
}
