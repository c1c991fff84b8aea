package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"originchain/infra/config"
	"originchain/shared/tenant"
)

// tenantText is a tenant with what must be there, and more keys.
func tenantText(name, more string) string {
	return fmt.Sprintf(`{"name": %q, "instance_id": "01JD0000000000000000000%03d", "tier": "pro", "zone": "db.example.com", "zone_id": "Z0123456789ABCDEFGHIJ"%s}`,
		name, len(name), more)
}

func text(more string, tenants ...string) string {
	return fmt.Sprintf(`{"account": "111122223333", "region": "eu-central-1", "mail_from": "status@example.com"%s, "tenants": [%s]}`, more, strings.Join(tenants, ", "))
}

func TestDefaults(t *testing.T) {
	got, err := config.Parse("cdk.json", []byte(text("", tenantText("acme", ""))))
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Config{Account: "111122223333", Region: "eu-central-1", MailFrom: "status@example.com", CIDR: netip.MustParsePrefix("10.64.0.0/16"),
		Zones: []string{"eu-central-1a", "eu-central-1b", "eu-central-1c"},
		Tenants: []config.Tenant{{Name: "acme", InstanceID: "01JD0000000000000000000004", Tier: "pro", Machine: config.Machines()["pro"], Followers: 1,
			Zone: "db.example.com", ZoneID: "Z0123456789ABCDEFGHIJ", Record: "acme.db.example.com", Sync: config.Wait, RetentionDays: 30,
			Architecture: config.ARM64, ArchiveRegion: "eu-central-1"}}}
	if diff := cmp.Diff(want, got, prefixes()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if a := &got.Tenants[0]; a.SyncReplicas() != 1 || got.SubnetBits() != 18 || !slices.Equal(a.Nodes(), []string{"acme-a", "acme-b"}) {
		t.Errorf("%d, /%d, %q", a.SyncReplicas(), got.SubnetBits(), a.Nodes())
	}
}

func prefixes() cmp.Option { return cmpopts.EquateComparable(netip.Prefix{}) }

func TestEveryOption(t *testing.T) {
	got, err := config.Parse("cdk.json", []byte(`{"account": "999988887777", "region": "ap-south-1", "zones": ["ap-south-1c", "ap-south-1a", "ap-south-1d"],
		"cidr": "172.20.0.0/20", "client_cidrs": ["10.0.0.0/8", "192.168.7.0/24"], "mail_from": "a.b+c@mail.example.org",
		"pipeline": {"repository": "acme-1/origin.chain_x", "branch": "release/1.x", "environment": "prod", "provider_exists": true}, "tenants": [
		{"name": "b2", "instance_id": "01JD0000000000000000000001", "tier": "scale", "followers": 1, "zone": "example.org", "zone_id": "Z1", "record": "example.org",
		 "sync": "strict", "retention_days": 3650, "tail_ship": true, "architecture": "amd64", "dedicated_tenancy": true, "archive_region": "eu-west-1", "allow_cross_region": true},
		{"name": "c3", "instance_id": "01JD0000000000000000000002", "tier": "dev", "zone": "example.org", "zone_id": "Z1", "retention_days": 1,
		 "key_arn": "arn:aws:kms:ap-south-1:999988887777:key/mrk-1"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Config{Account: "999988887777", Region: "ap-south-1", Zones: []string{"ap-south-1c", "ap-south-1a", "ap-south-1d"},
		CIDR: netip.MustParsePrefix("172.20.0.0/20"), ClientCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.7.0/24")},
		MailFrom: "a.b+c@mail.example.org", Pipeline: &config.Pipeline{Repository: "acme-1/origin.chain_x", Branch: "release/1.x", Environment: "prod", ProviderExists: true},
		Tenants: []config.Tenant{
			{Name: "b2", InstanceID: "01JD0000000000000000000001", Tier: "scale", Machine: config.Machines()["scale"], Followers: 1, Zone: "example.org", ZoneID: "Z1",
				Record: "example.org", Sync: config.Strict, RetentionDays: 3650, TailShip: true, Architecture: config.AMD64, DedicatedTenancy: true,
				ArchiveRegion: "eu-west-1", AllowCrossRegion: true},
			{Name: "c3", InstanceID: "01JD0000000000000000000002", Tier: "dev", Machine: config.Machines()["dev"], Zone: "example.org", ZoneID: "Z1", Record: "c3.example.org",
				Sync: config.Async, RetentionDays: 1, Architecture: config.ARM64, KeyARN: "arn:aws:kms:ap-south-1:999988887777:key/mrk-1", ArchiveRegion: "ap-south-1"},
		}}
	if diff := cmp.Diff(want, got, prefixes()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// faultsOf parses what must be refused.
func faultsOf(t *testing.T, in string) []string {
	t.Helper()
	c, err := config.Parse("cdk.json", []byte(in))
	var e *config.Error
	if !errors.As(err, &e) || c != nil || len(e.Faults) == 0 {
		t.Fatalf("%s\nis %+v, %v", in, c, err)
	}
	return e.Faults
}

// broken are keys, each of which alone is one fault of a configuration.
var broken = []struct{ tenant, more, want string }{
	{"", `, "zoning": 1`, "zoning: unknown; known here are account, cidr, client_cidrs, mail_from, pipeline, region, tenants, zones"},
	{"", `, "region": "us-west-1"`, "region: us-west-1 has 2 availability zones"},
	{"", `, "region": "cn-north-1"`, `region: "cn-north-1" is not a commercial region`},
	{"", `, "account": "1234"`, `account: "1234" is not the 12 digits`},
	{"", `, "account": 111122223333`, "account: want a text in quotes, got 111122223333"},
	{"", `, "zones": ["eu-central-1a"]`, "zones: 1 of them; name 3"},
	{"", `, "zones": ["eu-central-1a", "eu-central-1b", "us-east-1c"]`, `zones[2]: "us-east-1c" is not a zone of eu-central-1`},
	{"", `, "zones": ["eu-central-1a", "eu-central-1b", "eu-central-1a"]`, "zones[2]: eu-central-1a is named twice"},
	{"", `, "cidr": "10.0.0.0"`, `cidr: "10.0.0.0" is not a range`},
	{"", `, "cidr": "fd00::/56"`, `cidr: "fd00::/56" is not a range`},
	{"", `, "cidr": "10.0.0.1/16"`, "cidr: 10.0.0.1/16 has bits beyond its mask; that range is 10.0.0.0/16"},
	{"", `, "cidr": "54.0.0.0/16"`, "cidr: 54.0.0.0/16 is not private"},
	{"", `, "cidr": "10.0.0.0/15"`, "cidr: 10.0.0.0/15: a VPC has a mask of /16 to /22"},
	{"", `, "cidr": "10.0.0.0/23"`, "cidr: 10.0.0.0/23: a VPC has a mask"},
	{"", `, "client_cidrs": ["0.0.0.0/0"]`, "client_cidrs[0]: 0.0.0.0/0 is not private"},
	{"", `, "client_cidrs": ["10.0.0.0/8"]`, "client_cidrs[0]: 10.0.0.0/8 overlaps the VPC's cidr 10.64.0.0/16"},
	{"", `, "client_cidrs": ["10.1.0.0/16", "10.1.2.0/24"]`, "client_cidrs[1]: 10.1.2.0/24 overlaps client_cidrs[0]"},
	{"", `, "client_cidrs": "10.1.0.0/16"`, "client_cidrs: want a list of texts"},
	{"", `, "mail_from": "nobody"`, `mail_from: "nobody" is not one bare e-mail address`},
	{"", `, "mail_from": "A <a@example.com>"`, "mail_from: "},
	{"", `, "mail_from": "a@example.com, b@example.com"`, "mail_from: "},
	{"", `, "mail_from": "a@localhost"`, `mail_from: "localhost" is not a domain name`},
	{"", `, "mail_from": ""`, "mail_from: missing; "},
	{"", `, "pipeline": "a/b"`, `pipeline: want an object in braces, got "a/b"`},
	{"", `, "pipeline": {}`, "pipeline.repository: missing; "},
	{"", `, "pipeline": {"repository": "a/*"}`, `pipeline.repository: "a/*" is no owner/name`},
	{"", `, "pipeline": {"repository": "a/b:ref"}`, `pipeline.repository: "a/b:ref" is no owner/name`},
	{"", `, "pipeline": {"repository": "a/b", "branch": "*"}`, `pipeline.branch: "*" is no name of a branch`},
	{"", `, "pipeline": {"repository": "a/b", "branch": ""}`, "pipeline.branch: it is empty"},
	{"", `, "pipeline": {"repository": "a/b", "environment": "${aws:x}"}`, "pipeline.environment: "},
	{"", `, "pipeline": {"repository": "a/b", "who": 1}`, "pipeline.who: unknown; known here are branch, environment, provider_exists, repository"},
	{`, "tear": "pro"`, "", "tenants[0].tear: unknown; known here are allow_cross_region, "},
	{`, "name": "Acme"`, "", `tenants[0].name: "Acme": use 2 to 31`},
	{`, "name": "acme-"`, "", `tenants[0].name: "acme-": use 2 to 31`},
	{`, "name": "control"`, "", `tenants[0].name: "control" is what the deployment calls a part of its own`},
	{`, "name": "status-logs"`, "", `tenants[0].name: "status-logs" is what the deployment calls a part of its own`},
	{`, "instance_id": ""`, "", "tenants[0].instance_id: missing; the id of a new instance can be 01"},
	{`, "instance_id": "01jd0000000000000000000001"`, "", `tenants[0].instance_id: "01jd0000000000000000000001" is not a ULID`},
	{`, "tier": "huge"`, "", `tenants[0].tier: "huge" is not known; it is one of dev, starter, pro, scale, dedicated`},
	{`, "tier": ""`, "", "tenants[0].tier: missing; it is one of dev"},
	{`, "zone": "localhost"`, "", `tenants[0].zone: "localhost" is not a domain name`},
	{`, "zone": "db.example.com."`, "", `tenants[0].zone: "db.example.com." is not a domain name`},
	{`, "zone_id": "/hostedzone/Z1"`, "", `tenants[0].zone_id: "/hostedzone/Z1" is no id`},
	{`, "record": "acme.example.com"`, "", "tenants[0].record: acme.example.com is not in the zone db.example.com"},
	{`, "record": "evildb.example.com"`, "", "tenants[0].record: evildb.example.com is not in the zone"},
	{`, "record": "a_b.db.example.com"`, "", `tenants[0].record: "a_b.db.example.com" is not a domain name`},
	{`, "record": "` + strings.Repeat("a23456789.", 23) + `db.example.com"`, "", "tenants[0].record: 244 bytes, and there are names below it that are 12 longer; at most 253"},
	{`, "ca": 1`, "", "tenants[0].ca: want a text in quotes"},
	{`, "ca": "/etc/ca.crt"`, "", "tenants[0].ca: there is no certificate in PEM in it"},
	{`, "sync": "maybe"`, "", `tenants[0].sync: "maybe" is not known; it is one of async, sync, strict`},
	{`, "followers": 0, "sync": "strict"`, "", "tenants[0].sync: strict waits for a follower, and there is none"},
	{`, "followers": 3`, "", "tenants[0].followers: 3: it is 0 to 2"},
	{`, "followers": -1`, "", "tenants[0].followers: -1: it is 0 to 2"},
	{`, "retention_days": 0`, "", "tenants[0].retention_days: 0: it is 1 to 3650"},
	{`, "retention_days": 3651`, "", "tenants[0].retention_days: 3651: it is 1 to 3650"},
	{`, "retention_days": 1.5`, "", "tenants[0].retention_days: want a whole number, got 1.5"},
	{`, "tail_ship": "yes"`, "", `tenants[0].tail_ship: want true or false, got "yes"`},
	{`, "architecture": "riscv"`, "", `tenants[0].architecture: "riscv" is not known; it is one of arm64, amd64`},
	{`, "tier": "dev", "dedicated_tenancy": true`, "", "tenants[0].dedicated_tenancy: the machines of tier dev are burstable"},
	{`, "key_arn": "alias/mine"`, "", `tenants[0].key_arn: "alias/mine" is not the ARN of a KMS key`},
	{`, "key_arn": "arn:aws:kms:eu-west-1:111122223333:key/1"`, "", "tenants[0].key_arn: the key is in eu-west-1"},
	{`, "key_arn": "arn:aws:kms:eu-central-1:111122223333:key/1", "archive_region": "eu-west-1", "allow_cross_region": true`, "", "tenants[0].key_arn: the key is in eu-central-1 and cannot encrypt an archive in eu-west-1"},
	{`, "archive_region": "eu-west-1"`, "", "tenants[0].archive_region: eu-west-1 is not the instance's region eu-central-1"},
	{`, "archive_region": "moon-1"`, "", `tenants[0].archive_region: "moon-1" is not a commercial region`},
	{`, "allow_cross_region": true`, "", "tenants[0].allow_cross_region: nothing crosses a region"},
}

func TestEachFaultAlone(t *testing.T) {
	for _, c := range broken {
		in := text(c.more, tenantText("acme", c.tenant))
		got := faultsOf(t, in)
		if len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
			t.Errorf("%s%s\n got %q\nwant one that begins with %q", c.tenant, c.more, got, c.want)
		}
	}
}

func TestWhatTenantsMayNotShare(t *testing.T) {
	got := faultsOf(t, text("", tenantText("acme", ""), tenantText("acme", ""), tenantText("bravo", `, "record": "acme.db.example.com"`),
		tenantText("charlie", `, "zone": "other.org"`), tenantText("deltas", `, "record": "b.charlie.other.org", "zone": "other.org", "zone_id": "Z2"`),
		tenantText("november", `, "record": "others.auto.deltas.other.org", "zone": "other.org", "zone_id": "Z2"`), tenantText("charlies9", `, "record": "deltas.other.org", "zone": "other.org", "zone_id": "Z2"`)))
	want := []string{
		"tenants[1].name: acme is that of tenants[0] too; each has its own",
		"tenants[1].instance_id: 01JD0000000000000000000004 is that of tenants[0] too; each has its own",
		"tenants[1].record: acme.db.example.com is that of tenants[0] too; each has its own",
		"tenants[2].record: acme.db.example.com is that of tenants[0] too; each has its own",
		"tenants[3].zone_id: Z0123456789ABCDEFGHIJ is the zone db.example.com at another tenant, and other.org here; one of them is not ours",
		"tenants[4].record: b.charlie.other.org is that of tenants[3] too; each has its own",
		"tenants[6].record: others.auto.deltas.other.org is that of tenants[5] too; each has its own",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestNothingAtAll(t *testing.T) {
	got := faultsOf(t, `{"tenants": [{}]}`)
	var keys []string
	for _, f := range got {
		key, _, _ := strings.Cut(f, ":")
		keys = append(keys, key)
	}
	if diff := cmp.Diff([]string{"account", "region", "mail_from", "tenants[0].name", "tenants[0].tier", "tenants[0].zone", "tenants[0].zone_id", "tenants[0].instance_id"}, keys); diff != "" {
		t.Errorf("(-want +got)\n%s\n%s", diff, strings.Join(got, "\n"))
	}
	for _, in := range []string{"", "[]", "null", "7", "{", `{"account"`} {
		faultsOf(t, in)
	}
	for in, want := range map[string]string{text("", "7"): "tenants[0]: want an object in braces, got 7", `{"account": "111122223333", "region": "eu-central-1", "mail_from": "a@b.cc", "tenants": {}}`: "tenants: want a list of objects, got {}"} {
		if got := faultsOf(t, in); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q", in, got)
		}
	}
	many := slices.Repeat([]string{"{}"}, config.MaxTenants+1)
	if got := faultsOf(t, text("", many...)); len(got) != 1 || !strings.HasPrefix(got[0], "tenants: 101 of them") {
		t.Error(got)
	}
	ranges := make([]string, config.MaxClientCIDRs+1)
	for i := range ranges {
		ranges[i] = fmt.Sprintf(`"10.%d.0.0/16"`, i)
	}
	if got := faultsOf(t, text(`, "client_cidrs": [`+strings.Join(ranges, ",")+`]`)); len(got) != 1 || !strings.HasPrefix(got[0], "client_cidrs: 21 of them") {
		t.Error(got)
	}
}

// TestAnyFaultsTogether: however faults are put together, each is listed.
func TestAnyFaultsTogether(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var tenants, want []string
		for i := range 1 + r.IntN(5) {
			pick := broken[r.IntN(len(broken))]
			if pick.tenant == "" {
				tenants = append(tenants, unique(i, ""))
				continue
			}
			tenants = append(tenants, unique(i, pick.tenant))
			want = append(want, strings.Replace(pick.want, "tenants[0]", fmt.Sprintf("tenants[%d]", i), 1))
		}
		if len(want) == 0 {
			continue
		}
		got := faultsOf(t, text(`, "stray": 1`, tenants...))
		for _, w := range append(want, "stray: unknown") {
			if !slices.ContainsFunc(got, func(f string) bool { return strings.HasPrefix(f, w) }) {
				t.Fatalf("seed %d: %q is not in\n%s", seed, w, strings.Join(got, "\n"))
			}
		}
	}
}

// unique is a tenant that shares nothing with those of other numbers.
func unique(i int, more string) string {
	return fmt.Sprintf(`{"name": "t%d-x", "instance_id": "01JD00000000000000000000%02d", "tier": "pro", "zone": "db.example.com", "zone_id": "Z0123456789ABCDEFGHIJ"%s}`, i, i, more)
}

// FuzzParse: whatever the text, it is either refused with faults that can be read, or
// everything in it can be built.
func FuzzParse(f *testing.F) {
	f.Add(text("", tenantText("acme", "")))
	for _, c := range broken {
		f.Add(text(c.more, tenantText("acme", c.tenant)))
	}
	f.Fuzz(func(t *testing.T, in string) {
		c, err := config.Parse("fuzz", []byte(in))
		if err != nil {
			var e *config.Error
			if !errors.As(err, &e) || len(e.Faults) == 0 {
				t.Fatalf("%v", err)
			}
			for _, fault := range e.Faults {
				if !strings.Contains(fault, ": ") || fault == "" {
					t.Errorf("%q names no key", fault)
				}
			}
			return
		}
		if !json.Valid([]byte(in)) {
			t.Fatal("taken, and no JSON")
		}
		sound(t, c)
	})
}

// sound holds for whatever Parse gives out.
func sound(t *testing.T, c *config.Config) {
	t.Helper()
	if len(c.Account) != 12 || len(c.Zones) != 3 || !c.CIDR.Addr().IsPrivate() && !netip.MustParsePrefix("100.64.0.0/10").Overlaps(c.CIDR) || c.SubnetBits() > 28 {
		t.Errorf("%+v", c)
	}
	names := make(map[string]bool)
	for _, n := range c.Tenants {
		tier, known := tenant.TierBySlug(n.Tier)
		if !known || names[n.Name] || len(n.Name) > 31 || n.InstanceID == "" || !strings.HasSuffix("."+n.Record, "."+n.Zone) || n.Machine.Type(n.Architecture) == "" {
			t.Errorf("%+v", n)
		}
		if names[n.Name] = true; len(n.Nodes()) > len(c.Zones) || n.SyncReplicas() > n.Followers || tier.Slug == "" {
			t.Errorf("%+v", n)
		}
		if (n.ArchiveRegion != c.Region) != n.AllowCrossRegion {
			t.Errorf("the archive is in %s, the instance in %s", n.ArchiveRegion, c.Region)
		}
	}
}

// TestMachinesFitTheTiers: each tier has the machine that its table promises, of volumes
// that gp3 can be.
func TestMachinesFitTheTiers(t *testing.T) {
	machines := config.Machines()
	// Processors and memory in GiB of the sizes used.
	sizes := map[string][2]int{"micro": {2, 1}, "large": {2, 4}, "xlarge": {4, 16}, "4xlarge": {16, 64}, "8xlarge": {32, 128}}
	for _, tier := range tenant.Tiers() {
		m, ok := machines[tier.Slug]
		if !ok {
			t.Errorf("%s has no machine", tier.Slug)
			continue
		}
		delete(machines, tier.Slug)
		for _, a := range []config.Architecture{config.ARM64, config.AMD64} {
			family, size, _ := strings.Cut(m.Type(a), ".")
			if got := sizes[size]; got[0] < tier.VCPU || got[1] < tier.RAMGB || (strings.HasSuffix(family, "g")) != (a == config.ARM64) || strings.HasPrefix(family, "t") != m.Burstable {
				t.Errorf("%s on %s: %s is %v", tier.Slug, a, m.Type(a), got)
			}
		}
		if (m.Followers > 0) != tier.HA || m.Followers > config.MaxFollowers {
			t.Errorf("%s has %d followers", tier.Slug, m.Followers)
		}
		if int64(m.State.GiB)<<30 < 2*int64(tier.Limits.Bytes) || m.Log.GiB < 8 {
			t.Errorf("%s: state %d GiB for %d bytes, log %d GiB", tier.Slug, m.State.GiB, tier.Limits.Bytes, m.Log.GiB)
		}
		for _, v := range []config.Volume{m.State, m.Log} {
			if v.GiB > 16384 || v.IOPS < 3000 || v.IOPS > 16000 || v.IOPS > max(3000, 500*v.GiB) || v.MiBps < 125 || v.MiBps > 1000 || 4*v.MiBps > v.IOPS {
				t.Errorf("%s: gp3 cannot be %+v", tier.Slug, v)
			}
		}
	}
	if len(machines) > 0 {
		t.Errorf("machines of no tier: %v", machines)
	}
}
