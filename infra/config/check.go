package config

import (
	"fmt"
	"slices"
	"strings"
)

// check looks at what several keys say together.
func (c *Config) check(f *fields) {
	if c.Account != "" && !accountForm.MatchString(c.Account) {
		f.fault("account", "%q is not the 12 digits of an AWS account", c.Account)
	}
	c.checkMail(f)
	c.checkZones(f)
	c.checkNetworks(f)
	c.checkKeys(f)
	c.checkUnique(f)
}

// checkZones fills in the zones of the region, or checks those given.
func (c *Config) checkZones(f *fields) {
	if c.Region == "" {
		return
	}
	of := zonesOf(c.Region)
	switch {
	case of == nil:
		f.fault("region", "%q is not a commercial region", c.Region)
	case len(of) < zoneCount:
		f.fault("region", "%s has %d availability zones for new machines, and the nodes of an instance need %d; take another region", c.Region, len(of), zoneCount)
	case c.Zones == nil:
		c.Zones = of[:zoneCount]
	case len(c.Zones) != zoneCount:
		f.fault("zones", "%d of them; name %d, one for each subnet", len(c.Zones), zoneCount)
	default:
		for i, z := range c.Zones {
			letter, ours := strings.CutPrefix(z, c.Region)
			if !ours || len(letter) != 1 || letter[0] < 'a' || letter[0] > 'z' {
				f.fault(fmt.Sprintf("zones[%d]", i), "%q is not a zone of %s, such as %s", z, c.Region, of[0])
			} else if slices.Contains(c.Zones[:i], z) {
				f.fault(fmt.Sprintf("zones[%d]", i), "%s is named twice; nodes of one instance may not share a zone", z)
			}
		}
	}
}

func (c *Config) checkNetworks(f *fields) {
	if c.CIDR.IsValid() && (c.CIDR.Bits() < minVPCBits || c.CIDR.Bits() > maxVPCBits) {
		f.fault("cidr", "%s: a VPC has a mask of /%d to /%d here", c.CIDR, minVPCBits, maxVPCBits)
	}
	if len(c.ClientCIDRs) > MaxClientCIDRs {
		f.fault("client_cidrs", "%d of them; at most %d, join neighbours into one range", len(c.ClientCIDRs), MaxClientCIDRs)
	}
	for i, p := range c.ClientCIDRs {
		key := fmt.Sprintf("client_cidrs[%d]", i)
		if p.IsValid() && c.CIDR.IsValid() && p.Overlaps(c.CIDR) {
			f.fault(key, "%s overlaps the VPC's cidr %s: no route could tell them apart; move one of them", p, c.CIDR)
		}
		for j, q := range c.ClientCIDRs[:i] {
			if p.IsValid() && q.IsValid() && p.Overlaps(q) {
				f.fault(key, "%s overlaps client_cidrs[%d], %s; give the wider one alone", p, j, q)
			}
		}
	}
}

// checkKeys checks the keys of tenants: one elsewhere can encrypt nothing here.
func (c *Config) checkKeys(f *fields) {
	for i, t := range c.Tenants {
		if t.KeyARN == "" {
			continue
		}
		key := fmt.Sprintf("tenants[%d].key_arn", i)
		switch m := keyForm.FindStringSubmatch(t.KeyARN); {
		case m == nil:
			f.fault(key, "%q is not the ARN of a KMS key (arn:aws:kms:<region>:<account>:key/<id>); an alias does not do", t.KeyARN)
		case m[1] != c.Region:
			f.fault(key, "the key is in %s, and encrypts volumes in %s: make a key there", m[1], c.Region)
		case t.ArchiveRegion != c.Region:
			f.fault(key, "the key is in %s and cannot encrypt an archive in %s; leave one of them out", m[1], t.ArchiveRegion)
		}
	}
}

// checkUnique checks what no two tenants may share.
func (c *Config) checkUnique(f *fields) {
	seen := make(map[string]int)
	once := func(i int, field, value string) bool {
		if value == "" {
			return false
		}
		if j, twice := seen[field+" "+value]; twice {
			f.fault(fmt.Sprintf("tenants[%d].%s", i, field), "%s is that of tenants[%d] too; each has its own", value, j)
			return false
		}
		seen[field+" "+value] = i
		return true
	}
	zones := make(map[string]string)
	for i, t := range c.Tenants {
		once(i, "name", t.Name)
		once(i, "instance_id", t.InstanceID)
		if t.Name != "" && t.Zone != "" && once(i, "record", t.Record) {
			for j := range zoneCount { // below it are the names of nodes
				once(i, "record", t.NodeName(j))
			}
			once(i, "record", t.AutoName())
			once(i, "record", t.OthersName())
		}
		if t.ZoneID == "" || t.Zone == "" {
			continue
		}
		if other, known := zones[t.ZoneID]; known && other != t.Zone {
			f.fault(fmt.Sprintf("tenants[%d].zone_id", i), "%s is the zone %s at another tenant, and %s here; one of them is not ours", t.ZoneID, other, t.Zone)
		}
		zones[t.ZoneID] = t.Zone
	}
}
