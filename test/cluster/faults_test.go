package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"originchain/test/netns"
	"originchain/test/settle"
)

// storm is one run of TestFaults: an instance of a writer, a follower that may
// take over and one that never may, under load, while one fault after the other
// happens in an order that the seed decides.
type storm struct {
	*cluster
	r                         *rand.Rand
	writer, follower, replica *node
	takeovers                 int
}

func TestFaults(t *testing.T) {
	for i := range *seedCount {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			runStorm(t, seed)
		})
	}
}

// syncTimeout is short, so that faults of a second make followers leave the
// in-sync set and come back.
const syncTimeout = 400 * time.Millisecond

func runStorm(t *testing.T, seed uint64) {
	c := newCluster(t)
	s := &storm{cluster: c, r: rand.New(rand.NewPCG(seed, 0))}
	s.writer, s.follower = c.node("a", serverBin), c.node("b", serverBin)
	s.replica = c.node("r", followerBin, "--leader-addr", s.writer.replication())
	s.writer.start(s.writer.asWriter()...)
	s.follower.start(s.follower.asFollower()...)
	s.replica.start()
	c.found(s.writer)
	c.inSync("b")
	load := c.begin(seed, 4, 3)
	for _, f := range s.plan() {
		before := load.acked()
		t.Logf("%s  %s", time.Now().Format("15:04:05.000"), f.name)
		if err := f.do(s); err != nil {
			t.Fatalf("seed %d: %s: %v", seed, f.name, err)
		}
		if err := settle.Becomes(t.Context(), func() error {
			if load.acked() == before {
				return errors.New("no write is acknowledged any more")
			}
			return nil
		}); err != nil {
			t.Fatalf("seed %d: after %s: %v", seed, f.name, err)
		}
		if s.r.IntN(2) == 0 { // else the next fault comes on top of what this one left
			c.inSync(s.follower.name)
		}
		settle.Pause(t.Context(), s.between(100, 500))
	}
	c.inSync(s.follower.name)
	load.finish()
	c.settle(load)
}

// The units of the two that may write; a node keeps its address in both roles.
func (n *node) asWriter() []string   { return append(writerArgs(1, syncTimeout), n.serving()...) }
func (n *node) asFollower() []string { return append(n.asWriter(), followerArgs...) }

// between is a time that the seed decides.
func (s *storm) between(lowMS, highMS int) time.Duration {
	return time.Duration(lowMS+s.r.IntN(highMS-lowMS)) * time.Millisecond
}

// fault is one kind of fault: do makes it, and heals it again.
type fault struct {
	name string
	do   func(*storm) error
}

// plan is every kind of fault once, in the seed's order; those that take long are
// in every other plan.
func (s *storm) plan() []fault {
	plan := []fault{
		{"kill the writer", func(s *storm) error { return s.restart(s.writer) }},
		{"kill the follower", func(s *storm) error { return s.restart(s.follower) }},
		{"kill the replica", func(s *storm) error { return s.restart(s.replica) }},
		{"kill all", (*storm).killAll},
		{"freeze the writer", func(s *storm) error { return s.freeze(s.writer) }},
		{"freeze the follower", func(s *storm) error { return s.freeze(s.follower) }},
		{"freeze the replica", func(s *storm) error { return s.freeze(s.replica) }},
		{"the writer does not hear the follower", func(s *storm) error { return s.hinder(100, s.writer, s.follower) }},
		{"the follower does not hear the writer", func(s *storm) error { return s.hinder(100, s.follower, s.writer) }},
		{"the follower is cut off", func(s *storm) error { return s.hinder(100, s.follower, s.writer, s.writer, s.follower) }},
		{"packets get lost", func(s *storm) error { return s.hinder(5+s.r.IntN(25), s.follower, s.writer, s.writer, s.follower) }},
		{"the follower is far away", func(s *storm) error { return s.delay(s.follower) }},
	}
	long := []fault{{"the follower takes over", (*storm).takeOver}, {"the replica's disk is full", (*storm).fill}}
	s.r.Shuffle(len(long), func(i, j int) { long[i], long[j] = long[j], long[i] })
	plan = append(plan, long[:1+s.r.IntN(2)]...)
	s.r.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	return plan
}

// unit is how a node is started in the role that it has now.
func (s *storm) unit(n *node) []string {
	switch n {
	case s.writer:
		return n.asWriter()
	case s.follower:
		return n.asFollower()
	}
	return nil
}

func (s *storm) restart(n *node) error {
	if err := n.end(); err != nil {
		return err
	}
	settle.Pause(s.t.Context(), s.between(1, 800))
	if err := n.launch(s.unit(n)...); err != nil {
		return err
	}
	return n.awaitReady(s.t.Context())
}

// killAll kills every node and starts them in some order, without a wait.
func (s *storm) killAll() error {
	order := slices.Clone(s.nodes)
	s.r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, n := range order {
		if err := n.end(); err != nil {
			return err
		}
		settle.Pause(s.t.Context(), s.between(0, 50))
	}
	s.r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for _, n := range order {
		if err := n.launch(s.unit(n)...); err != nil {
			return err
		}
	}
	for _, n := range order {
		if err := n.awaitReady(s.t.Context()); err != nil {
			return err
		}
	}
	return nil
}

