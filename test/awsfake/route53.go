package awsfake

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"originchain/test/awsfake/model"
)

// Route53 is Amazon Route 53: hosted zones and their records.
type Route53 struct {
	*service
	zones   map[string]*zone
	changes map[string]*change
	pending []int
	serial  int
}

// recordKey says which record set is meant; set is the identifier of one that is routed.
type recordKey struct{ name, kind, set string }

type zone struct {
	id, name string
	// records are as the service has them; served are as the name servers have them.
	records, served map[recordKey]model.Struct
}

// change is PENDING for as many polls, and then the name servers have it, with all that
// came before it.
type change struct {
	id    string
	zone  *zone
	polls int
	at    time.Time
	after map[recordKey]model.Struct
	done  bool
	order int
}

// defaultPending is how many polls a change is PENDING for if nobody said.
const defaultPending = 1

func newRoute53(f *Fake) *Route53 {
	r := &Route53{zones: map[string]*zone{}, changes: map[string]*change{}}
	r.service = f.serve("route53", "route53", map[string]operation{
		"ChangeResourceRecordSets": r.changeRecords, "GetChange": r.getChange,
		"ListResourceRecordSets": r.listRecords, "GetHostedZone": r.getZone,
	})
	return r
}

// Zone adds a hosted zone, and returns its id.
func (r *Route53) Zone(name string) (id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serial++
	id = fmt.Sprintf("Z%019d", r.serial)
	name = dns.CanonicalName(name)
	z := &zone{id: id, name: name, records: map[recordKey]model.Struct{}}
	z.records[recordKey{name, "SOA", ""}] = recordSet(name, "SOA", 900, "ns-1."+name+" hostmaster."+name+" 1 7200 900 1209600 86400")
	z.records[recordKey{name, "NS", ""}] = recordSet(name, "NS", 172800, "ns-1."+name)
	z.served = maps.Clone(z.records)
	r.zones[id] = z
	return id
}

func recordSet(name, kind string, ttl int64, values ...string) model.Struct {
	list := make([]any, len(values))
	for i, v := range values {
		list[i] = model.Struct{"Value": v}
	}
	return model.Struct{"Name": name, "Type": kind, "TTL": ttl, "ResourceRecords": list}
}

// Pending says for how many polls the next changes are PENDING, one each.
func (r *Route53) Pending(polls ...int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = append(r.pending, polls...)
}

// Put makes a record set that is there and served, as a person or a stack would have: its
// members are those of the API, as Weight and SetIdentifier.
func (r *Route53) Put(zoneID string, set model.Struct) {
	r.mu.Lock()
	defer r.mu.Unlock()
	z := r.zones[zoneID]
	z.records[keyOf(set)] = set
	z.served[keyOf(set)] = set
}

// Record is what the service has of a name, of a zone's simple records: its TTL and
// values; it need not be served yet.
func (r *Route53) Record(zoneID, name, kind string) (ttl int64, values []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	set := r.zones[zoneID].records[recordKey{dns.CanonicalName(name), kind, ""}]
	ttl, _ = set["TTL"].(int64)
	return ttl, valuesOf(set)
}

func valuesOf(set model.Struct) (values []string) {
	list, _ := set["ResourceRecords"].([]any)
	for _, item := range list {
		v, _ := item.(model.Struct)["Value"].(string)
		values = append(values, v)
	}
	return values
}

func keyOf(set model.Struct) recordKey {
	name, _ := set["Name"].(string)
	kind, _ := set["Type"].(string)
	id, _ := set["SetIdentifier"].(string)
	return recordKey{dns.CanonicalName(name), kind, id}
}

func (r *Route53) zone(in model.Struct, member string) (*zone, error) {
	id := strings.TrimPrefix(in[member].(string), "/hostedzone/")
	z := r.zones[id]
	if z == nil {
		return nil, refuse("NoSuchHostedZone", "No hosted zone found with ID: %s", id)
	}
	return z, nil
}

// changeRecords carries out a batch whole, or not at all.
func (r *Route53) changeRecords(in model.Struct) (model.Struct, error) {
	z, err := r.zone(in, "HostedZoneId")
	if err != nil {
		return nil, err
	}
	next := maps.Clone(z.records)
	var faults []string
	for _, c := range in["ChangeBatch"].(model.Struct)["Changes"].([]any) {
		one := c.(model.Struct)
		set := maps.Clone(one["ResourceRecordSet"].(model.Struct))
		set["Name"] = dns.CanonicalName(set["Name"].(string))
		if set["ResourceRecords"] == nil && set["AliasTarget"] == nil || set["ResourceRecords"] != nil && set["TTL"] == nil {
			return nil, refuse("InvalidInput", "Invalid request: a record set has a TTL and records, or an alias")
		}
		if fault := z.apply(next, one["Action"].(string), set); fault != "" {
			faults = append(faults, fault)
		}
	}
	if len(faults) > 0 {
		return nil, refuse("InvalidChangeBatch", "[%s]", strings.Join(faults, ", "))
	}
	z.records = next
	r.serial++
	ch := &change{id: fmt.Sprintf("/change/C%019d", r.serial), zone: z, polls: defaultPending, at: time.Now().UTC(), after: maps.Clone(next), order: r.serial}
	if len(r.pending) > 0 {
		ch.polls, r.pending = r.pending[0], r.pending[1:]
	}
	r.changes[ch.id] = ch
	return model.Struct{"ChangeInfo": ch.info()}, nil
}

