package load

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// conn is one connection, non-blocking, with at most one request under way.
type conn struct {
	fd   int
	sock net.Conn // keeps the descriptor open
	out  []byte   // what of the request is not sent yet
	in   []byte
	due  time.Time
	buf  []byte // holds out
}

const (
	firstReadBytes = 16 << 10
	// maxAnswerBytes bounds an answer.
	maxAnswerBytes = 64 << 20
)

func dial(address string) (*conn, error) {
	sock, err := net.Dial("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to the server: %w", err)
	}
	raw, err := sock.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, errors.Join(err, sock.Close())
	}
	c := &conn{sock: sock, in: make([]byte, 0, firstReadBytes)}
	// The socket stays non-blocking; the runtime's poller is not asked again.
	if err := raw.Control(func(fd uintptr) { c.fd = int(fd) }); err != nil {
		return nil, errors.Join(err, sock.Close())
	}
	return c, nil
}

// send sends the request that was put into buf, as far as the socket takes it.
func (c *conn) send(due time.Time) error {
	c.due, c.out, c.in = due, c.buf, c.in[:0]
	return c.flush()
}

func (c *conn) flush() error {
	for len(c.out) > 0 {
		n, err := unix.Write(c.fd, c.out)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil:
			return fmt.Errorf("send: %w", err)
		default:
			c.out = c.out[n:]
		}
	}
	return nil
}

// receive reads what has arrived. done says that the answer is whole; its body
// is a part of the connection's buffer.
func (c *conn) receive() (a answer, done bool, err error) {
	for {
		if len(c.in) == cap(c.in) {
			if cap(c.in) >= maxAnswerBytes {
				return a, false, fmt.Errorf("an answer over %d bytes", maxAnswerBytes)
			}
			c.in = append(make([]byte, 0, 2*cap(c.in)), c.in...)
		}
		n, err := unix.Read(c.fd, c.in[len(c.in):cap(c.in)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return a, false, nil
		case err != nil:
			return a, false, fmt.Errorf("receive: %w", err)
		case n == 0:
			return a, false, errors.New("the server closed the connection before its answer was whole")
		}
		c.in = c.in[:len(c.in)+n]
		if a, done, err = parseAnswer(c.in); done || err != nil {
			return a, done, err
		}
	}
}
