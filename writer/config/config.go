// Package config is what an operator may say to oc-server: one table of
// options, each a flag and an environment variable, and the check that lists
// every fault of what was said in one pass.
package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/writer/reach"
)

// Config is plain data; Validate says whether it can be served.
type Config struct {
	// Mode is the role of the node: ModeWriter or ModeFollower.
	Mode string
	// DataDir holds log and state. One process at a time opens it.
	DataDir string
	// Listen is the address of the API; OpsListen, where set, is the address
	// of /health, /ready and /metrics, which Listen then does not serve.
	Listen    string
	OpsListen string
	// InstanceID and NodeID are what the data directory must be of, or becomes when it is new.
	InstanceID string
	NodeID     string
	// Region names where the node runs; Advertise is the URL clients reach it under.
	Region    string
	Advertise string
	// ReplicationListen is the address that followers stream from; empty serves none.
	ReplicationListen string
	// ReplicationAdvertise is where the record of Control says that followers stream from,
	// where that is not ReplicationListen: behind a relay, or a translated address.
	ReplicationAdvertise string
	// ReplicationTLSDir holds the certificates that nodes show each other; without
	// it replication stays on loopback.
	ReplicationTLSDir string
	// LeaderAddr is where a follower streams from, where Control does not say.
	LeaderAddr string
	// Control is the URL of the record of who writes; empty leaves that to the data
	// directory.
	Control string
	// SyncReplicas, SyncTimeoutMS and SyncStrict say whom an acknowledgement waits for.
	SyncReplicas  int
	SyncTimeoutMS int
	SyncStrict    bool
	// FollowerRetainBytes bounds the log that is kept for followers that are behind.
	FollowerRetainBytes int64
	// Archive is the URL of the archive; empty keeps none. AllowCrossRegion lets it be
	// in another region than the node.
	Archive          string
	AllowCrossRegion bool
	// TailShip ships the open segment every TailWindowMS.
	TailShip     bool
	TailWindowMS int
	// CheckpointInterval is how often the state goes to the archive, Retention for how
	// long every moment stays restorable.
	CheckpointInterval time.Duration
	Retention          time.Duration
	// ApplyDelay is how much later than the leader a follower shows a frame.
	ApplyDelay time.Duration
	// SegmentBytes and SegmentMaxAge say when a log segment is rolled.
	SegmentBytes  int64
	SegmentMaxAge time.Duration
	// TLSCert and TLSKey turn TLS on; with TLSCA clients must show a certificate it signed.
	TLSCert string
	TLSKey  string
	TLSCA   string
	// AdminTokenFile holds the admin token; it is created when it is not there.
	AdminTokenFile string
	LogLevel       string
	// DrainTimeout is how long requests in flight may go on after SIGTERM.
	DrainTimeout time.Duration
	// SlowRequest is the time from which a request is logged.
	SlowRequest time.Duration
	// StatementTimeout is how long an SQL statement may run; 0 is no limit.
	StatementTimeout time.Duration
	// MaxConnections and MaxInFlight bound connections and requests at the same time.
	MaxConnections int
	MaxInFlight    int
}

// ModeWriter is the role that accepts writes.
const ModeWriter = "writer"

// ModeFollower is the role that copies a writer's log and serves reads.
const ModeFollower = "follower"

// Bounds of the numbers.
const (
	MinSegmentBytes = 64 << 10
	MaxSegmentBytes = 1 << 30
	minSegmentAge   = time.Second
	maxIDBytes      = 64
)

// Reach is how the server is asked on its own machine.
func (c *Config) Reach() reach.At {
	return reach.At{Listen: c.Listen, OpsListen: c.OpsListen, TLSCert: c.TLSCert, TLSCA: c.TLSCA, Advertise: c.Advertise}
}

// adminTokenName is the admin token's file in the data directory.
const adminTokenName = "admin.token"

