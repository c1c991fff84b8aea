package gate

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within bounds what a test waits for; nothing is asserted of it.
const within = time.Minute

// listen is a listener on loopback that ends with the test.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// relayed is a relay before a listener: its address, and what ends it.
func relayed(t *testing.T, g *Gate, to net.Listener) (address string, end func()) {
	t.Helper()
	front := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Relay(ctx, front, to.Addr().String()) }()
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	return front.Addr().String(), end
}

// dialled connects, with a deadline so that a test that fails ends.
func dialled(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return bounded(t, c)
}

func bounded(t *testing.T, c net.Conn) *net.TCPConn {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func accepted(t *testing.T, l net.Listener) *net.TCPConn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return bounded(t, c)
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, c net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("%q, %v; want %q", got, err, text)
	}
}

// silent fails if anything is to be read, an end of the connection too. It looks for
// moment: what comes later than that it does not see, so that it never fails wrongly.
func silent(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(moment)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(make([]byte, 1))
	if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v, through a way that is cut", n, err)
	}
	bounded(t, c)
}

const moment = 50 * time.Millisecond

func TestARelayCarriesBothWays(t *testing.T) {
	behind := listen(t)
	address, _ := relayed(t, New(), behind)
	client := dialled(t, address)
	node := accepted(t, behind)
	big := make([]byte, 8<<20)
	_, _ = rand.Read(big)
	sent := make(chan error, 1)
	go func() {
		_, err := client.Write(big)
		sent <- errors.Join(err, client.CloseWrite())
	}()
	got, err := io.ReadAll(node)
	if err := errors.Join(err, <-sent); err != nil || !bytes.Equal(got, big) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(big), err)
	}
	// The half that is closed leaves the other one open.
	send(t, node, "answer")
	expect(t, client, "answer")
	if err := node.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(client); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

// What is cut hangs: nothing arrives in either direction, nothing ends, and a new
// connection is not answered. Healed, everything arrives, in order and once.
func TestACutIsABlackHole(t *testing.T) {
	behind, g := listen(t), New()
	address, _ := relayed(t, g, behind)
	client := dialled(t, address)
	node := accepted(t, behind)
	send(t, client, "before")
	expect(t, node, "before")
	g.Cut()
	g.Cut()
	if !g.IsCut() {
		t.Error("it does not say so")
	}
	send(t, client, "lost?")
	send(t, node, "late")
	if err := node.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	late := dialled(t, address) // the kernel's answer; nobody else gives one
	send(t, late, "hello")
	silent(t, node)
	silent(t, client)
	silent(t, late)
	g.Heal()
	g.Heal()
	expect(t, node, "lost?")
	expect(t, client, "late")
	if rest, err := io.ReadAll(client); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	expect(t, accepted(t, behind), "hello")
}

// While a way is cut only so much is taken from a sender, however much it has.
func TestACutHoldsLittle(t *testing.T) {
	behind, g := listen(t), New()
	address, end := relayed(t, g, behind)
	client := dialled(t, address)
	accepted(t, behind)
	g.Cut()
	if err := client.SetWriteDeadline(time.Now().Add(10 * moment)); err != nil {
		t.Fatal(err)
	}
	n, err := client.Write(make([]byte, 256<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes were taken, %v", n, err)
	}
	end() // ends although it is cut
}

// A node that is not there closes the connection, and one whose connection breaks too.
func TestWhatBreaksBehindBreaksBefore(t *testing.T) {
	behind := listen(t)
	address, _ := relayed(t, New(), behind)
	client := dialled(t, address)
	node := accepted(t, behind)
	if err := errors.Join(node.SetLinger(0), node.Close(), behind.Close()); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := dialled(t, address).Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("of nobody: %d, %v", n, err)
	}
}

// A relay takes maxConnections at once; the next one waits until one has ended.
func TestARelayIsBounded(t *testing.T) {
	behind, g := listen(t), New()
	address, _ := relayed(t, g, behind)
	var clients, nodes []*net.TCPConn
	for range maxConnections {
		clients = append(clients, dialled(t, address))
		nodes = append(nodes, accepted(t, behind))
	}
	next := dialled(t, address)
	send(t, next, "x")
	if err := behind.(*net.TCPListener).SetDeadline(time.Now().Add(moment)); err != nil {
		t.Fatal(err)
	}
	if c, err := behind.Accept(); err == nil {
		_ = c.Close()
		t.Fatalf("more than %d are carried", maxConnections)
	}
	if err := errors.Join(behind.(*net.TCPListener).SetDeadline(time.Time{}), clients[0].Close(), nodes[0].Close()); err != nil {
		t.Fatal(err)
	}
	expect(t, accepted(t, behind), "x")
}

// A connection of this process passes the gate too.
func TestDial(t *testing.T) {
	behind, g := listen(t), New()
	c, err := g.Dial(t.Context(), "tcp", behind.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	node := accepted(t, behind)
	send(t, c, "there")
	expect(t, node, "there")
	g.Cut()
	send(t, node, "back")
	read, wrote := make(chan string, 1), make(chan error, 1)
	go func() {
		b := make([]byte, 4)
		_, err := io.ReadFull(c, b)
		read <- string(b) + errText(err)
	}()
	go func() { _, err := io.WriteString(c, "again"); wrote <- err }()
	silent(t, node)
	select {
	case got := <-read:
		t.Fatalf("%q came through", got)
	default:
	}
	g.Heal()
	expect(t, node, "again")
	if got, err := <-read, <-wrote; got != "back" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if c.SetDeadline(time.Now()) == nil || c.SetReadDeadline(time.Now()) == nil || c.SetWriteDeadline(time.Now()) == nil {
		t.Error("a deadline that would not hold is taken")
	}
	// What waits at the gate ends with its connection.
	g.Cut()
	send(t, node, "back")
	go func() { _, err := c.Read(make([]byte, 4)); read <- errText(err) }()
	go func() { _, err := io.WriteString(c, "more"); wrote <- err }()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if got, err := <-read, <-wrote; got == "" || !errors.Is(err, net.ErrClosed) {
		t.Errorf("%q, %v", got, err)
	}
	// And so does who waits to connect.
	gone := errors.New("given up")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := g.Dial(ctx, "tcp", behind.Addr().String()); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
