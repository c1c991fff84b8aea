package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"

	"originchain/shared/instance"
	"originchain/shared/tenant"
)

// Parse reads a configuration. source says in the error where it came from. The error
// is an *Error.
func Parse(source string, text []byte) (*Config, error) {
	var faults []string
	if !json.Valid(text) {
		var v any
		return nil, &Error{Source: source, Faults: []string{fmt.Sprintf("it is not JSON: %v", json.Unmarshal(text, &v))}}
	}
	c := &Config{}
	if f := object(text, "", &faults); f != nil {
		c.read(f)
		c.check(f)
	}
	if len(faults) > 0 {
		return nil, &Error{Source: source, Faults: faults}
	}
	return c, nil
}

func (c *Config) read(f *fields) {
	c.Account = f.needed("account", "give the 12 digits of the AWS account")
	c.Region = f.needed("region", "name the region, such as eu-central-1")
	c.Zones = f.texts("zones")
	c.CIDR = f.prefix("cidr", f.text("cidr", defaultCIDR))
	for i, text := range f.texts("client_cidrs") {
		c.ClientCIDRs = append(c.ClientCIDRs, f.prefix(fmt.Sprintf("client_cidrs[%d]", i), text))
	}
	c.MailFrom = f.needed("mail_from", "give the address that e-mail to subscribers is from, of a verified identity of SES in the region")
	c.Pipeline = readPipeline(f)
	var tenants []json.RawMessage
	value(f, "tenants", "a list of objects", &tenants)
	if len(tenants) > MaxTenants {
		f.fault("tenants", "%d of them; a region has at most %d, use another account or region for the rest", len(tenants), MaxTenants)
		tenants = nil
	}
	for i, text := range tenants {
		if t := object(text, fmt.Sprintf("tenants[%d].", i), f.faults); t != nil {
			c.Tenants = append(c.Tenants, readTenant(t, c.Region))
			t.unknown()
		}
	}
	f.unknown()
}

func readTenant(f *fields, region string) Tenant {
	t := Tenant{
		Name:             f.needed("name", "give the instance's short name, such as acme"),
		InstanceID:       f.text("instance_id", ""),
		Tier:             f.needed("tier", "it is one of "+strings.Join(tierSlugs(), ", ")),
		Zone:             f.needed("zone", "name the domain of the hosted zone, such as db.example.com"),
		ZoneID:           f.needed("zone_id", "give the id of the hosted zone, such as Z0123456789ABCDEFGHIJ"),
		RetentionDays:    f.number("retention_days", defaultRetentionDays),
		TailShip:         f.truth("tail_ship"),
		Architecture:     choice(f, "architecture", ARM64, ARM64, AMD64),
		DedicatedTenancy: f.truth("dedicated_tenancy"),
		KeyARN:           f.text("key_arn", ""),
		ArchiveRegion:    f.text("archive_region", region),
		AllowCrossRegion: f.truth("allow_cross_region"),
	}
	t.Record = f.text("record", t.Name+"."+t.Zone)
	t.Machine = Machines()[t.Tier]
	t.Followers = f.number("followers", t.Machine.Followers)
	mode := Async
	if t.Followers > 0 {
		mode = Wait
	}
	t.Sync = choice(f, "sync", mode, Async, Wait, Strict)
	t.CA = f.certificates("ca")
	t.checkNames(f, region)
	t.checkMachines(f)
	return t
}

// Forms of names.
var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	nameForm    = regexp.MustCompile(instance.NameForm)
	zoneIDForm  = regexp.MustCompile(`^Z[A-Z0-9]{1,31}$`)
	labelForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	keyForm     = regexp.MustCompile(`^arn:aws:kms:([a-z0-9-]+):([0-9]{12}):key/[0-9a-zA-Z-]{1,64}$`)
)

// reserved are names of stacks, of what the registry keeps beside the tenants', and of the
// buckets of the status page.
func reserved() []string { return []string{"control", "network", "pipeline", "status", "status-logs"} }

// checkNames checks what the tenant and its parts are called.
func (t *Tenant) checkNames(f *fields, region string) {
	named := nameForm.MatchString(t.Name) && !strings.HasSuffix(t.Name, "-") && !strings.Contains(t.Name, "--")
	if t.Name != "" && !named {
		f.fault("name", "%q: use 2 to 31 lower-case letters, digits and single hyphens, a letter first and no hyphen last", t.Name)
	}
	if slices.Contains(reserved(), t.Name) {
		f.fault("name", "%q is what the deployment calls a part of its own; take another one", t.Name)
	}
	if id, err := ulid.ParseStrict(t.InstanceID); t.InstanceID == "" {
		f.fault("instance_id", "missing; the id of a new instance can be %s", ulid.Make())
	} else if err != nil || id.String() != t.InstanceID {
		f.fault("instance_id", "%q is not a ULID (26 characters in upper case); the id of a new instance can be %s", t.InstanceID, ulid.Make())
	}
	t.checkZone(f, named)
	t.checkArchive(f, region)
}

