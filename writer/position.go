package writer

import (
	"fmt"
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
	want, err := minimum(c)
	if err != nil || want.LSN == 0 {
		return err
	}
	if s.shows(want) || s.node.now().Mode() == RoleWriter {
		if err := s.checkHistory(want); err != nil || s.shows(want) {
			return err
		}
	}
	if err := s.awaitVisible(c, want); err != nil {
		return err
	}
	// A follower learns what is at that place with the frames.
	return s.checkHistory(want)
}

// shows says whether this node is as far as a place, whatever history that is of.
// A follower that shows no frame of its epoch yet is not, whatever LSN it shows:
// nothing of what it has tells where that epoch begins.
func (s *service) shows(want lsn.Pos) bool {
	now := s.engine.Visible()
	return now.LSN >= want.LSN && (now.Epoch >= want.Epoch || s.node.now().Mode() == RoleWriter)
}

// awaitVisible waits until the node is as far as want, bounded.
func (s *service) awaitVisible(c *httpx.Call, want lsn.Pos) error {
	deadline := time.NewTimer(s.minLSNWait)
	defer deadline.Stop()
	poll := time.NewTicker(lsnPoll)
	defer poll.Stop()
	for {
		select {
		case <-poll.C:
			if s.shows(want) {
				return nil
			}
		case <-deadline.C:
			return notReached(s.engine.Visible(), want)
		case <-c.Context().Done():
			return c.Context().Err()
		}
	}
}

// behind says that this node does not show yet what X-OC-Min-LSN names: a token
// that it does not know may have been made by then. It does not wait for that:
// whoever has no token must not hold a request open.
func (s *service) behind(c *httpx.Call) error {
	want, err := minimum(c)
	if err != nil || s.shows(want) {
		return nil
	}
	return notReached(s.engine.Visible(), want)
}

func notReached(now, want lsn.Pos) error {
	asked := strconv.FormatUint(uint64(want.LSN), 10)
	if want.Epoch > now.Epoch {
		asked += fmt.Sprintf(" of epoch %d, of which this node has shown nothing", want.Epoch)
	}
	return fault.New(fault.LSNNotReached, "this node shows frames up to LSN %d and the read asks for %s; retry, or read where the write was answered", now.LSN, asked).
		With("applied_lsn", uint64(now.LSN)).WithRetry()
}

// minimum reads the two headers; zero means not given.
func minimum(c *httpx.Call) (lsn.Pos, error) {
	n, err := number(c, api.HeaderMinLSN)
	if err != nil {
		return lsn.Pos{}, err
	}
	e, err := number(c, api.HeaderMinEpoch)
	if err != nil {
		return lsn.Pos{}, err
	}
	if e != 0 && n == 0 {
		return lsn.Pos{}, fault.New(fault.ValidationFailed, "%s says nothing without %s; send both, as the write's answer gave them", api.HeaderMinEpoch, api.HeaderMinLSN)
	}
	return lsn.Pos{LSN: lsn.LSN(n), Epoch: lsn.Epoch(e)}, nil
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
	if want.Epoch > now.Epoch {
		return fault.New(fault.Conflict, "LSN %d of epoch %d is not in this node's history, which has reached epoch %d: an epoch that has begun since is another writer's; read where that answered", want.LSN, want.Epoch, now.Epoch).
			With("fork_lsn", uint64(shared)).With("epoch", uint64(now.Epoch))
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
	return placeOf(version, s.engine.Visible(), func() (lsn.Pos, error) {
		a, err := s.engine.Applied()
		return a.Pos, err
	})
}

// placeOf is readPosition of what is visible and where the state stands. A row that
// is not visible yet is placed by the state too: it may be of another epoch.
func placeOf(version lsn.LSN, visible lsn.Pos, state func() (lsn.Pos, error)) (lsn.Pos, error) {
	if version == 0 || version > visible.LSN {
		return state()
	}
	return visible, nil
}
