package awsfake

import (
	"net"
	"strconv"

	"github.com/miekg/dns"

	"originchain/test/awsfake/model"
)

// ServeDNS answers for all zones with what is INSYNC, over UDP and TCP at host, a
// loopback address or one of a network namespace, until the test ends. It returns
// host:port.
func (r *Route53) ServeDNS(host string) string {
	t := r.fake.t
	t.Helper()
	for range maxPortTries {
		udp, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp", udp.LocalAddr().String())
		if err == nil {
			return r.ServeDNSOn(udp, tcp)
		}
		_ = udp.Close() // somebody has the port for TCP
	}
	t.Fatalf("%d ports of %s were free for UDP and not for TCP", maxPortTries, host)
	return ""
}

// maxPortTries is how many ports are tried that are to be free for UDP and TCP.
const maxPortTries = 20

// ServeDNSOn is ServeDNS on sockets that the caller has opened.
func (r *Route53) ServeDNSOn(udp net.PacketConn, tcp net.Listener) string {
	t := r.fake.t
	for _, server := range []*dns.Server{{PacketConn: udp, Handler: dns.HandlerFunc(r.resolve)}, {Listener: tcp, Handler: dns.HandlerFunc(r.resolve)}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		ended := make(chan error, 1)
		r.fake.work.Go(func() { ended <- server.ActivateAndServe() })
		select {
		case <-started:
		case err := <-ended:
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := server.Shutdown(); err != nil {
				t.Errorf("end the name server: %v", err)
			}
		})
	}
	return udp.LocalAddr().String()
}

// resolve answers a question with authority, from what the name servers have.
func (r *Route53) resolve(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	if len(q.Question) != 1 || q.Question[0].Qclass != dns.ClassINET {
		m.Rcode = dns.RcodeRefused
	} else {
		r.lookUp(m, dns.CanonicalName(q.Question[0].Name), dns.TypeToString[q.Question[0].Qtype])
	}
	_ = w.WriteMsg(m) // who asked asks again
}

func (r *Route53) lookUp(m *dns.Msg, name, kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var z *zone
	for _, candidate := range r.zones {
		if dns.IsSubDomain(candidate.name, name) && (z == nil || len(candidate.name) > len(z.name)) {
			z = candidate
		}
	}
	if z == nil {
		m.Authoritative, m.Rcode = false, dns.RcodeRefused
		return
	}
	exists := false
	for key, set := range z.served {
		exists = exists || dns.IsSubDomain(name, key.name)
		if key.name == name && (key.kind == kind || key.kind == "CNAME") {
			m.Answer = append(m.Answer, r.records(set)...)
		}
	}
	if len(m.Answer) == 0 {
		m.Ns = r.records(z.served[recordKey{z.name, "SOA", ""}])
		if !exists {
			m.Rcode = dns.RcodeNameError
		}
	}
}

func (r *Route53) records(set model.Struct) (list []dns.RR) {
	key := keyOf(set)
	ttl, _ := set["TTL"].(int64)
	for _, v := range valuesOf(set) {
		rr, err := dns.NewRR(key.name + " " + strconv.FormatInt(ttl, 10) + " IN " + key.kind + " " + v)
		if err != nil {
			r.fake.t.Errorf("the record %v cannot be served: %v", set, err)
			continue
		}
		list = append(list, rr)
	}
	return list
}
