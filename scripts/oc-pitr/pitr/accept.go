package pitr

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"originchain/shared/datadir"
	"originchain/shared/lease"
	"originchain/shared/lease/leaseopen"
	"originchain/shared/lsn"
	"originchain/shared/restore"
)

const acceptLong = `Make a restored copy the history of its instance.

A restored directory that is opened with its instance's archive or lease store is
read-only until then. Accepting takes an epoch above all others, in the archive and in
the record of who writes, so that the writer before can neither ship nor acknowledge
any more: what it has acknowledged beyond the copy is given up. So the epoch that ends
must be named; without --ends-epoch the command says which it is. It need not be where
the record of who writes (--control) is not behind the archive, and is released or
stands unchanged for as long as a lease lasts: then its writer has stopped.

With --new-instance the copy becomes an instance of its own instead, with a new id.
The server must not have the directory open.`

func (c *command) acceptCommand() *cobra.Command {
	var control, url string
	var ends uint64
	var alone bool
	cmd := &cobra.Command{
		Use: "accept --data-dir DIR (--archive URL | --control URL) --ends-epoch N", Short: "Make a restored copy its instance's history", Long: acceptLong,
		Example:               "  " + name + " accept --data-dir /var/lib/restored --archive file:///var/lib/originchain/archive --ends-epoch 7",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.env()
			return c.accept(cmd.Context(), control, url, lsn.Epoch(ends), alone)
		},
	}
	cmd.Flags().StringVar(&control, "control", "", "the record of who writes, such as file:///var/lib/originchain/control")
	cmd.Flags().StringVar(&url, "advertise", "", "with --control: where clients will reach this node, such as https://a.example.com:7400")
	cmd.Flags().Uint64Var(&ends, "ends-epoch", 0, "the epoch that ends")
	cmd.Flags().BoolVar(&alone, "new-instance", false, "make it an instance of its own")
	return cmd
}

// accepted is the document of accept.
type accepted struct {
	DataDir  string    `json:"data_dir"`
	Instance string    `json:"instance_id"`
	Ends     lsn.Epoch `json:"ends_epoch"`
	Epoch    lsn.Epoch `json:"epoch"`
	Parent   *string   `json:"parent_id,omitempty"`
}

func (c *command) accept(ctx context.Context, controlURL, url string, ends lsn.Epoch, alone bool) error {
	if c.dataDir == "" {
		return usage(errors.New("--data-dir: name the restored directory"))
	}
	if alone {
		if c.archive != "" || controlURL != "" || ends > 0 {
			return usage(errors.New("--new-instance goes without --archive, --control and --ends-epoch"))
		}
		return c.becomeNew()
	}
	if c.archive == "" && controlURL == "" {
		return usage(errors.New("give --archive or --control, so that the writer before is fenced; or --new-instance"))
	}
	if (controlURL != "") != (url != "") {
		return usage(errors.New("--control and --advertise go together: the record says where clients reach the node"))
	}
	o := restore.Acceptance{FS: c.FS, DataDir: c.dataDir, Ends: ends, URL: url, Region: c.region, AllowCrossRegion: c.crossRegion}
	var err error
	if c.archive != "" {
		if o.Archive, err = c.open(ctx); err != nil {
			return err
		}
	}
	if o.Control, err = openControl(ctx, c.FS, controlURL); err != nil {
		return err
	}
	done, err := restore.Accept(ctx, o)
	if err != nil {
		return err
	}
	id, err := c.identity()
	if err != nil {
		return err
	}
	return c.print(accepted{DataDir: c.dataDir, Instance: id.InstanceID.String(), Ends: done.Ends, Epoch: done.Epoch}, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "%s is the history of instance %s from now on: epoch %d has ended, epoch %d was taken. Start the server on it.\n", c.dataDir, id.InstanceID, done.Ends, done.Epoch)
	})
}

func (c *command) becomeNew() (err error) {
	dir, err := datadir.OpenExisting(c.FS, c.dataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if r, err := dir.Undecided(); err != nil {
		return err
	} else if r == nil {
		return fmt.Errorf("%w: %s", restore.ErrNotRestored, c.dataDir)
	}
	if err := dir.BecomeNew(); err != nil {
		return err
	}
	id := dir.Identity()
	parent := id.ParentID.String()
	return c.print(accepted{DataDir: c.dataDir, Instance: id.InstanceID.String(), Parent: &parent}, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "%s is instance %s from now on, made of %s. Start the server on it, with an archive of its own.\n", c.dataDir, id.InstanceID, parent)
	})
}

func (c *command) identity() (id datadir.Identity, err error) {
	dir, err := datadir.OpenExisting(c.FS, c.dataDir)
	if err != nil {
		return id, err
	}
	return dir.Identity(), dir.Close()
}

// openControl opens the record of who writes; nil without a URL.
func openControl(ctx context.Context, fs vfs.FS, raw string) (lease.Store, error) {
	s, err := leaseopen.Open(ctx, fs, raw)
	if err != nil && leaseopen.Check(raw) != nil {
		return nil, usage(fmt.Errorf("--control: %w", err))
	}
	return s, err
}
