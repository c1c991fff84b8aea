package config

import (
	"fmt"
	"net"
	"strings"

	"originchain/shared/lease/leaseopen"
)

// maxSyncReplicas bounds how many followers an acknowledgement can wait for.
const maxSyncReplicas = 16

// validateReplication checks what makes several nodes one instance.
func (c *Config) validateReplication() (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for _, a := range []struct{ name, address string }{{"replication-listen", c.ReplicationListen}, {"replication-advertise", c.ReplicationAdvertise}, {"leader-addr", c.LeaderAddr}} {
		if a.address == "" {
			continue
		}
		if err := checkAddress(a.address); err != nil {
			fault("--%s %q: %v; an address is host:port, such as 127.0.0.1:7401", a.name, a.address, err)
		} else if c.ReplicationTLSDir == "" && !loopbackHost(a.address) {
			fault("--%s %s is not on this machine's loopback: replication beyond it needs --replication-tls-dir; `oc-server cert dev` makes one to try out", a.name, a.address)
		}
	}
	faults = append(faults, c.validateControl()...)
	if c.Mode == ModeFollower && c.LeaderAddr == "" && c.Control == "" {
		fault("--mode follower: say where the leader is, with --leader-addr or with --control")
	}
	if c.Mode == ModeWriter && c.LeaderAddr != "" {
		fault("--leader-addr is a follower's: give --mode follower, or leave it out; a writer that may not write finds the leader with --control")
	}
	if c.Mode != ModeFollower && c.ApplyDelay != 0 {
		fault("--apply-delay is a follower's; a writer shows what it acknowledges")
	}
	switch {
	case c.SyncReplicas < 0 || c.SyncReplicas > maxSyncReplicas:
		fault("--sync-replicas %d: it is 0 to %d", c.SyncReplicas, maxSyncReplicas)
	case c.SyncReplicas > 0 && c.Mode == ModeWriter && c.ReplicationListen == "":
		fault("--sync-replicas %d needs --replication-listen, for the followers to stream from", c.SyncReplicas)
	case c.SyncReplicas > 0 && c.Control == "":
		fault("--sync-replicas %d needs --control: the followers in sync are recorded there, so that only a node that has every acknowledged write can take over", c.SyncReplicas)
	case c.SyncStrict && c.SyncReplicas == 0:
		fault("--sync-strict needs --sync-replicas, which says how many followers must have a write")
	}
	if c.SyncTimeoutMS < 1 {
		fault("--sync-timeout-ms %d: it must be at least 1", c.SyncTimeoutMS)
	}
	if c.FollowerRetainBytes < 0 {
		fault("--follower-retain-bytes %d: it cannot be negative; 0 keeps no log for followers that are behind", c.FollowerRetainBytes)
	}
	if c.ApplyDelay < 0 {
		fault("--apply-delay %s: it cannot be negative", c.ApplyDelay)
	}
	return faults
}

// validateControl checks what the record of who writes needs.
func (c *Config) validateControl() (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if c.Control != "" {
		if err := leaseopen.Check(c.Control); err != nil {
			fault("--control: %v", err)
		}
	}
	if c.Control != "" && c.Advertise == "" {
		fault("--control needs --advertise: the record says where clients reach the writer")
	}
	if c.Control != "" && c.ReplicationTLSDir != "" && c.ReplicationAdvertise == "" && anywhere(c.ReplicationListen) {
		fault("--replication-listen %s: with --control it names one address, since the record tells the followers to stream from it; or give --replication-advertise", c.ReplicationListen)
	}
	switch address := c.ReplicationAdvertise; {
	case address == "" || checkAddress(address) != nil: // nothing to say, or it was said
	case c.Control == "" || c.ReplicationListen == "":
		fault("--replication-advertise %s goes into the record of --control, for those who stream from --replication-listen: give both, or leave it out", address)
	case anywhere(address) || strings.HasSuffix(address, ":0"):
		fault("--replication-advertise %s: it names one host and its port, which followers connect to", address)
	}
	return faults
}

// anywhere says that an address names no host of its own.
func anywhere(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && (host == "" || net.ParseIP(host).IsUnspecified())
}

// loopbackHost says that an address is on this machine alone.
func loopbackHost(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || (ip != nil && ip.IsLoopback())
}
