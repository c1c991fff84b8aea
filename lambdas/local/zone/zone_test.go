package zone

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"originchain/shared/durable"
	"originchain/shared/simdisk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	zoneName = "db.example."
	name     = "t.eu.db.example."
)

func open(t testing.TB, fs vfs.FS) *Server {
	t.Helper()
	s, err := Open(Config{Zone: "DB.example", Address: netip.MustParseAddr("127.3.0.1"), Dir: "/", File: "zone.json", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func point(t testing.TB, s *Server, name, address string) {
	t.Helper()
	if err := s.Point(context.Background(), name, address, time.Minute); err != nil {
		t.Fatal(err)
	}
}

// serve answers on a loopback address until the test ends.
func serve(t *testing.T, s *Server) (address string) {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Address()
}

// ask sends one question through a client of the library.
func ask(t *testing.T, network, address string, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: network, Timeout: time.Minute}
	got, _, err := c.Exchange(m, address)
	if err != nil {
		t.Fatalf("%s %v: %v", network, m.Question, err)
	}
	return got
}

func question(name string, kind uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, kind) }

func texts(list []dns.RR) (out []string) {
	for _, rr := range list {
		out = append(out, strings.Join(strings.Fields(rr.String()), " "))
	}
	return out
}

func TestAnswers(t *testing.T) {
	s := open(t, simdisk.New())
	point(t, s, "T.eu.db.example", "127.9.0.1")
	serial, _ := s.Records()
	soa := func(owner string) string {
		return fmt.Sprintf("%s 5 IN SOA ns.db.example. hostmaster.db.example. %d 3600 600 86400 5", owner, serial)
	}
	other := question(name, dns.TypeA)
	other.Question[0].Qclass = dns.ClassCHAOS
	two := question(name, dns.TypeA)
	two.Question = append(two.Question, two.Question[0])
	status := question(name, dns.TypeA)
	status.Opcode = dns.OpcodeStatus
	version := question(name, dns.TypeA)
	version.SetEdns0(4096, false)
	version.IsEdns0().SetVersion(1)
	address := serve(t, s)
	for _, c := range []struct {
		name           string
		q              *dns.Msg
		rcode          int
		aa             bool
		answer, ns, ex []string
	}{
		{"a name", question(name, dns.TypeA), dns.RcodeSuccess, true, []string{name + " 60 IN A 127.9.0.1"}, nil, nil},
		{"in another case", question("t.EU.dB.eXample.", dns.TypeA), dns.RcodeSuccess, true, []string{"t.EU.dB.eXample. 60 IN A 127.9.0.1"}, nil, nil},
		{"any", question(name, dns.TypeANY), dns.RcodeSuccess, true, []string{name + " 60 IN A 127.9.0.1"}, nil, nil},
		{"no AAAA", question(name, dns.TypeAAAA), dns.RcodeSuccess, true, nil, []string{soa(zoneName)}, nil},
		{"no such name", question("x.eu.db.example.", dns.TypeA), dns.RcodeNameError, true, nil, []string{soa(zoneName)}, nil},
		{"below a name", question("x."+name, dns.TypeA), dns.RcodeNameError, true, nil, []string{soa(zoneName)}, nil},
		{"above a name", question("eu.db.example.", dns.TypeA), dns.RcodeSuccess, true, nil, []string{soa(zoneName)}, nil},
		{"the zone", question(zoneName, dns.TypeSOA), dns.RcodeSuccess, true, []string{soa(zoneName)}, nil, nil},
		{"its server", question(zoneName, dns.TypeNS), dns.RcodeSuccess, true, []string{"db.example. 60 IN NS ns.db.example."}, nil, []string{"ns.db.example. 60 IN A 127.3.0.1"}},
		{"the server's address", question("ns.db.example.", dns.TypeA), dns.RcodeSuccess, true, []string{"ns.db.example. 60 IN A 127.3.0.1"}, nil, nil},
		{"the zone's address", question(zoneName, dns.TypeA), dns.RcodeSuccess, true, nil, []string{soa(zoneName)}, nil},
		{"outside", question("example.", dns.TypeA), dns.RcodeRefused, false, nil, nil, nil},
		{"outside, with the zone's end", question("xdb.example.", dns.TypeA), dns.RcodeRefused, false, nil, nil, nil},
		{"the root", question(".", dns.TypeNS), dns.RcodeRefused, false, nil, nil, nil},
		{"a transfer", question(zoneName, dns.TypeAXFR), dns.RcodeRefused, false, nil, nil, nil},
		{"a part of one", question(zoneName, dns.TypeIXFR), dns.RcodeRefused, false, nil, nil, nil},
		{"another class", other, dns.RcodeRefused, false, nil, nil, nil},
		{"two questions", two, dns.RcodeFormatError, false, nil, nil, nil},
		{"another operation", status, dns.RcodeNotImplemented, false, nil, nil, nil},
		{"another EDNS", version, dns.RcodeBadVers, false, nil, nil, []string{";; OPT PSEUDOSECTION: ; EDNS: version 0; flags:; udp: 1232"}},
	} {
		for _, network := range []string{"udp", "tcp"} {
			got := ask(t, network, address, c.q)
			if got.Rcode != c.rcode || got.Authoritative != c.aa || got.RecursionAvailable || got.Truncated || !got.RecursionDesired {
				t.Errorf("%s over %s: %s", c.name, network, got.MsgHdr.String())
			}
			for _, part := range []struct {
				want []string
				got  []dns.RR
			}{{c.answer, got.Answer}, {c.ns, got.Ns}, {c.ex, got.Extra}} {
				if diff := cmp.Diff(part.want, texts(part.got), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s over %s: %s", c.name, network, diff)
				}
			}
		}
	}
}

// A resolver that mixes the case of its questions makes long answers longer: they are cut
// over UDP, and whole with EDNS and over TCP.
func TestLongAnswersAreCut(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 60)+".", 3) + "example."
	s, err := Open(Config{Zone: long, Address: netip.MustParseAddr("127.3.0.1"), Dir: "/", File: "z", FS: simdisk.New()})
	if err != nil {
		t.Fatal(err)
	}
	q := question("x."+strings.ToUpper(long), dns.TypeA)
	size := func(m *dns.Msg, udp bool) (int, *dns.Msg) {
		raw, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out := s.answer(raw, udp)
		var got dns.Msg
		if err := got.Unpack(out); err != nil {
			t.Fatal(err)
		}
		return len(out), &got
	}
	n, whole := size(q, false)
	if whole.Truncated || len(whole.Ns) != 1 {
		t.Fatalf("over TCP: %d bytes, %v", n, whole)
	}
	if n, got := size(q, true); n > 512 || got.Truncated != (len(got.Ns) == 0) {
		t.Errorf("over UDP: %d bytes, %v", n, got)
	}
	m := question(name, dns.TypeA)
	for i := range 60 {
		m.Answer = append(m.Answer, address(fmt.Sprintf("n%d.%s", i, name), Record{Address: netip.MustParseAddr("127.0.0.1")}))
	}
	if out := fit(m.Copy(), 512); len(out) == 0 || len(out) > 512 || !truncated(t, out) {
		t.Errorf("%d bytes", len(out))
	}
	if out := fit(m.Copy(), dns.MaxMsgSize); truncated(t, out) {
		t.Errorf("%d bytes are cut", len(out))
	}
}

