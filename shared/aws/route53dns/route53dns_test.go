package route53dns

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"originchain/shared/aws/session"
	"originchain/test/awsfake"
	"originchain/test/awsfake/model"
)

const (
	name = "db.example.com"
	ttl  = time.Minute
)

type world struct {
	*testing.T
	fake         *awsfake.Fake
	zone, server string
}

func start(t *testing.T) *world {
	w := &world{T: t, fake: awsfake.Start(t)}
	w.zone = w.fake.Route53.Zone("example.com")
	w.server = w.fake.Route53.ServeDNS("127.0.0.1")
	return w
}

// open is the DNS of one process.
func (w *world) open() *DNS {
	w.Helper()
	d, err := New(w.Context(), Config{
		Zone: w.zone, pause: time.Millisecond,
		Config: session.Config{Region: awsfake.Region, Endpoint: w.fake.URL, Credentials: awsfake.Credentials()},
	})
	if err != nil {
		w.Fatal(err)
	}
	return d
}

// points has the name pointed, and its servers say so at once.
func (w *world) points(d *DNS, address string) {
	w.Helper()
	if err := d.Point(w.Context(), name, address, ttl); err != nil {
		w.Fatal(err)
	}
	if got := w.resolved(); got != address {
		w.Errorf("its servers answer %s, not %s", got, address)
	}
}

// resolved is what the zone's servers answer.
func (w *world) resolved() string {
	w.Helper()
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), dns.TypeA)
	m, _, err := new(dns.Client).ExchangeContext(w.Context(), q, w.server)
	if err != nil {
		w.Fatal(err)
	}
	if len(m.Answer) != 1 {
		return dns.RcodeToString[m.Rcode]
	}
	a, ok := m.Answer[0].(*dns.A)
	if !ok || time.Duration(a.Hdr.Ttl)*time.Second != ttl {
		w.Errorf("answered with %s", m.Answer[0])
		return ""
	}
	ip, _ := netip.AddrFromSlice(a.A.To4())
	return ip.String()
}

var errKilled = errors.New("killed")

// changes is how many changes were sent.
func (w *world) changes() int { return len(w.fake.Route53.Calls("ChangeResourceRecordSets")) }

func TestPoint(t *testing.T) {
	w := start(t)
	d := w.open()
	w.fake.Route53.Pending(3, 0)
	w.points(d, "10.0.0.1")
	w.points(d, "10.0.0.2")
	if w.changes() != 2 {
		t.Errorf("%d changes", w.changes())
	}
	w.points(d, "10.0.0.2")
	if w.changes() != 2 {
		t.Error("a record that all servers have was sent again")
	}
	if err := d.Point(t.Context(), "DB.Example.com.", "10.0.0.2", ttl); err != nil || w.changes() != 2 {
		t.Errorf("the same name, written otherwise: %v, %d changes", err, w.changes())
	}
}

// TestARecordOnTheWay: a run is killed while its change is PENDING. For the next one the
// record is right, and it returns when the servers have it all the same.
func TestARecordOnTheWay(t *testing.T) {
	w := start(t)
	w.fake.Route53.Pending(1 << 30)
	ctx := w.fake.Route53.After(t, "GetChange", 3, errKilled)
	err := w.open().Point(ctx, name, "10.0.0.1", ttl)
	if !errors.Is(err, errKilled) || !strings.Contains(err.Error(), "was accepted") {
		t.Fatalf("got %v", err)
	}
	if got := w.resolved(); got != "NXDOMAIN" {
		t.Fatalf("the servers answer %s", got)
	}
	w.points(w.open(), "10.0.0.1")
}

func TestAwkwardAnswers(t *testing.T) {
	prior := awsfake.Fail("PriorRequestNotComplete", "The request was rejected because Route 53 was still processing a prior request.")
	throttled := awsfake.Fail("Throttling", "Rate exceeded")
	for what, c := range map[string]struct {
		operation string
		how       []awsfake.Behaviour
	}{
		"another change is under way": {"ChangeResourceRecordSets", awsfake.Times(2*attempts+1, prior)},
		"changes are throttled":       {"ChangeResourceRecordSets", awsfake.Times(2*attempts+1, throttled)},
		"the request is lost":         {"ChangeResourceRecordSets", awsfake.Times(attempts+1, awsfake.Lost())},
		"the answer is lost":          {"ChangeResourceRecordSets", awsfake.Times(attempts+1, awsfake.Unanswered())},
		"Route 53 fails":              {"ChangeResourceRecordSets", awsfake.Times(attempts+1, awsfake.Fail("InternalFailure", ""))},
		"questions are throttled":     {"GetChange", awsfake.Times(2*attempts+1, throttled)},
		"questions are lost":          {"GetChange", awsfake.Times(attempts+1, awsfake.Unanswered())},
		"lists are throttled":         {"ListResourceRecordSets", awsfake.Times(2*attempts+1, throttled)},
		"Route 53 is gone for a time": {"ListResourceRecordSets", awsfake.Times(attempts+1, awsfake.Fail("ServiceUnavailable", ""))},
	} {
		t.Run(what, func(t *testing.T) {
			w := start(t)
			w.fake.Route53.Next(c.operation, c.how...)
			w.points(w.open(), "10.0.0.1")
			if got := len(w.fake.Route53.Calls(c.operation)); got <= len(c.how) {
				t.Errorf("%d requests; %d were not answered well", got, len(c.how))
			}
		})
	}
}

