// Package zone is the authoritative name server of one machine: the A records of the
// names that clients reach instances by, on the loopback. It answers for its zone alone,
// asks nobody, and gives a restarted control plane the same answers from its file.
package zone

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/miekg/dns"

	"originchain/shared/failover"
)

var _ failover.DNS = (*Server)(nil)

// Bounds of a zone.
const (
	maxNames = 10_000
	// maxTTL is the largest that RFC 2181 lets a record have.
	maxTTL = (1<<31 - 1) * time.Second
	// nameServer is the name server's own label below the zone.
	nameServer = "ns."
	// negativeTTLSeconds is how long a resolver may remember that a name is not there:
	// short, as a name that is waited for comes soon.
	negativeTTLSeconds = 5
)

// Config says what is served and from where.
type Config struct {
	// Zone is the domain that is answered for.
	Zone string
	// Address is the name server's own, of its NS record.
	Address netip.Addr
	// Dir and File are where the records are kept; the directory is there.
	Dir, File string
	FS        vfs.FS
}

// Server answers for one zone.
type Server struct {
	cfg Config
	// changing orders changes; answers read data without it.
	changing sync.Mutex
	data     atomic.Pointer[records]
	// failed is why no change is taken any more; guarded by changing.
	failed error
}

// Record is one name.
type Record struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	TTL     uint32     `json:"ttl_seconds"`
}

// records are what is answered from; they are replaced and never changed.
type records struct {
	serial uint32
	byName map[string]Record
	// above counts, for each name above a record's, how many are below it: it exists
	// though it has no record of its own.
	above map[string]int
}

// ErrFailed says that an earlier change could not be made durable: what is on the disk
// is not known, and only a restart, which reads it again, tells.
var ErrFailed = errors.New("the zone's file could not be written, and takes no more changes until the control plane is started again")

// Open reads the zone's file, or begins a new one. It starts nothing.
func Open(cfg Config) (*Server, error) {
	zone, err := canonical(cfg.Zone)
	if err != nil {
		return nil, err
	}
	cfg.Zone = zone
	if len(nameServer+zone) > maxNameBytes {
		return nil, fmt.Errorf("zone %q: too long a name to have names below it", cfg.Zone)
	}
	if !cfg.Address.Is4() {
		return nil, fmt.Errorf("zone %s: the name server's address is %q, want IPv4", cfg.Zone, cfg.Address)
	}
	s := &Server{cfg: cfg}
	data, err := s.load()
	if err != nil {
		return nil, err
	}
	s.data.Store(data)
	return s, nil
}

// maxNameBytes is the longest name as text, with its final dot.
const maxNameBytes = 254

// canonical is a name as the zone keeps it: lower case, with its final dot.
func canonical(name string) (string, error) {
	if name == "" || name == "." {
		return "", errors.New("an empty domain name")
	}
	labels, ok := dns.IsDomainName(name)
	if !ok || labels == 0 || len(name) > maxNameBytes || strings.ContainsAny(name, "\\\x00 ") {
		return "", fmt.Errorf("%q is not a domain name", name)
	}
	return strings.ToLower(dns.Fqdn(name)), nil
}

// Point implements failover.DNS: the record is durable before it is answered, and is
// answered when Point returns.
func (s *Server) Point(ctx context.Context, name, address string, ttl time.Duration) error {
	r, err := s.record(name, address, ttl)
	if err != nil {
		return err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("point %s to %s: nothing was changed: %w", r.Name, r.Address, err)
	}
	if s.failed != nil {
		return s.failed
	}
	now := s.data.Load()
	before, there := now.byName[r.Name]
	if there && before == r {
		return nil
	}
	if !there && len(now.byName) >= maxNames {
		return fmt.Errorf("point %s: the zone has %d names, which is the most it may have", r.Name, maxNames)
	}
	next := now.with(r, s.cfg.Zone)
	if err := s.save(next); err != nil {
		s.failed = fmt.Errorf("%w: %w", ErrFailed, err)
		return s.failed
	}
	s.data.Store(next)
	return nil
}

// record checks what a name is to be.
func (s *Server) record(name, address string, ttl time.Duration) (Record, error) {
	canon, err := canonical(name)
	if err != nil {
		return Record{}, err
	}
	ip, err := netip.ParseAddr(address)
	switch {
	case err != nil:
		return Record{}, fmt.Errorf("point %s: %w", canon, err)
	case !ip.Is4():
		return Record{}, fmt.Errorf("point %s: %s is no IPv4 address, and the zone has A records only", canon, ip)
	case ttl < 0 || ttl > maxTTL || ttl%time.Second != 0:
		return Record{}, fmt.Errorf("point %s: a TTL of %s, want whole seconds up to %s", canon, ttl, maxTTL)
	case !dns.IsSubDomain(s.cfg.Zone, canon):
		return Record{}, fmt.Errorf("point %s: it is not in the zone %s", canon, s.cfg.Zone)
	case canon == nameServer+s.cfg.Zone:
		return Record{}, fmt.Errorf("point %s: that name is the name server's own", canon)
	}
	return Record{Name: canon, Address: ip, TTL: uint32(ttl / time.Second)}, nil
}

// Records are the names, in their order, and the serial of the zone.
func (s *Server) Records() (serial uint32, list []Record) {
	now := s.data.Load()
	return now.serial, now.sorted()
}

func (d *records) sorted() []Record {
	list := make([]Record, 0, len(d.byName))
	for _, r := range d.byName {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b Record) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// with is the zone with one more change. The serial goes round as RFC 1982 has it.
func (d *records) with(r Record, zone string) *records {
	list := make([]Record, 0, len(d.byName)+1)
	for name, old := range d.byName {
		if name != r.Name {
			list = append(list, old)
		}
	}
	return newRecords(d.serial+1, append(list, r), zone)
}

func newRecords(serial uint32, list []Record, zone string) *records {
	d := &records{serial: serial, byName: make(map[string]Record, len(list)), above: map[string]int{zone: 1}}
	for _, r := range list {
		d.byName[r.Name] = r
		for name := r.Name; name != zone; {
			_, parent, _ := strings.Cut(name, ".")
			name = parent
			d.above[name]++
		}
	}
	return d
}
