package zone

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
)

// loopbackTries is how many addresses are tried for each that is wanted.
const loopbackTries = 64

// Loopback picks n addresses of 127.0.0.0/8 for an instance: the same for the same seed
// (its id, or its directory) as long as they are free, and others where not. An address is
// free if each of the ports can be bound there, over TCP and UDP; without ports, if any
// can. 127.0.0.0/16 is left to whatever else the machine runs.
//
// What is running already is not free: an instance keeps what it was given, and asks
// once.
func Loopback(seed string, n int, ports ...uint16) ([]netip.Addr, error) {
	if len(ports) == 0 {
		ports = []uint16{0}
	}
	picked := make([]netip.Addr, 0, n)
	var last error
	for i := 0; len(picked) < n && i < n*loopbackTries; i++ {
		a := candidate(seed, i)
		if slices.Contains(picked, a) {
			continue
		}
		if err := bindable(a, ports); err != nil {
			last = err
			continue
		}
		picked = append(picked, a)
	}
	if len(picked) < n {
		return nil, fmt.Errorf("no %d free addresses in 127.0.0.0/8 for %q, of %d tried: %w", n, seed, n*loopbackTries, last)
	}
	return picked, nil
}

// candidate is the i-th address of a seed.
func candidate(seed string, i int) netip.Addr {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32([]byte(seed+"\x00"), uint32(i)))
	return netip.AddrFrom4([4]byte{127, 1 + sum[0]%254, sum[1], 1 + sum[2]%254})
}

// bindable opens and closes each port.
func bindable(a netip.Addr, ports []uint16) error {
	for _, port := range ports {
		at := net.JoinHostPort(a.String(), strconv.Itoa(int(port)))
		tcp, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		udp, err := net.ListenPacket("udp", at)
		if err != nil {
			return errors.Join(err, tcp.Close())
		}
		if err := errors.Join(tcp.Close(), udp.Close()); err != nil {
			return err
		}
	}
	return nil
}