// checkZone checks the tenant's names in DNS.
func (t *Tenant) checkZone(f *fields, named bool) {
	zone := t.Zone != "" && f.domain("zone", t.Zone)
	if t.ZoneID != "" && !zoneIDForm.MatchString(t.ZoneID) {
		f.fault("zone_id", "%q is no id of a hosted zone; `aws route53 list-hosted-zones-by-name` shows it, behind /hostedzone/", t.ZoneID)
	}
	_, said := f.values["record"] // or it follows from the name, whose fault is noted
	if zone && (said || named) && f.domain("record", t.Record) && t.Record != t.Zone && !strings.HasSuffix(t.Record, "."+t.Zone) {
		f.fault("record", "%s is not in the zone %s, so nothing there could point it at a writer", t.Record, t.Zone)
	}
	if long := t.OthersName(); zone && len(t.Record) <= maxNameBytes && len(long) > maxNameBytes {
		f.fault("record", "%d bytes, and there are names below it that are %d longer; at most %d all together", len(t.Record), len(long)-len(t.Record), maxNameBytes)
	}
}

// checkArchive checks where the tenant's data is.
func (t *Tenant) checkArchive(f *fields, region string) {
	switch {
	case t.ArchiveRegion != region && zonesOf(t.ArchiveRegion) == nil:
		f.fault("archive_region", "%q is not a commercial region", t.ArchiveRegion)
	case t.ArchiveRegion != region && !t.AllowCrossRegion:
		f.fault("archive_region", "%s is not the instance's region %s: its data would leave the region; leave it out, or set allow_cross_region as well", t.ArchiveRegion, region)
	case t.ArchiveRegion == region && t.AllowCrossRegion:
		f.fault("allow_cross_region", "nothing crosses a region; leave it out, or name an archive_region")
	}
}

// checkMachines checks what the tenant runs on.
func (t *Tenant) checkMachines(f *fields) {
	_, known := tenant.TierBySlug(t.Tier)
	if _, made := Machines()[t.Tier]; t.Tier != "" && (!known || !made) {
		f.fault("tier", "%q is not known; it is one of %s", t.Tier, strings.Join(tierSlugs(), ", "))
	}
	if t.Followers < 0 || t.Followers > MaxFollowers {
		f.fault("followers", "%d: it is 0 to %d, as each node has a zone of its own", t.Followers, MaxFollowers)
	} else if t.Followers == 0 && t.Sync != Async {
		f.fault("sync", "%s waits for a follower, and there is none; set followers, or sync to async", t.Sync)
	}
	if t.RetentionDays < MinRetentionDays || t.RetentionDays > MaxRetentionDays {
		f.fault("retention_days", "%d: it is %d to %d", t.RetentionDays, MinRetentionDays, MaxRetentionDays)
	}
	if t.DedicatedTenancy && t.Machine.Burstable {
		f.fault("dedicated_tenancy", "the machines of tier %s are burstable, which have no hosts of their own; take a larger tier", t.Tier)
	}
}

// maxNameBytes is the longest name of DNS as text.
const maxNameBytes = 253

// domain notes a text that is no domain name below a top-level one.
func (f *fields) domain(key, text string) bool {
	labels := strings.Split(text, ".")
	ok := len(labels) > 1 && len(text) <= maxNameBytes && !slices.ContainsFunc(labels, func(l string) bool { return !labelForm.MatchString(l) })
	if !ok && !f.faulty(key) {
		f.fault(key, "%q is not a domain name; give it in lower case, without a dot at its end, such as db.example.com", text)
	}
	return ok
}

// prefix is a private range of addresses; the zero prefix after a fault.
func (f *fields) prefix(key, text string) netip.Prefix {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !p.Addr().Is4():
		f.fault(key, "%q is not a range of IPv4 addresses; give it as 10.64.0.0/16", text)
	case p != p.Masked():
		f.fault(key, "%s has bits beyond its mask; that range is %s", text, p.Masked())
	case !private(p):
		f.fault(key, "%s is not private; use a part of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10", text)
	default:
		return p
	}
	return netip.Prefix{}
}

// private says that all of a range is for private networks.
func private(p netip.Prefix) bool {
	for _, text := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"} {
		if in := netip.MustParsePrefix(text); in.Bits() <= p.Bits() && in.Contains(p.Addr()) {
			return true
		}
	}
	return false
}