func truncated(t *testing.T, raw []byte) bool {
	t.Helper()
	var m dns.Msg
	if err := m.Unpack(raw); err != nil {
		t.Fatal(err)
	}
	return m.Truncated
}

func TestWhatIsDropped(t *testing.T) {
	s := open(t, simdisk.New())
	good, err := question(name, dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	answer := question(name, dns.TypeA)
	answer.Response = true
	loop, _ := answer.Pack()
	for what, raw := range map[string][]byte{
		"nothing": nil, "half a header": good[:7], "half a question": good[:20], "an answer": loop,
		"a count without questions": append([]byte{0, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0}, 1, 2, 3),
	} {
		if out := s.answer(raw, true); out != nil {
			t.Errorf("%s is answered with % x", what, out)
		}
	}
	if s.answer(good, true) == nil {
		t.Error("a question is dropped")
	}
	address := serve(t, s)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = c.Write([]byte{0xff, 0xff, 1, 2, 3})
	if got, err := io.ReadAll(c); len(got) != 0 || (err != nil && !errors.Is(err, syscall.ECONNRESET)) {
		t.Errorf("a question that is too long: % x %v", got, err)
	}
}

// One connection takes many questions, and only so many connections are held.
func TestTCPConnections(t *testing.T) {
	s := open(t, simdisk.New())
	point(t, s, name, "127.9.0.1")
	address := serve(t, s)
	raw, err := question(name, dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	exchange := func(c net.Conn) error {
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...)); err != nil {
			return err
		}
		_, err := readMessage(c)
		return err
	}
	for i := range maxTCPConnections {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if err := errors.Join(exchange(c), exchange(c)); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := exchange(c); err == nil {
		t.Errorf("connection %d is served", maxTCPConnections+1)
	}
}

// Go's own resolver, and dig where there is one, find the name.
func TestResolversFindTheName(t *testing.T) {
	s := open(t, simdisk.New())
	point(t, s, name, "127.9.0.1")
	address := serve(t, s)
	for _, network := range []string{"udp", "tcp"} {
		r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}}
		got, err := r.LookupHost(context.Background(), name)
		if diff := cmp.Diff([]string{"127.9.0.1"}, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", network, err, diff)
		}
		var missing *net.DNSError
		if _, err := r.LookupHost(context.Background(), "x."+name); !errors.As(err, &missing) || !missing.IsNotFound {
			t.Errorf("%s: a name that is not there: %v", network, err)
		}
	}
	if dig, err := exec.LookPath("dig"); err == nil {
		host, port, _ := net.SplitHostPort(address)
		out, err := exec.Command(dig, "@"+host, "-p", port, "+short", name).CombinedOutput()
		if strings.TrimSpace(string(out)) != "127.9.0.1" || err != nil {
			t.Errorf("dig: %q %v", out, err)
		}
	}
}

