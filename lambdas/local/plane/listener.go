package plane

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// tcpFile lists the TCP sockets over IPv4 of this process's network.
const tcpFile = "/proc/self/net/tcp"

// listening is TCP_LISTEN, as tcpFile has it.
const listening = "0A"

// listener is the file by which a process has a socket that listens: as long as the file
// is that socket's, what connects to its address is answered by nobody else.
type listener struct {
	pid          int
	file, socket string
	// far: the address is no loopback address, and the socket is of another network, which
	// this machine does not tell of; nor can its other users take that address.
	far bool
}

// still says whether the process has the socket.
func (l listener) still() bool {
	if l.far {
		return true
	}
	is, err := os.Readlink(l.file)
	return err == nil && is == l.socket
}

// listeners remembers by whom addresses were last found taken.
type listeners struct {
	mu    sync.Mutex
	known map[string]listener
}

// of is the socket by which a process listens at an address, which nobody else may do
// beside it.
func (s *listeners) of(pid int, address string) (listener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return listener{}, fmt.Errorf("%s is no address with a port: %w", address, err)
	}
	if !at.Addr().IsLoopback() {
		return listener{pid: pid, far: true}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.known[address]; l.pid == pid && l.still() {
		return l, nil
	}
	l, err := listenerOf(pid, at)
	if err != nil {
		return l, err
	}
	if s.known == nil {
		s.known = make(map[string]listener)
	}
	s.known[address] = l
	return l, nil
}

func listenerOf(pid int, address netip.AddrPort) (listener, error) {
	sockets, err := listenersAt(address)
	if err != nil {
		return listener{}, err
	}
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	files, err := os.ReadDir(dir)
	if err != nil {
		return listener{}, fmt.Errorf("tell whether process %d listens at %s: %w", pid, address, err)
	}
	for _, f := range files {
		l := listener{pid: pid, file: filepath.Join(dir, f.Name())}
		if l.socket, err = os.Readlink(l.file); err == nil && len(sockets) == 1 && l.socket == sockets[0] {
			return l, nil
		}
	}
	if len(sockets) == 0 {
		return listener{}, fmt.Errorf("nobody listens at %s", address)
	}
	return listener{}, fmt.Errorf("another process than %d listens at %s: end that one", pid, address)
}

// listenersAt are the sockets that listen at an address, by the names that files of
// processes have.
func listenersAt(address netip.AddrPort) (out []string, err error) {
	if !address.Addr().Is4() {
		return nil, fmt.Errorf("%s is no address of IPv4", address)
	}
	f, err := os.Open(tcpFile)
	if err != nil {
		return nil, fmt.Errorf("tell who listens at %s: %w", address, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	ip := address.Addr().As4()
	local := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), address.Port()) // as the kernel prints it
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// sl, local address, remote address, state, queues, timer, retransmits, uid, timeout, inode
		if c := strings.Fields(lines.Text()); len(c) > 9 && c[1] == local && c[3] == listening {
			out = append(out, "socket:["+c[9]+"]")
		}
	}
	return out, lines.Err()
}
