package replica

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

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

// shown is the node that a caller's certificate names; "" where none is asked for.
func (s *Server) shown(ctx context.Context) (string, error) {
	if !s.certified {
		return "", nil
	}
	return certificateOf(ctx)
}

// certificateOf is the node that the other side's certificate names.
func certificateOf(ctx context.Context) (string, error) {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return "", errors.New("the connection has no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return "", errors.New("the connection has no certificate")
	}
	who, err := mtls.PeerOf(info.State)
	return who.Node, err
}

// Conn is a connection to a leader.
type Conn struct {
	cc *grpc.ClientConn
	// certified says that the leader shows a certificate.
	certified bool
}

// shows fails unless the certificate that the leader showed is of the node that it
// says to be. It is asked when the leader has answered.
func (c *Conn) shows(ctx context.Context, node string) error {
	if !c.certified {
		return nil
	}
	who, err := certificateOf(ctx)
	if err == nil && who != node {
		err = fmt.Errorf("the leader's certificate is of node %q, and it says to be %q; give the node its own certificate", who, node)
	}
	return err
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
