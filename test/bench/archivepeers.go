package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"originchain/test/bench/litestream"
	"originchain/test/bench/postgres"
)

// peer is another system that restores the same rows.
type peer struct {
	name string
	run  func(context.Context, corpus) error
}

// restorePeers has the peers restore the same rows.
func (b *bench) restorePeers(ctx context.Context, c corpus) error {
	return b.askPeers(ctx, c, []peer{{"restore-litestream", b.restoreLitestream}, {"restore-pgbackrest", b.restoreBackrest}})
}

// askPeers reports one that is not here as that, and so one that fails: neither is left
// out in silence, and neither stops the others.
func (b *bench) askPeers(ctx context.Context, c corpus, peers []peer) error {
	for _, peer := range peers {
		if err := b.probe(); err != nil {
			return err
		}
		err := peer.run(ctx, c)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, litestream.ErrNotHere), errors.Is(err, postgres.ErrNotHere):
			b.add(figure{Name: peer.name, Unit: "s", Target: "-", What: "not here", Verdict: absent, Note: err.Error()})
		case err != nil:
			b.add(figure{Name: peer.name, What: "could not be measured", Verdict: failed, Note: err.Error()})
		}
	}
	return nil
}

func (b *bench) restoreLitestream(ctx context.Context, c corpus) (err error) {
	dir := filepath.Join(b.work, "litestream")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := b.litestream
	if program == "" {
		if program, err = litestream.Install(ctx, dir); err != nil {
			return err
		}
	}
	d, err := litestream.Open(ctx, program, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Insert(ctx, c.rows().row); err != nil {
		return err
	}
	if err := d.Insert(ctx, c.changes().row); err != nil {
		return err
	}
	if err := d.Replicate(ctx, true); err != nil {
		return err
	}
	if err := d.Insert(ctx, c.more().row); err != nil {
		return err
	}
	if err := d.Replicate(ctx, false); err != nil {
		return err
	}
	unix.Sync()
	if err := forgetPeak(); err != nil {
		return err
	}
	r, err := d.Restore(ctx, c.base+c.log)
	if err != nil {
		return err
	}
	b.add(figure{
		Name: "restore-litestream", Unit: "s", AtMost: true, Target: "-", Measured: r.Took.Seconds(),
		What: "the same rows in SQLite by Litestream " + litestream.Version + ": a snapshot and the changes behind it, from a folder, not checked",
		Note: fmt.Sprintf("%.0f MiB resident", float64(r.RSS)/(1<<20)),
	})
	return nil
}

func (b *bench) restoreBackrest(ctx context.Context, c corpus) (err error) {
	peer, err := postgres.Start(ctx, b.work)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.Stop()) }()
	a, err := peer.ArchiveWith(ctx)
	if err != nil {
		return err
	}
	next := func(r *documentReader) func() (postgres.Document, bool) {
		return func() (d postgres.Document, ok bool) {
			d.ID, d.Text, ok = r.row()
			return d, ok
		}
	}
	if err := a.Insert(ctx, false, next(c.rows())); err != nil {
		return err
	}
	if err := a.Insert(ctx, true, next(c.changes())); err != nil {
		return err
	}
	if err := a.Backup(ctx); err != nil {
		return err
	}
	if err := a.Insert(ctx, false, next(c.more())); err != nil {
		return err
	}
	if err := a.Settle(ctx); err != nil {
		return err
	}
	unix.Sync()
	r, err := a.Restore(ctx, c.base+c.log)
	if err != nil {
		return err
	}
	b.add(figure{
		Name: "restore-pgbackrest", Unit: "s", AtMost: true, Target: "-", Measured: (r.Fetch + r.Recover).Seconds(),
		What: fmt.Sprintf("the same rows in PostgreSQL %s by pgBackRest %s (lz4, 2 processes): a full backup and the log behind it, from a folder, until it takes writes", peer.Version, a.Version),
		Note: fmt.Sprintf("pgBackRest %.2f s, recovery %.2f s", r.Fetch.Seconds(), r.Recover.Seconds()),
	})
	return nil
}