func (s *storm) freeze(n *node) error {
	if err := n.freeze(); err != nil {
		return err
	}
	settle.Pause(s.t.Context(), s.between(1000, 3000))
	return n.thaw()
}

// hinder drops a share of the packets, for pairs of who hears less and of whom, for
// a time and until the fault has hit something.
func (s *storm) hinder(percent int, pairs ...*node) error {
	for i := 0; i < len(pairs); i += 2 {
		if err := pairs[i].Hinder(pairs[i+1].Host, percent); err != nil {
			return err
		}
	}
	settle.Pause(s.t.Context(), s.between(500, 3000))
	err := settle.Becomes(s.t.Context(), func() error {
		hits := 0
		for i := 0; i < len(pairs); i += 2 {
			n, err := pairs[i].Dropped()
			if err != nil {
				return err
			}
			hits += n
		}
		if hits == 0 {
			return errors.New("no packet was dropped")
		}
		return nil
	})
	for i := 0; i < len(pairs); i += 2 {
		err = errors.Join(err, pairs[i].Heal())
	}
	return err
}

// delay makes a node's replication take a detour that is slow.
func (s *storm) delay(n *node) error {
	d, err := newDetour(n.Host, s.writer.Host)
	if err != nil {
		return err
	}
	if err := d.toxic("latency", fmt.Sprintf(`{"latency":%d,"jitter":%d}`, 10+s.r.IntN(150), s.r.IntN(50))); err != nil {
		return err
	}
	settle.Pause(s.t.Context(), s.between(1000, 2500))
	d.pure(context.Background())
	return d.end()
}

// takeOver loses the writer and starts the follower as a writer. If the record
// does not let it, it must not; the old one comes back then. Either way the one
// that has lost follows by itself, with the unit of a writer.
func (s *storm) takeOver() error {
	s.inSync(s.follower.name)
	if err := errors.Join(s.writer.end(), s.follower.end()); err != nil {
		return err
	}
	if !slices.Contains(s.record().InSync, s.follower.name) {
		// It fell behind in the instant between the two. It may not write, which
		// TestAFollowerThatIsNotInSyncDoesNotTakeOver checks.
		return errors.Join(s.writer.launch(s.writer.asWriter()...), s.follower.launch(s.follower.asFollower()...), s.writer.awaitReady(s.t.Context()))
	}
	s.takeovers++
	if err := s.follower.launch(s.follower.asWriter()...); err != nil {
		return err
	}
	if err := s.follower.awaitReady(s.t.Context()); err != nil {
		return err
	}
	s.current.Store(s.follower)
	if err := s.writer.launch(s.writer.asWriter()...); err != nil {
		return err
	}
	if err := s.writer.awaitReady(s.t.Context()); err != nil {
		return err
	}
	s.writer, s.follower = s.follower, s.writer
	return nil
}

// fill fills the replica's disk until the process ends, makes room and starts it.
func (s *storm) fill() error { return fillDisk(s.t, s.replica, s.unit(s.replica)) }

// diskBytes is the size of the disk that is filled.
const diskBytes = "64m"

// fillDisk moves a node to a small disk of its own, which is then full.
func fillDisk(t *testing.T, n *node, unit []string) error {
	if err := n.end(); err != nil {
		return err
	}
	small := n.dir + ".disk"
	data := filepath.Join(small, "data")
	if err := os.Mkdir(small, 0o700); err != nil {
		return err
	}
	if err := netns.Run("", "mount", "-t", "tmpfs", "-o", "size="+diskBytes, "none", small); err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := errors.Join(n.end(), netns.Run("", "umount", small)); err != nil {
			t.Error(err)
		}
	})
	if err := netns.Run("", "cp", "-a", n.dir, data); err != nil {
		return err
	}
	n.dir = data
	if err := n.launch(unit...); err != nil {
		return err
	}
	if err := n.awaitReady(t.Context()); err != nil {
		return err
	}
	ballast, err := os.Create(filepath.Join(small, "ballast"))
	if err != nil {
		return err
	}
	for piece := make([]byte, 64<<10); err == nil; {
		_, err = ballast.Write(piece)
	}
	if err := ballast.Close(); err != nil {
		return err
	}
	timer := time.NewTimer(settle.Within)
	defer timer.Stop()
	select {
	case <-n.server.Exited():
	case <-timer.C:
		return errors.New("the node goes on with a full disk")
	}
	if code := n.server.ExitCode(); code != exitDisk {
		return fmt.Errorf("the node ended with code %d on a full disk, want %d: %s", code, exitDisk, n.server.Output())
	}
	if err := os.Remove(ballast.Name()); err != nil {
		return err
	}
	if err := n.launch(unit...); err != nil {
		return err
	}
	return n.awaitReady(t.Context())
}

// exitDisk is the exit code of a node whose disk is full, as --help says.
const exitDisk = 5
