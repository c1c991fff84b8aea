package zone

import (
	"strings"

	"github.com/miekg/dns"
)

const (
	// maxUDPBytes is what an answer over UDP may take at most, whatever a client offers:
	// beyond that datagrams are fragmented.
	maxUDPBytes = 1232
	headerBytes = 12
)

// answer makes the answer to one message; nil drops it. What cannot be read is dropped,
// and so is an answer: two servers must not talk to each other for ever.
func (s *Server) answer(packet []byte, udp bool) []byte {
	if len(packet) < headerBytes {
		return nil
	}
	var q dns.Msg
	if err := q.Unpack(packet); err != nil || q.Response {
		return nil
	}
	m := s.reply(&q)
	size := dns.MaxMsgSize
	if udp {
		size = dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = min(max(size, int(opt.UDPSize())), maxUDPBytes)
		}
	}
	return fit(m, size)
}

// fit packs an answer into size bytes, cut and marked so if it is longer.
func fit(m *dns.Msg, size int) []byte {
	m.Compress = true
	m.Truncate(size)
	out, err := m.Pack()
	if err != nil || len(out) > size {
		return nil
	}
	return out
}

// reply decides what a message is answered.
func (s *Server) reply(q *dns.Msg) *dns.Msg {
	m := &dns.Msg{}
	m.Id, m.Response, m.Opcode, m.RecursionDesired = q.Id, true, q.Opcode, q.RecursionDesired
	switch {
	case q.Opcode != dns.OpcodeQuery:
		m.Rcode = dns.RcodeNotImplemented
		return m
	case len(q.Question) != 1 || options(q) > 1:
		m.Rcode = dns.RcodeFormatError
		return m
	}
	m.Question = q.Question
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(maxUDPBytes, false)
		if opt.Version() != 0 {
			m.Rcode = dns.RcodeBadVers
			return m
		}
	}
	question := q.Question[0]
	name := strings.ToLower(question.Name)
	switch {
	case question.Qtype == dns.TypeAXFR || question.Qtype == dns.TypeIXFR,
		question.Qclass != dns.ClassINET,
		!dns.IsSubDomain(s.cfg.Zone, name):
		m.Rcode = dns.RcodeRefused
		return m
	}
	m.Authoritative = true
	d := s.data.Load()
	there := s.lookup(m, d, name, question)
	if len(m.Answer) == 0 {
		m.Ns = append(m.Ns, s.soa(d, s.cfg.Zone, negativeTTLSeconds))
		if !there {
			m.Rcode = dns.RcodeNameError
		}
	}
	return m
}

func options(q *dns.Msg) (n int) {
	for _, rr := range q.Extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			n++
		}
	}
	return n
}

// lookup adds the records that are asked for, under the name as it was asked for: a
// resolver that mixes the case of its questions compares. there says that the name
// exists, be it for names below it.
func (s *Server) lookup(m *dns.Msg, d *records, name string, q dns.Question) (there bool) {
	add := func(rr dns.RR) {
		if rr.Header().Rrtype == q.Qtype || q.Qtype == dns.TypeANY {
			m.Answer = append(m.Answer, rr)
		}
	}
	there = d.above[name] > 0
	if r, ok := d.byName[name]; ok {
		there = true
		add(address(q.Name, r))
	}
	switch name {
	case s.cfg.Zone:
		add(s.soa(d, q.Name, negativeTTLSeconds))
		add(&dns.NS{Hdr: header(q.Name, dns.TypeNS, uint32(recordTTLSeconds)), Ns: nameServer + s.cfg.Zone})
		if q.Qtype == dns.TypeNS {
			m.Extra = append(m.Extra, address(nameServer+s.cfg.Zone, s.own()))
		}
	case nameServer + s.cfg.Zone:
		there = true
		add(address(q.Name, s.own()))
	}
	return there
}

// own is the name server's record.
func (s *Server) own() Record { return Record{Address: s.cfg.Address, TTL: recordTTLSeconds} }

func header(name string, kind uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

func address(name string, r Record) dns.RR {
	return &dns.A{Hdr: header(name, dns.TypeA, r.TTL), A: r.Address.AsSlice()}
}

func (s *Server) soa(d *records, name string, ttl uint32) dns.RR {
	return &dns.SOA{
		Hdr: header(name, dns.TypeSOA, ttl), Ns: nameServer + s.cfg.Zone, Mbox: "hostmaster." + s.cfg.Zone,
		Serial: d.serial, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: negativeTTLSeconds,
	}
}
