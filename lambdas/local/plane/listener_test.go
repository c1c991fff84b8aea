package plane

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"originchain/shared/failover"
)

// listen listens at an address of the loopback.
func listen(t *testing.T, address string) (*net.TCPListener, string) {
	t.Helper()
	l, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener), l.Addr().String()
}

// sleeper is a process that listens nowhere.
func sleeper(t *testing.T) (pid int) {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// The process that listens is told from every other, also when another one has taken its
// address since.
func TestWhoListens(t *testing.T) {
	var s listeners
	first, address := listen(t, "127.0.0.1:0")
	mine, err := s.of(os.Getpid(), address)
	if err != nil || !mine.still() {
		t.Fatal(err)
	}
	if again, err := s.of(os.Getpid(), address); err != nil || again != mine {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := s.of(sleeper(t), address); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("of a process that listens nowhere: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if mine.still() {
		t.Error("it is closed")
	}
	if _, err := s.of(os.Getpid(), address); err == nil || !strings.Contains(err.Error(), "nobody listens") {
		t.Errorf("%v", err)
	}
	listen(t, address)
	if other, err := s.of(os.Getpid(), address); err != nil || other == mine {
		t.Errorf("another socket is taken for the first: %+v, %v", other, err)
	}
	if far, err := s.of(1, "10.0.0.1:1"); err != nil || !far.still() {
		t.Errorf("a node with a network of its own: %v", err)
	}
	for _, bad := range []string{"", "127.0.0.1", "[::1]:1", "localhost:1"} {
		if _, err := s.of(os.Getpid(), bad); err == nil {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Nobody is connected to who has taken the address of a node that runs, and has not come to
// listen there: what passes carries tokens. Nor to who takes it at that very moment.
func TestAStrangerIsShownNoToken(t *testing.T) {
	l, address := listen(t, "127.0.0.1:0")
	n := failover.Node{ID: "a", Machine: "a", URL: "http://" + address}
	w := newWays([]failover.Node{n}, quiet())
	pid := sleeper(t)
	w.process = func(_ context.Context, asked failover.Node) (int, bool) { return pid, asked == n }
	if c, err := w.dial(t.Context(), "tcp", address); !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "another process") || c != nil {
		t.Errorf("a stranger is reached: %v", err)
	}
	pid = os.Getpid()
	c, err := w.dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	w.process = func(context.Context, failover.Node) (int, bool) {
		pid = os.Getpid()
		return pid, true
	}
	w.connected = func() { // it ends, and another one has its address
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if c, err := w.dial(t.Context(), "tcp", address); !errors.Is(err, syscall.ECONNREFUSED) || c != nil {
		t.Errorf("whoever took the address meanwhile is reached: %v", err)
	}
}
