// Package config is what an operator may say about a deployment: the account and
// region, the network, and the tenants with an instance each. It is read from the
// context of cdk.json, and every fault of it is listed in one pass, before anything
// is synthesized. It knows nothing of the CDK.
package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// Sync says whom an acknowledgement of a write waits for.
type Sync string

const (
	// Async waits for the writer's own disk alone.
	Async Sync = "async"
	// Wait waits for a follower too, and goes on without it when it is late.
	Wait Sync = "sync"
	// Strict refuses writes while no follower is in sync.
	Strict Sync = "strict"
)

// Architecture is that of the machines.
type Architecture string

const (
	// ARM64 is Graviton: more for the money.
	ARM64 Architecture = "arm64"
	// AMD64 has vector kernels that use SIMD instructions, which arm64 has not.
	AMD64 Architecture = "amd64"
)

// Config is one region of one account.
type Config struct {
	// Account has 12 digits.
	Account string
	// Region is a commercial region with three availability zones.
	Region string
	// Zones are the three availability zones, in the order of the nodes.
	Zones []string
	// CIDR is the range of the VPC.
	CIDR netip.Prefix
	// ClientCIDRs are networks beyond the VPC, reached by peering or a transit gateway,
	// whose clients may use the HTTP API.
	ClientCIDRs []netip.Prefix
	// MailFrom is who e-mail to subscribers is from: an address of a verified identity of
	// SES in the region.
	MailFrom string
	// Pipeline is what deploys from a repository; nil: nothing does.
	Pipeline *Pipeline
	// Tenants have an instance each.
	Tenants []Tenant
}

// Pipeline is the repository on GitHub whose workflows deploy.
type Pipeline struct {
	// Repository is owner/name, Branch the one that is deployed.
	Repository, Branch string
	// Environment is that of the repository which a job must be in to deploy; "" has the
	// branch decide.
	Environment string
	// ProviderExists: the account has GitHub's provider of identities already, of which
	// there can be one.
	ProviderExists bool
}

// Tenant is an instance and how it is run.
type Tenant struct {
	// Name is the instance's short name, and part of the names of what it has.
	Name string
	// InstanceID is the ULID that its log and archive carry.
	InstanceID string
	// Tier is a slug of shared/tenant; Machine is what it means here.
	Tier    string
	Machine Machine
	// Followers is how many nodes there are besides the writer, each in its own zone.
	Followers int
	// Zone is the domain of the hosted zone ZoneID, Record the writer's name in it.
	Zone, ZoneID, Record string
	Sync                 Sync
	// RetentionDays is for how long every moment stays restorable.
	RetentionDays int
	// TailShip ships the open segment twice a second.
	TailShip     bool
	Architecture Architecture
	// DedicatedTenancy keeps other customers off the machines' hosts.
	DedicatedTenancy bool
	// KeyARN is a KMS key of the tenant; "" has keys made.
	KeyARN string
	// ArchiveRegion is where the archive is. Another one than the instance's needs
	// AllowCrossRegion.
	ArchiveRegion    string
	AllowCrossRegion bool
	// CA are the certificates, in PEM, of who signs those that nodes answer HTTPS with; ""
	// where the system's own do.
	CA string
}

// Bounds of a configuration.
const (
	// MaxTenants is how many instances share the network of a region.
	MaxTenants = 100
	// MaxClientCIDRs keeps the groups below the 60 rules that one may have.
	MaxClientCIDRs = 20
	// MinRetentionDays and MaxRetentionDays bound the window of a restore.
	MinRetentionDays = 1
	MaxRetentionDays = 3650
	// Nodes of one instance are in different zones, of which there are three.
	zoneCount    = 3
	MaxFollowers = zoneCount - 1
	// MaxCABytes keeps what functions are told below the 4 KiB that Lambda and a parameter
	// of Systems Manager have for it.
	MaxCABytes = 2800

	defaultRetentionDays = 30
	defaultCIDR          = "10.64.0.0/16"
	// A VPC's subnets are a quarter of it; the smallest has room for the nodes and
	// endpoints of MaxTenants.
	minVPCBits = 16
	maxVPCBits = 22
)

// SubnetBits is the mask of a subnet: one for each zone, and a quarter to spare.
func (c *Config) SubnetBits() int { return c.CIDR.Bits() + 2 }

// Nodes are the ids of the instance's nodes; the first one is the first writer.
func (t *Tenant) Nodes() (ids []string) {
	for i := range 1 + t.Followers {
		ids = append(ids, t.Name+"-"+string(rune('a'+i)))
	}
	return ids
}

// NodeName is the name of a node in the tenant's zone.
func (t *Tenant) NodeName(i int) string { return string(rune('a'+i)) + "." + t.Record }

// AutoName is the name that follows the writer by health checks alone.
func (t *Tenant) AutoName() string { return "auto." + t.Record }

// OthersName is that of those of AutoName's nodes that come after the first one.
func (t *Tenant) OthersName() string { return "others." + t.AutoName() }

// SyncReplicas is --sync-replicas.
func (t *Tenant) SyncReplicas() int {
	if t.Sync == Async {
		return 0
	}
	return 1
}

// Error lists every fault of a configuration.
type Error struct {
	// Source is where it was read from.
	Source string
	Faults []string
}

// Error is one fault a line.
func (e *Error) Error() string {
	noun := "faults"
	if len(e.Faults) == 1 {
		noun = "fault"
	}
	return fmt.Sprintf("%s has %d %s; nothing was synthesized:\n  %s", e.Source, len(e.Faults), noun, strings.Join(e.Faults, "\n  "))
}
