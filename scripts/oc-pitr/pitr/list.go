package pitr

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/restore"
)

const listLong = `List what an archive can be restored to: per line of its history the windows of frames
and times, checkpoints, the tail, and gaps.

A line is the history of an epoch and of those it descends from. A restore takes the
newest; the others are what a failover or an accepted copy has left behind.`

func (c *command) listCommand() *cobra.Command {
	var epoch uint64
	cmd := &cobra.Command{
		Use: "list --archive URL", Short: "List recovery points and gaps", Long: listLong,
		Example:               "  " + name + " list --archive file:///var/lib/originchain/archive --json",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.env()
			return c.list(cmd.Context(), lsn.Epoch(epoch))
		},
	}
	cmd.Flags().Uint64Var(&epoch, "epoch", 0, "only the line of this epoch")
	return cmd
}

func (c *command) list(ctx context.Context, epoch lsn.Epoch) error {
	req, err := c.request()
	if err != nil {
		return err
	}
	req.Epoch = epoch
	store, err := c.open(ctx)
	if err != nil {
		return err
	}
	l, err := restore.List(ctx, store, req)
	if err != nil {
		return err
	}
	return c.print(l, func(w io.Writer) { listText(w, l) })
}

// planned is the document of a dry run.
type planned struct {
	*restore.Plan
	DryRun   bool              `json:"dry_run"`
	Bytes    int64             `json:"bytes"`
	Estimate *restore.Estimate `json:"estimate"`
}

func (c *command) dryRun(ctx context.Context, store object.Store, req restore.Request, admit func(context.Context, *restore.Plan) error) error {
	begun := time.Now()
	p, err := restore.MakePlan(ctx, store, req)
	if err != nil {
		return err
	}
	if admit != nil {
		if err := admit(ctx, p); err != nil {
			return err
		}
	}
	e, err := restore.Probe(ctx, store, p, restore.ProbeOptions{FS: c.FS, DataDir: c.dataDir, Planned: time.Since(begun)})
	if err != nil {
		return err
	}
	return c.print(planned{p, true, p.Bytes(), e}, func(w io.Writer) { planText(w, p, e) })
}
