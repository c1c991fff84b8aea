package zone

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"originchain/shared/failover"
)

// recordTTLSeconds is the TTL of the records that the zone has by itself.
const recordTTLSeconds = failover.RecordTTL

// Bounds of what is answered at once.
const (
	udpWorkers        = 4
	maxQueryBytes     = 4096
	maxTCPConnections = 64
	tcpTimeout        = 5 * time.Second
	listenTries       = 16
	// acceptPause follows a connection that could not be taken.
	acceptPause = 100 * time.Millisecond
)

// Listener is one address over UDP and TCP.
type Listener struct {
	udp net.PacketConn
	tcp net.Listener
}

// Listen opens both on a loopback address, host:port. Port 0 takes one that is free for
// both.
func Listen(address string) (*Listener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("name server: %w", err)
	}
	if !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("name server: %s is not a loopback address, and this server is for one machine", at)
	}
	for try := 1; ; try++ {
		l, err := listen(at)
		if err == nil || at.Port() != 0 || try == listenTries {
			return l, err
		}
	}
}

func listen(at netip.AddrPort) (*Listener, error) {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("name server: %w", err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("name server: %w", err), tcp.Close())
	}
	return &Listener{udp: udp, tcp: tcp}, nil
}

// Address is host:port.
func (l *Listener) Address() string { return l.tcp.Addr().String() }

// Close ends both; Serve does it by itself.
func (l *Listener) Close() error { return errors.Join(l.udp.Close(), l.tcp.Close()) }

// Serve answers until ctx ends, closes l, and returns when nothing is answered any more.
func (s *Server) Serve(ctx context.Context, l *Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	for range udpWorkers {
		g.Go(func() error { return s.serveUDP(ctx, l.udp) })
	}
	g.Go(func() error { return s.serveTCP(ctx, l.tcp) })
	g.Go(func() error {
		<-ctx.Done()
		return l.Close()
	})
	return g.Wait()
}

// serveUDP is one worker: there are udpWorkers, and so no more answers at once.
func (s *Server) serveUDP(ctx context.Context, conn net.PacketConn) error {
	buf := make([]byte, maxQueryBytes)
	for {
		n, from, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("name server: %w", err)
		}
		if out := s.answer(buf[:n], true); out != nil {
			_, _ = conn.WriteTo(out, from) // a datagram that is lost is asked for again
		}
	}
}

// serveTCP takes maxTCPConnections at once, and closes those beyond.
func (s *Server) serveTCP(ctx context.Context, ln net.Listener) error {
	var g errgroup.Group
	g.SetLimit(maxTCPConnections)
	defer func() { _ = g.Wait() }() // they return nil
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close() // nobody was served
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("name server: %w", err)
		}
		if err != nil { // such as that this process has too many files: it will have less
			pause(ctx, acceptPause)
			continue
		}
		if !g.TryGo(func() error { s.converse(ctx, conn); return nil }) {
			_ = conn.Close() // it was not served
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// converse answers the questions of one connection.
func (s *Server) converse(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // long past
	defer func() {
		stop()
		_ = conn.Close() // what was written was answered, or the client is gone
	}()
	for {
		// The end of ctx comes after this deadline, or is seen here.
		if conn.SetDeadline(time.Now().Add(tcpTimeout)) != nil || ctx.Err() != nil {
			return
		}
		query, err := readMessage(conn)
		if err != nil {
			return
		}
		out := s.answer(query, false)
		if out == nil {
			return
		}
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil {
			return
		}
	}
}

// readMessage reads one message behind its length.
func readMessage(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(length[:])
	if n > maxQueryBytes {
		return nil, fmt.Errorf("a question of %d bytes", n)
	}
	query := make([]byte, n)
	_, err := io.ReadFull(r, query)
	return query, err
}