// apply changes one record set, or says as Route 53 does why not.
func (z *zone) apply(next map[recordKey]model.Struct, action string, set model.Struct) string {
	key := keyOf(set)
	there, exists := next[key]
	what := fmt.Sprintf("resource record set [name='%s', type='%s']", key.name, key.kind)
	switch {
	case !dns.IsSubDomain(z.name, key.name):
		return fmt.Sprintf("RRSet with DNS name %s is not permitted in zone %s", key.name, z.name)
	case action == "CREATE" && exists:
		return "Tried to create " + what + " but it already exists"
	case action == "DELETE" && !exists:
		return "Tried to delete " + what + " but it was not found"
	case action == "DELETE" && fmt.Sprint(there) != fmt.Sprint(set):
		return "Tried to delete " + what + " but the values provided do not match the current values"
	case action == "DELETE":
		delete(next, key)
		return ""
	}
	for other := range next {
		if other.name != key.name || other == key {
			continue
		}
		if (other.kind == "CNAME") != (key.kind == "CNAME") {
			return fmt.Sprintf("RRSet of type %s with DNS name %s is not permitted as it conflicts with other records with the same DNS name in zone %s", key.kind, key.name, z.name)
		}
		if other.kind == key.kind && (other.set == "") != (key.set == "") {
			return fmt.Sprintf("RRSet with DNS name %s, type %s, SetIdentifier %s cannot be created as a non-weighted set exists with the same name and type", key.name, key.kind, key.set)
		}
	}
	for _, v := range valuesOf(set) {
		if ip, err := netip.ParseAddr(v); key.kind == "A" && (err != nil || !ip.Is4()) {
			return fmt.Sprintf("Invalid Resource Record: 'FATAL problem: ARRDATAIllegalIPv4Address (Value is not a valid IPv4 address) encountered with '%s''", v)
		}
	}
	next[key] = set
	return ""
}

func (c *change) info() model.Struct {
	status := "PENDING"
	if c.done {
		status = "INSYNC"
	}
	return model.Struct{"Id": c.id, "Status": status, "SubmittedAt": c.at}
}

func (r *Route53) getChange(in model.Struct) (model.Struct, error) {
	id := in["Id"].(string)
	ch := r.changes["/change/"+strings.TrimPrefix(id, "/change/")]
	if ch == nil {
		return nil, refuse("NoSuchChange", "No change found with ID: %s", id)
	}
	if ch.polls > 0 {
		ch.polls--
	} else if !ch.done {
		r.sync(ch)
	}
	return model.Struct{"ChangeInfo": ch.info()}, nil
}

// sync gives the name servers a change, and what came before it in its zone.
func (r *Route53) sync(ch *change) {
	for _, other := range r.changes {
		if other.zone == ch.zone && other.order <= ch.order {
			other.done = true
		}
	}
	ch.zone.served = ch.after
}

// listRecords lists in Route 53's order: by labels from the right, then by type.
func (r *Route53) listRecords(in model.Struct) (model.Struct, error) {
	z, err := r.zone(in, "HostedZoneId")
	if err != nil {
		return nil, err
	}
	most := 300
	if text, ok := in["MaxItems"].(string); ok {
		if most, err = strconv.Atoi(text); err != nil || most < 1 {
			return nil, refuse("InvalidInput", "maxitems is %q", text)
		}
	}
	name, named := in["StartRecordName"].(string)
	kind, kinded := in["StartRecordType"].(string)
	set, _ := in["StartRecordIdentifier"].(string)
	if kinded && !named {
		return nil, refuse("InvalidInput", "a type is given without a name")
	}
	start := recordKey{dns.CanonicalName(name), kind, set}
	var keys []recordKey
	for key := range z.records {
		if !named || compareKeys(key, start) >= 0 {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, compareKeys)
	out := model.Struct{"MaxItems": strconv.Itoa(most), "IsTruncated": len(keys) > most}
	if len(keys) > most {
		out["NextRecordName"], out["NextRecordType"] = keys[most].name, keys[most].kind
		if keys[most].set != "" {
			out["NextRecordIdentifier"] = keys[most].set
		}
		keys = keys[:most]
	}
	list := make([]any, len(keys))
	for i, key := range keys {
		list[i] = z.records[key]
	}
	out["ResourceRecordSets"] = list
	return out, nil
}

func compareKeys(a, b recordKey) int {
	reversed := func(name string) string {
		labels := dns.SplitDomainName(name)
		slices.Reverse(labels)
		return strings.Join(labels, ".")
	}
	for _, c := range []int{strings.Compare(reversed(a.name), reversed(b.name)), strings.Compare(a.kind, b.kind)} {
		if c != 0 {
			return c
		}
	}
	return strings.Compare(a.set, b.set)
}

func (r *Route53) getZone(in model.Struct) (model.Struct, error) {
	z, err := r.zone(in, "Id")
	if err != nil {
		return nil, err
	}
	return model.Struct{
		"HostedZone": model.Struct{
			"Id": "/hostedzone/" + z.id, "Name": z.name, "CallerReference": z.id,
			"Config": model.Struct{"PrivateZone": false}, "ResourceRecordSetCount": int64(len(z.records)),
		},
		"DelegationSet": model.Struct{"NameServers": []any{strings.TrimSuffix("ns-1."+z.name, ".")}},
	}, nil
}