// Validate returns every fault of the configuration, in the order of the
// options; each names its flag and what to do.
func (c *Config) Validate() []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	switch c.Mode {
	case ModeWriter, ModeFollower:
	default:
		fault("--mode %q: the mode is %s or %s", c.Mode, ModeWriter, ModeFollower)
	}
	if c.DataDir == "" {
		fault("--data-dir: name the directory that holds, or shall hold, this node's data")
	}
	for _, l := range []struct{ name, address string }{{"listen", c.Listen}, {"ops-listen", c.OpsListen}} {
		if err := checkAddress(l.address); err != nil && (l.address != "" || l.name == "listen") {
			fault("--%s %q: %v; an address is host:port, such as 127.0.0.1:7400", l.name, l.address, err)
		}
	}
	if c.OpsListen != "" && c.OpsListen == c.Listen && !strings.HasSuffix(c.Listen, ":0") {
		fault("--ops-listen is the address of --listen; name another one, or leave it out to serve both there")
	}
	if c.InstanceID != "" {
		if _, err := ulid.ParseStrict(strings.ToUpper(c.InstanceID)); err != nil {
			fault("--instance-id %q is not a ULID (26 characters); leave it out to accept the directory's own", c.InstanceID)
		}
	}
	if c.NodeID != "" && !plainName(c.NodeID) {
		fault("--node-id %q: use 1 to %d letters, digits, '.', '_' or '-'", c.NodeID, maxIDBytes)
	}
	if !plainName(c.Region) {
		fault("--region %q: use 1 to %d letters, digits, '.', '_' or '-', such as eu-central-1", c.Region, maxIDBytes)
	}
	if err := checkURL(c.Advertise); c.Advertise != "" && err != nil {
		fault("--advertise %q: %v; give the URL clients reach this node under, such as https://db.example.com", c.Advertise, err)
	}
	faults = append(faults, c.validateReplication()...)
	faults = append(faults, c.validateArchive()...)
	faults = append(faults, c.validateLimits()...)
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		fault("--tls-cert and --tls-key go together; give both, or neither for plain HTTP")
	case c.TLSCA != "" && c.TLSCert == "":
		fault("--tls-ca asks clients for certificates, which needs --tls-cert and --tls-key")
	}
	return faults
}

// validateLimits checks the numbers.
func (c *Config) validateLimits() (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if c.SegmentBytes < MinSegmentBytes || c.SegmentBytes > MaxSegmentBytes {
		fault("--segment-bytes %d: a segment has %d to %d bytes", c.SegmentBytes, MinSegmentBytes, MaxSegmentBytes)
	}
	if c.SegmentMaxAge < minSegmentAge {
		fault("--segment-max-age %s: the shortest is %s", c.SegmentMaxAge, minSegmentAge)
	}
	if c.DrainTimeout <= 0 {
		fault("--drain-timeout %s: it must be more than 0", c.DrainTimeout)
	}
	if c.SlowRequest <= 0 {
		fault("--slow-request %s: it must be more than 0", c.SlowRequest)
	}
	if c.StatementTimeout < 0 {
		fault("--statement-timeout %s: it cannot be negative; 0 is no limit", c.StatementTimeout)
	}
	if c.MaxConnections < 1 {
		fault("--max-connections %d: it must be at least 1", c.MaxConnections)
	}
	if c.MaxInFlight < 1 {
		fault("--max-in-flight %d: it must be at least 1", c.MaxInFlight)
	}
	switch c.LogLevel {
	case "debug", "info", "warning", "error":
	default:
		fault("--log-level %q: use debug, info, warning or error", c.LogLevel)
	}
	return faults
}

// complete fills in what follows from other options.
func (c *Config) complete() {
	if c.AdminTokenFile == "" && c.DataDir != "" {
		c.AdminTokenFile = filepath.Join(c.DataDir, adminTokenName)
	}
}

// checkAddress accepts host:port with a numeric port; the host may be empty.
func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q is not a number from 0 to 65535", port)
	}
	return nil
}

// checkURL accepts the root of an HTTP server.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return err
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("the scheme is http or https, not %q", u.Scheme)
	case u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("it is a scheme and a host, with a port where one is needed, and nothing else")
	}
	return nil
}

// plainName accepts what is safe in logs, labels and file names.
func plainName(s string) bool {
	if s == "" || len(s) > maxIDBytes {
		return false
	}
	for _, c := range s {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
