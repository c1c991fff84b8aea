package zone

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/miekg/dns"
)

// short is a listener that has no file left for a while.
type short struct {
	net.Listener
	times atomic.Int64
}

func (s *short) Accept() (net.Conn, error) {
	if s.times.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return s.Listener.Accept()
}

// A process that is out of files for a moment must not lose its name server for it, and
// everything that runs beside it.
func TestAConnectionThatCannotBeTaken(t *testing.T) {
	s := open(t, vfs.NewMem())
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	scarce := &short{Listener: l.tcp}
	scarce.times.Store(2)
	l.tcp = scarce
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	c := dns.Client{Net: "tcp"}
	if _, _, err := c.Exchange(new(dns.Msg).SetQuestion(zoneName, dns.TypeSOA), l.Address()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
