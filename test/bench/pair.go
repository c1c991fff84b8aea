package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"originchain/scripts/call"
	"originchain/scripts/child"
	"originchain/shared/api"
)

const (
	followerName = "follower"
	// pairPoll is the pause between two looks at how a node stands.
	pairPoll = 5 * time.Millisecond
	// pairWithin bounds each wait of a pair.
	pairWithin = 2 * time.Minute
)

// pair is a writer and a follower of it.
type pair struct {
	writer, follower *node
	control, stream  string
	args             []string // of the writer, always
}

// servePair starts a writer with a table, and a follower.
func (b *bench) servePair(ctx context.Context, name, manifest string, args ...string) (p *pair, err error) {
	p = &pair{control: filepath.Join(b.work, name+"-control"), args: args}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.stream, err = child.FreeAddress(); err != nil {
		return p, err
	}
	if p.writer, err = b.serve(ctx, name+"-writer", p.writerArgs()...); err != nil {
		return p, err
	}
	if err := p.writer.client.Register(ctx, p.writer.tenant, []byte(manifest)); err != nil {
		return p, err
	}
	w := p.writer
	p.follower = &node{bench: b, dir: filepath.Join(b.work, name+"-follower"), tenant: w.tenant, admin: w.admin}
	p.follower.args = []string{"--mode", "follower", "--node-id", followerName, "--leader-addr", p.stream, "--control", "file://" + p.control,
		"--admin-token-file", filepath.Join(w.dir, "admin.token")}
	return p, p.startFollower(ctx)
}

func (p *pair) writerArgs(more ...string) []string {
	args := append([]string{"--node-id", "writer", "--control", "file://" + p.control, "--replication-listen", p.stream}, p.args...)
	return append(args, more...)
}

// startFollower starts it on its directory, and waits until it serves.
func (p *pair) startFollower(ctx context.Context) error {
	if err := p.follower.start(ctx); err != nil {
		return err
	}
	p.follower.client = &call.Client{URL: p.follower.server.URL(), Token: p.writer.client.Token}
	return nil
}

// restartWriter stops the writer and starts it with further arguments; ready
// says when the two are as they should be.
func (p *pair) restartWriter(ctx context.Context, ready func(*api.Replication) bool, more ...string) error {
	if err := p.writer.stop(); err != nil {
		return err
	}
	p.writer.args = p.writerArgs(more...)
	if err := p.writer.start(ctx); err != nil {
		return err
	}
	return await(ctx, p.writer, ready)
}

func (p *pair) close() error {
	var errs []error
	for _, n := range []*node{p.follower, p.writer} {
		if n != nil {
			errs = append(errs, n.close())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(p.control))...)
}

// replication is how a node stands.
func (n *node) replication(ctx context.Context) (*api.Replication, error) {
	admin := call.Client{URL: n.server.URL(), Token: n.admin}
	var r api.Replication
	return &r, admin.Get(ctx, "/v1/admin/replication", &r)
}

// await looks at a node until it stands as it should.
func await(ctx context.Context, n *node, ready func(*api.Replication) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, pairWithin, fmt.Errorf("not within %s", pairWithin))
	defer cancel()
	tick := time.NewTicker(pairPoll)
	defer tick.Stop()
	for {
		r, err := n.replication(ctx)
		if err == nil && ready(r) {
			return nil
		}
		select {
		case <-tick.C:
		case <-n.server.Exited():
			return fmt.Errorf("the server ended: %s", n.server.Output())
		case <-ctx.Done():
			return fmt.Errorf("wait for a node: %w (last %+v, %w)", context.Cause(ctx), r, err)
		}
	}
}

// attached: the follower has a stream.
func attached(r *api.Replication) bool {
	return slices.ContainsFunc(r.Followers, func(f api.FollowerInfo) bool { return f.Connected && f.DurableLSN == r.DurableLSN })
}

// inSync: acknowledgements wait for it.
func inSync(r *api.Replication) bool { return attached(r) && slices.Contains(r.InSync, followerName) }