// TestAZoneThatStaysBusy: the context bounds it, and the error says what was in the way.
func TestAZoneThatStaysBusy(t *testing.T) {
	w := start(t)
	w.fake.Route53.Next("ChangeResourceRecordSets", awsfake.Times(100_000, awsfake.Fail("PriorRequestNotComplete", ""))...)
	err := w.open().Point(w.fake.Route53.After(t, "ChangeResourceRecordSets", attempts+2, errKilled), name, "10.0.0.1", ttl)
	if !errors.Is(err, errKilled) || !strings.Contains(err.Error(), "PriorRequestNotComplete") {
		t.Errorf("got %v", err)
	}
}

// TestWhatCannotBe is said at once, by who says it, and nothing is tried again.
func TestWhatCannotBe(t *testing.T) {
	w := start(t)
	w.fake.Route53.Put(w.zone, model.Struct{"Name": "cname.example.com.", "Type": "CNAME", "TTL": int64(60), "ResourceRecords": []any{model.Struct{"Value": "x.example."}}})
	w.fake.Route53.Put(w.zone, model.Struct{
		"Name": "routed.example.com.", "Type": "A", "TTL": int64(60), "SetIdentifier": "primary", "Failover": "PRIMARY",
		"ResourceRecords": []any{model.Struct{"Value": "10.0.0.1"}},
	})
	for host, want := range map[string]string{"db.example.org": "is not permitted in zone", "cname.example.com": "conflicts with other records", "routed.example.com": `a record "primary"`} {
		before := w.changes()
		err := w.open().Point(t.Context(), host, "10.0.0.1", ttl)
		if err == nil || !strings.Contains(err.Error(), want) || w.changes() > before+1 {
			t.Errorf("%s: %v, %d changes", host, err, w.changes()-before)
		}
	}
	var routed *RoutedError
	if err := w.open().Point(t.Context(), "routed.example.com", "10.0.0.1", ttl); !errors.As(err, &routed) || routed.Identifier != "primary" {
		t.Errorf("got %v", err)
	}
	w.zone = "ZNONE"
	if err := w.open().Point(t.Context(), name, "10.0.0.1", ttl); err == nil || !strings.Contains(err.Error(), "NoSuchHostedZone") || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("no such zone: %v", err)
	}
}

func TestAnotherKindOfRecordIsReplaced(t *testing.T) {
	for what, set := range map[string]model.Struct{
		"two addresses": {"TTL": int64(60), "ResourceRecords": []any{model.Struct{"Value": "10.0.0.1"}, model.Struct{"Value": "10.0.0.2"}}},
		"another TTL":   {"TTL": int64(300), "ResourceRecords": []any{model.Struct{"Value": "10.0.0.1"}}},
		"an alias":      {"AliasTarget": model.Struct{"HostedZoneId": "Z2", "DNSName": "lb.example.", "EvaluateTargetHealth": false}},
	} {
		t.Run(what, func(t *testing.T) {
			w := start(t)
			set["Name"], set["Type"] = name+".", "A"
			d := w.open()
			w.points(d, "10.0.0.1")
			w.fake.Route53.Put(w.zone, set) // by hand, of the same name
			w.points(d, "10.0.0.1")
		})
	}
}

func TestBadInputSendsNothing(t *testing.T) {
	w := start(t)
	d := w.open()
	for _, c := range []struct {
		name, address string
		ttl           time.Duration
	}{
		{"", "10.0.0.1", ttl}, {"com", "10.0.0.1", ttl}, {"a..com", "10.0.0.1", ttl}, {"*.example.com", "10.0.0.1", ttl}, {"a b.example.com", "10.0.0.1", ttl},
		{"-a.example.com", "10.0.0.1", ttl}, {strings.Repeat("a", 64) + ".example.com", "10.0.0.1", ttl}, {strings.Repeat("a.", 125) + "example.com", "10.0.0.1", ttl},
		{name, "", ttl}, {name, "::1", ttl}, {name, "10.0.0", ttl}, {name, "::ffff:10.0.0.1", ttl},
		{name, "10.0.0.1", -1}, {name, "10.0.0.1", 1500 * time.Millisecond}, {name, "10.0.0.1", 1 << 31 * time.Second},
	} {
		if err := d.Point(t.Context(), c.name, c.address, c.ttl); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if n := len(w.fake.Route53.Calls("ListResourceRecordSets")); n > 0 {
		t.Errorf("%d requests", n)
	}
	for _, zone := range []string{"", "example.com", "/hostedzone/Z1"} {
		if _, err := New(t.Context(), Config{Zone: zone, Config: session.Config{Region: awsfake.Region}}); err == nil {
			t.Errorf("%q is taken for a zone's id", zone)
		}
	}
}