func TestPointIsSeenAndKept(t *testing.T) {
	fs := simdisk.New()
	s := open(t, fs)
	first, _ := s.Records()
	point(t, s, name, "127.9.0.1")
	point(t, s, name, "127.9.0.1") // nothing happens
	point(t, s, name, "127.9.0.2")
	point(t, s, "u.eu.db.example", "127.9.0.3")
	serial, list := s.Records()
	if serial != first+3 {
		t.Errorf("three changes raised the serial by %d", serial-first)
	}
	want := []Record{{name, netip.MustParseAddr("127.9.0.2"), 60}, {"u.eu.db.example.", netip.MustParseAddr("127.9.0.3"), 60}}
	if diff := cmp.Diff(want, list, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	again := open(t, fs)
	if s2, l2 := again.Records(); s2 != serial || !cmp.Equal(list, l2, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
		t.Errorf("after a restart: %d %v", s2, l2)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Point(ended, name, "127.9.9.9", time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for _, bad := range []struct {
		name, address string
		ttl           time.Duration
	}{
		{"", "127.0.0.1", 0}, {".", "127.0.0.1", 0}, {"x.example", "127.0.0.1", 0}, {"a..db.example", "127.0.0.1", 0}, {"ns.db.example", "127.0.0.1", 0},
		{name, "::1", 0}, {name, "nowhere", 0}, {name, "127.0.0.1", -1}, {name, "127.0.0.1", time.Millisecond}, {name, "127.0.0.1", maxTTL + time.Second},
		{strings.Repeat("a", 64) + ".db.example", "127.0.0.1", 0}, {"a b.db.example", "127.0.0.1", 0},
	} {
		if err := s.Point(context.Background(), bad.name, bad.address, bad.ttl); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	if now, _ := s.Records(); now != serial {
		t.Error("what was refused changed the zone")
	}
}

// TestAFaultLeavesAWholeZone: whatever call of the disk fails, or is the last before the
// power does, the zone is that of before or of after; and what Point has returned from is
// there. After a fault nothing more is changed.
func TestAFaultLeavesAWholeZone(t *testing.T) {
	for _, crash := range []bool{false, true} {
		for call := 1; ; call++ {
			fs := simdisk.New()
			s := open(t, fs)
			point(t, s, name, "127.9.0.1")
			if crash {
				fs.CrashAfter(fs.CallCount() + call - 1)
			} else {
				fs.FailAt(fs.CallCount()+call, syscall.EIO)
			}
			err := s.Point(context.Background(), name, "127.9.0.2", time.Minute)
			if fs.Armed() == 1 || (crash && !fs.Crashed()) {
				if err != nil || call < 5 {
					t.Errorf("%d calls of the disk, %v", call-1, err)
				}
				break
			}
			if err == nil {
				t.Errorf("crash %t, call %d: a change that failed is acknowledged", crash, call)
			}
			if again := s.Point(context.Background(), name, "127.9.0.3", time.Minute); !errors.Is(again, ErrFailed) {
				t.Errorf("crash %t, call %d: a change after one that failed: %v", crash, call, again)
			}
			if _, live := s.Records(); live[0].Address.String() != "127.9.0.1" {
				t.Errorf("crash %t, call %d: %v is answered", crash, call, live)
			}
			for seed := range uint64(8) {
				_, list := open(t, fs.CrashClone(rand.New(rand.NewPCG(seed, 0)), simdisk.AnyNames)).Records()
				if len(list) != 1 || (list[0].Address.String() != "127.9.0.1" && list[0].Address.String() != "127.9.0.2") {
					t.Errorf("crash %t, call %d: %v", crash, call, list)
				}
			}
		}
	}
	fs := simdisk.New()
	s := open(t, fs)
	point(t, s, name, "127.9.0.1")
	fs.Crash()
	for seed := range uint64(8) {
		if _, list := open(t, fs.CrashClone(rand.New(rand.NewPCG(seed, 0)), simdisk.AnyNames)).Records(); len(list) != 1 {
			t.Errorf("a change that was acknowledged is lost: %v", list)
		}
	}
}

func TestAFileThatIsNotOurs(t *testing.T) {
	for what, text := range map[string]string{
		"nothing": "", "half": `{"version":1,"zone":"db.example.","ser`, "another version": `{"version":2,"zone":"db.example."}`,
		"another zone": `{"version":1,"zone":"x."}`, "a name outside": `{"version":1,"zone":"db.example.","records":[{"name":"x.","address":"127.0.0.1"}]}`,
		"no address": `{"version":1,"zone":"db.example.","records":[{"name":"x.db.example."}]}`,
		"twice":      `{"version":1,"zone":"db.example.","records":[{"name":"x.db.example.","address":"127.0.0.1"},{"name":"x.db.example.","address":"127.0.0.1"}]}`,
	} {
		fs := simdisk.New()
		if err := durable.Replace(durable.On(fs), "/zone.json", "/zone.json.tmp", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{Zone: zoneName, Address: netip.MustParseAddr("127.3.0.1"), Dir: "/", File: "zone.json", FS: fs}); err == nil {
			t.Errorf("%s is read", what)
		}
	}
}

func TestLoopbackAddresses(t *testing.T) {
	if _, err := Listen("0.0.0.0:0"); err == nil {
		t.Error("the name server listens for the world")
	}
	one, err := Loopback("instance", 3)
	if err != nil {
		t.Fatal(err)
	}
	two, err := Loopback("instance", 3)
	if err != nil || !cmp.Equal(fmt.Sprint(one), fmt.Sprint(two)) {
		t.Errorf("%v, then %v %v", one, two, err)
	}
	other, err := Loopback("another", 3)
	if err != nil || fmt.Sprint(one) == fmt.Sprint(other) {
		t.Errorf("%v for another: %v", other, err)
	}
	for _, a := range one {
		if !a.IsLoopback() || a.As4()[1] == 0 || a.As4()[3] == 0 || a.As4()[3] == 255 {
			t.Errorf("%s", a)
		}
	}
	l, err := Listen(netip.AddrPortFrom(one[0], 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	port := netip.MustParseAddrPort(l.Address()).Port()
	taken, err := Loopback("instance", 1, port)
	if err != nil || taken[0] == one[0] {
		t.Errorf("%v while %s:%d is in use: %v", taken, one[0], port, err)
	}
}

func FuzzAnswer(f *testing.F) {
	s := open(f, simdisk.New())
	point(f, s, name, "127.9.0.1")
	for _, q := range []*dns.Msg{question(name, dns.TypeA), question(zoneName, dns.TypeANY), question("x.", dns.TypeAXFR)} {
		q.SetEdns0(4096, true)
		raw, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, true)
		f.Add(raw, false)
	}
	f.Fuzz(func(t *testing.T, raw []byte, udp bool) {
		out := s.answer(raw, udp)
		if out == nil {
			return
		}
		var q, m dns.Msg
		if err := m.Unpack(out); err != nil {
			t.Fatalf("an answer that cannot be read: %v", err)
		}
		if err := q.Unpack(raw); err != nil || q.Response {
			t.Fatalf("what is no question is answered: %v", err)
		}
		if m.Id != q.Id || !m.Response || m.RecursionAvailable || (udp && len(out) > maxUDPBytes) {
			t.Fatalf("%s", m.String())
		}
	})
}
