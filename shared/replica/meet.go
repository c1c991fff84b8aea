package replica

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"originchain/shared/lsn"
	pb "originchain/shared/replica/replicapb"
	"originchain/shared/wal"
)

// meeting is how a follower's history meets the leader's.
type meeting struct {
	welcome *pb.Welcome
	from    lsn.LSN // TAIL: the first frame to send
}

// meet decides from the end of the follower's log how it gets to this one.
func (s *Server) meet(hello *pb.Hello) (*meeting, error) {
	w := &pb.Welcome{
		Instance: s.cfg.Instance[:], Node: s.cfg.Node, Url: s.cfg.URL, Epoch: uint64(s.cfg.Epoch),
		OldestLsn: uint64(s.deps.WAL.FirstLSN()),
	}
	m := &meeting{welcome: w}
	last := lsn.Pos{Epoch: lsn.Epoch(hello.GetLastEpoch()), LSN: lsn.LSN(hello.GetLastLsn())}
	oldest, durable := s.deps.WAL.FirstLSN(), s.deps.WAL.Durable()
	same, err := s.sameHistory(last, hello.GetChain(), oldest, durable)
	switch {
	case err != nil:
		return nil, err
	case same:
		w.Way, m.from = pb.Welcome_TAIL, last.LSN+1
		if len(hello.GetLine()) == 0 && last.LSN > 0 {
			m.from, err = s.segmentOf(last.LSN + 1)
		}
		return m, err
	case len(hello.GetLine()) == 0:
		w.Way = pb.Welcome_BOOTSTRAP
		return m, nil
	case last.LSN+1 < oldest:
		w.Way = pb.Welcome_BOOTSTRAP
		// One epoch has one history: a log that ends in the epoch that ours begins
		// in is a beginning of it. Of any other nothing is known.
		if line := s.deps.WAL.Epochs(); len(line) > 0 && line[0].Epoch == last.Epoch {
			w.ForkLsn = uint64(last.LSN)
		}
		return m, nil
	}
	return m, s.fork(m, hello, last, oldest, durable)
}

// sameHistory says whether the follower's log is the beginning of this one, and
// goes on within what this one still has.
func (s *Server) sameHistory(last lsn.Pos, chain []byte, oldest, durable lsn.LSN) (bool, error) {
	if last.LSN > durable || last.LSN+1 < oldest {
		return false, nil
	}
	own, _, err := s.chainAt(last.LSN)
	if err != nil {
		return false, err
	}
	return string(own) == string(chain), nil
}

// chainAt is the chain value of a frame that the log has, or of the one before
// its first; empty before the first frame of all.
func (s *Server) chainAt(n lsn.LSN) ([]byte, lsn.Epoch, error) {
	if n == 0 {
		return nil, 0, nil
	}
	chain, epoch, err := s.deps.WAL.ChainAt(n)
	if errors.Is(err, wal.ErrRemoved) {
		return nil, 0, status.Error(codes.Aborted, "the log was trimmed meanwhile: say Hello again")
	} else if err != nil {
		return nil, 0, status.Error(codes.Internal, fmt.Sprintf("read the log at LSN %d: %v", n, err))
	}
	return chain[:], epoch, nil
}

// fork names the last frame that both histories can have: that of the newest
// epoch which both have, where the first of the two leaves it. One epoch has one
// history. Below the oldest frame here nothing is known; the follower, who has
// the chain to compare, takes a checkpoint then.
func (s *Server) fork(m *meeting, hello *pb.Hello, last lsn.Pos, oldest, durable lsn.LSN) error {
	at := oldest - 1
	theirs := hello.GetLine()
	end := last.LSN
	ours := s.deps.WAL.Epochs()
search:
	for i := len(theirs) - 1; i >= 0; i-- {
		for j := range ours {
			if uint64(ours[j].Epoch) == theirs[i].GetEpoch() {
				at = max(at, min(end, endOf(ours, j, durable)))
				break search
			}
		}
		if first := lsn.LSN(theirs[i].GetFirstLsn()); first > 0 {
			end = first - 1
		}
	}
	chain, _, err := s.chainAt(at)
	if err != nil {
		return err
	}
	m.welcome.Way, m.welcome.ForkLsn, m.welcome.ForkChain = pb.Welcome_FORK, uint64(at), chain
	return nil
}

// endOf is the last frame of the epoch at i of a line that ends at last.
func endOf(line []wal.EpochStart, i int, last lsn.LSN) lsn.LSN {
	if i+1 < len(line) {
		return line[i+1].First - 1
	}
	return last
}

// segmentOf is the first LSN of the segment that holds, or will hold, LSN at.
func (s *Server) segmentOf(at lsn.LSN) (lsn.LSN, error) {
	segments := s.deps.WAL.Segments()
	for i := len(segments) - 1; i >= 0; i-- {
		if segments[i].First <= at {
			return segments[i].First, nil
		}
	}
	return 0, status.Errorf(codes.Aborted, "the log no longer holds LSN %d: say Hello again", at)
}
