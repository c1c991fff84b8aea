package writer

import (
	"strconv"
	"time"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/lsn"
)

// lsnPoll is how often a read looks whether its frame is visible. Frames become
// visible within one fsync; nothing is announced for the few reads that wait.
const lsnPoll = time.Millisecond

// awaitPosition holds a read until this node shows the frame that X-OC-Min-LSN
// names, at most minLSNWait. With X-OC-Min-Epoch the pair must be a place of
// this node's own history.
func (s *service) awaitPosition(c *httpx.Call) error {
	least, epoch, err := minimum(c)
	if err != nil || least == 0 {
		return err
	}
	want := lsn.Pos{Epoch: epoch, LSN: least}
	if s.engine.Visible().LSN >= least || s.node.now().Mode() == RoleWriter {
		if err := s.checkHistory(want); err != nil || s.engine.Visible().LSN >= least {
			return err
		}
	}
	if err := s.awaitVisible(c, least); err != nil {
		return err
	}
	// A follower learns what is at that place with the frames.
	return s.checkHistory(want)
}

// awaitVisible waits until the frame least is visible, bounded.
func (s *service) awaitVisible(c *httpx.Call, least lsn.LSN) error {
	deadline := time.NewTimer(s.minLSNWait)
	defer deadline.Stop()
	poll := time.NewTicker(lsnPoll)
	defer poll.Stop()
	for {
		select {
		case <-poll.C:
			if s.engine.Visible().LSN >= least {
				return nil
			}
		case <-deadline.C:
			return notReached(s.engine.Visible().LSN, least)
		case <-c.Context().Done():
			return c.Context().Err()
		}
	}
}

// behind says that this node does not show yet what X-OC-Min-LSN names: a token
// that it does not know may have been made by then. It does not wait for that:
// whoever has no token must not hold a request open.
func (s *service) behind(c *httpx.Call) error {
	least, _, err := minimum(c)
	if err != nil || s.engine.Visible().LSN >= least {
		return nil
	}
	return notReached(s.engine.Visible().LSN, least)
}

func notReached(applied, least lsn.LSN) error {
	return fault.New(fault.LSNNotReached, "this node shows frames up to LSN %d and the read asks for %d; retry, or read where the write was answered", applied, least).
		With("applied_lsn", uint64(applied)).WithRetry()
}

// minimum reads the two headers; zero means not given.
func minimum(c *httpx.Call) (least lsn.LSN, epoch lsn.Epoch, err error) {
	n, err := number(c, api.HeaderMinLSN)
	if err != nil {
		return 0, 0, err
	}
	e, err := number(c, api.HeaderMinEpoch)
	if err != nil {
		return 0, 0, err
	}
	if e != 0 && n == 0 {
		return 0, 0, fault.New(fault.ValidationFailed, "%s says nothing without %s; send both, as the write's answer gave them", api.HeaderMinEpoch, api.HeaderMinLSN)
	}
	return lsn.LSN(n), lsn.Epoch(e), nil
}

func number(c *httpx.Call, header string) (uint64, error) {
	text := c.RequestHeader(header)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n == 0 {
		return 0, fault.New(fault.ValidationFailed, "the header %s is not a whole number from 1 on", header)
	}
	return n, nil
}

// checkHistory refuses a place that another history has: frames of one writer
// that its successor never had. Frames whose segments are gone are too old to
// be told apart, and every history has them.
func (s *service) checkHistory(want lsn.Pos) error {
	if want.Epoch == 0 {
		return nil
	}
	now := s.engine.Visible()
	// The frame after the log's end at boot is the first of a writer's epoch.
	if want.Epoch == now.Epoch && want.LSN > s.engine.BootLSN() && s.node.now().Mode() == RoleWriter {
		return nil
	}
	segments := s.engine.Log().Segments()
	shared := min(want.LSN-1, now.LSN)
	for i, seg := range segments {
		switch {
		case i == 0 && want.LSN < seg.First && want.Epoch <= seg.Epoch:
			return nil
		case want.Epoch == seg.Epoch && seg.First <= want.LSN && want.LSN <= seg.Last:
			return nil
		case want.Epoch < seg.Epoch:
			shared = min(shared, seg.First-1) // its epoch ends before this one, here
		}
	}
	return fault.New(fault.Conflict, "LSN %d of epoch %d is not in this node's history, which can share frames with it up to LSN %d; "+
		"what was read or written above that did not outlive a failover: read again without %s", want.LSN, want.Epoch, shared, api.HeaderMinLSN).
		With("fork_lsn", uint64(shared)).With("epoch", uint64(now.Epoch))
}

// setCommitted names in a write's answer where it stands, and whether fewer
// followers have it than asked for.
func (s *service) setCommitted(c *httpx.Call, p lsn.Pos) {
	c.SetPosition(p)
	s.markDegraded(c, p.LSN)
}

// markDegraded is told of every commit that is answered.
func (s *service) markDegraded(c *httpx.Call, at lsn.LSN) {
	c.Decided()
	if s.node.now().Degraded(at) {
		c.ResponseHeader().Set(api.HeaderReplication, api.ReplicationDegraded)
	}
}

// readPosition is where a read of the newest state stands, never before what it
// saw. It is asked for after the read, with the version of the row that was
// found, 0 for none: a frame is in the state an instant before it counts as
// visible, so a missing row is placed by the state itself.
func (s *service) readPosition(version lsn.LSN) (lsn.Pos, error) {
	if version == 0 {
		a, err := s.engine.Applied()
		return a.Pos, err
	}
	p := s.engine.Visible()
	p.LSN = max(p.LSN, version)
	return p, nil
}
