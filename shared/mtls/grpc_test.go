package mtls

import (
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"originchain/shared/replica/replicapb"
)

// greeter answers a bootstrap with the node that asked.
type greeter struct {
	replicapb.UnimplementedReplicationServer
}

func (greeter) Bootstrap(_ *replicapb.BootstrapRequest, stream grpc.ServerStreamingServer[replicapb.BootstrapChunk]) error {
	from, _ := peer.FromContext(stream.Context())
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return status.Error(codes.Unauthenticated, "no TLS")
	}
	node, err := PeerOf(info.State)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	return stream.Send(&replicapb.BootstrapChunk{Kind: &replicapb.BootstrapChunk_Data{Data: &replicapb.BootstrapData{Name: node.Node}}})
}

// TestGRPC: gRPC copies the configurations, sets names and protocols of its own,
// and must still do what they say.
func TestGRPC(t *testing.T) {
	a, other := newAuthority(t, nil), newAuthority(t, nil)
	leader, dir, _ := identity(t, a, a.issue(t, "leader", nil))
	follower, followerDir, _ := identity(t, a, a.issue(t, "follower", nil))
	stranger, _, _ := identity(t, other, other.issue(t, "follower", nil))

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(leader.ServerTLS())))
	replicapb.RegisterReplicationServer(server, greeter{})
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	defer func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	ask := func(creds credentials.TransportCredentials) (string, error) {
		conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(creds))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		stream, err := replicapb.NewReplicationClient(conn).Bootstrap(t.Context(), &replicapb.BootstrapRequest{})
		if err != nil {
			return "", err
		}
		chunk, err := stream.Recv()
		return chunk.GetData().GetName(), err
	}
	creds := credentials.NewTLS(follower.ClientTLS("leader"))
	if name, err := ask(creds); name != "follower" || err != nil {
		t.Fatalf("%q %v", name, err)
	}
	trusting := stranger.ClientTLS()
	trusting.VerifyConnection = nil // only the server can refuse it now
	for name, creds := range map[string]credentials.TransportCredentials{
		"another leader":       credentials.NewTLS(follower.ClientTLS("other")),
		"another authority's":  credentials.NewTLS(stranger.ClientTLS("leader")),
		"another, not looking": credentials.NewTLS(trusting),
	} {
		if got, err := ask(creds); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	// Credentials that were made before the change of authority.
	put(t, dir, other, other.issue(t, "leader", nil))
	leader.watched.Look()
	if got, err := ask(creds); status.Code(err) != codes.Unavailable {
		t.Errorf("the follower trusts an authority it does not have: %q %v", got, err)
	}
	put(t, followerDir, other, other.issue(t, "renamed", nil))
	follower.watched.Look()
	if name, err := ask(creds); name != "renamed" || err != nil {
		t.Errorf("%q %v", name, err)
	}
}
