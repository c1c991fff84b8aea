package replica

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/sirupsen/logrus"

	"originchain/shared/lsn"
	pb "originchain/shared/replica/replicapb"
)

// TestStaleLeaderSaysSo: the leader stops as soon as it hears of a higher epoch,
// and still the follower is told that this is what was wrong.
func TestStaleLeaderSaysSo(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	for range 20 {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var s *Server
		s = NewServer(ServerConfig{Node: "leader", Epoch: 2}, ServerDeps{
			Log: log, Hub: NewHub(HubConfig{}, HubDeps{Log: log}, 0), Fenced: func(lsn.Epoch) { s.Stop() },
		})
		served := make(chan error, 1)
		go func() { served <- s.Serve(listener, nil) }()
		conn, err := Dial(listener.Addr().String(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Open(context.Background(), &pb.Hello{Node: "f", AcceptedEpoch: 3}); !errors.Is(err, ErrStaleLeader) {
			t.Errorf("a leader of epoch 2 answers one that has accepted 3: %v", err)
		}
		if err := errors.Join(conn.Close(), <-served); err != nil {
			t.Error(err)
		}
	}
}
