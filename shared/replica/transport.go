package replica

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/oklog/ulid/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	grpcpeer "google.golang.org/grpc/peer"

	"originchain/shared/mtls"
)

// stopWithin is how long Stop waits for streams to say their last word.
const stopWithin = time.Second

// Serve answers followers at l until Stop. Its own identity is shown to them, and
// theirs asked for; nil is plain, which is for loopback.
func (s *Server) Serve(l net.Listener, own *mtls.Identity) error {
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.InitialWindowSize(windowBytes), grpc.InitialConnWindowSize(windowBytes),
		// What a handler uses is closed behind Serve.
		grpc.WaitForHandlers(true),
		// A peer that is gone is noticed even while a send to it waits.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: silentAfter, Timeout: silentAfter}),
	}
	if own != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(own.ServerTLS())))
	}
	s.certified = own != nil
	g := grpc.NewServer(options...)
	s.Register(g)
	end := context.AfterFunc(s.stopped, func() {
		// Whoever is refused is told why before the connections go: a follower that
		// makes its leader stop must learn that this one was stale.
		late := time.AfterFunc(stopWithin, g.Stop)
		defer late.Stop()
		g.GracefulStop()
	})
	defer end()
	err := g.Serve(l)
	s.sending.Wait()
	if err != nil && s.stopped.Err() == nil {
		return fmt.Errorf("serve followers at %s: %w", l.Addr(), err)
	}
	return s.checkpoints.close()
}

// shown is whom a caller's certificate names; nil where none is asked for.
func (s *Server) shown(ctx context.Context) (*mtls.Peer, error) {
	if !s.certified {
		return nil, nil
	}
	who, err := certificateOf(ctx)
	return &who, err
}

// certificateOf is whom the other side's certificate names.
func certificateOf(ctx context.Context) (who mtls.Peer, err error) {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return who, errors.New("the connection has no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return who, errors.New("the connection has no certificate")
	}
	return mtls.PeerOf(info.State)
}

// otherInstance says that a certificate speaks for another instance than the one
// that this is about.
func otherInstance(who mtls.Peer, instance []byte) error {
	if len(instance) != len(ulid.ULID{}) || who.Is(ulid.ULID(instance).String(), who.Node) {
		return nil
	}
	return fmt.Errorf("the certificate is of %s and this is instance %s; give the node a certificate of its own instance", who, ulid.ULID(instance))
}

// Conn is a connection to a leader.
type Conn struct {
	cc *grpc.ClientConn
	// certified says that the leader shows a certificate.
	certified bool
}

// shows fails unless the certificate that the leader showed is of the node and the
// instance that it says to be. It is asked when the leader has answered. A node of
// "" is one that the leader has not named.
func (c *Conn) shows(ctx context.Context, instance []byte, node string) error {
	if !c.certified {
		return nil
	}
	who, err := certificateOf(ctx)
	switch {
	case err != nil:
		return err
	case node != "" && who.Node != node:
		return fmt.Errorf("the leader's certificate is of node %q, and it says to be %q; give the node its own certificate", who.Node, node)
	}
	if err := otherInstance(who, instance); err != nil {
		return fmt.Errorf("the leader: %w", err)
	}
	return nil
}

// Dial makes a connection, which is opened when it is first used. own is what the
// two sides show each other; nil is plain. dial is nil for the machine's network.
func Dial(address string, own *mtls.Identity, dial func(context.Context, string) (net.Conn, error)) (*Conn, error) {
	options := []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithInitialWindowSize(windowBytes), grpc.WithInitialConnWindowSize(windowBytes),
	}
	if own != nil {
		options = append(options, grpc.WithTransportCredentials(credentials.NewTLS(own.ClientTLS())))
	} else {
		options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	if dial != nil {
		options = append(options, grpc.WithContextDialer(dial))
	}
	cc, err := grpc.NewClient("passthrough:///"+address, options...)
	if err != nil {
		return nil, fmt.Errorf("reach the leader at %s: %w", address, err)
	}
	return &Conn{cc: cc, certified: own != nil}, nil
}

// Close ends the connection and every stream on it.
func (c *Conn) Close() error { return c.cc.Close() }
