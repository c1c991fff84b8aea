package api

import (
	"encoding/json"
	"time"
)

// Error is the envelope of every answer that is not a success. Typed fields of
// the code stand beside these four, on the top level.
type Error struct {
	Error     string `json:"error"`
	Message   string `json:"message"`
	RequestID string `json:"request_id"`
	// Retry says that the same request may succeed when sent again.
	Retry bool `json:"retry"`
}

// Health is GET /health: 200 with Status "ok", or 503 with Status "failed" and Reason.
type Health struct {
	Status  string `json:"status"`
	Version string `json:"version"`
	Commit  string `json:"commit"`
	// Mode is "writer" or "follower".
	Mode          string `json:"mode"`
	UptimeSeconds int64  `json:"uptime_seconds"`
	// Reason says why the node is not healthy.
	Reason string `json:"reason,omitempty"`
}

// The values of Health.Status.
const (
	HealthOK     = "ok"
	HealthFailed = "failed"
)

// Ready is GET /ready: 200 when every check that must hold does, else 503.
type Ready struct {
	Ready bool `json:"ready"`
	// Checks are by name: "log", "lease", and on a follower "leader".
	Checks map[string]Check `json:"checks"`
}

// Check is one condition of readiness.
type Check struct {
	OK bool `json:"ok"`
	// Degraded says that the node serves, with less than it was asked for.
	Degraded bool   `json:"degraded,omitempty"`
	Detail   string `json:"detail"`
}

// Usage is GET /v1/tenants/:t/usage. Tier, Configuration and Limits are left
// out for a tenant without a tier.
type Usage struct {
	Tenant        string         `json:"tenant"`
	Tier          string         `json:"tier,omitempty"`
	Configuration *Configuration `json:"configuration,omitempty"`
	Limits        *UsageLimits   `json:"limits,omitempty"`
	Used          UsageUsed      `json:"used"`
	Schemas       []SchemaUsage  `json:"schemas"`
	Vectors       []VectorUsage  `json:"vectors"`
	InFlight      InFlight       `json:"in_flight"`
	Subscription  Subscription   `json:"subscription"`
	AddonCalls    []AddonCalls   `json:"addon_calls"`
}

// Configuration is the tier as a customer sees it.
type Configuration struct {
	Slug      string `json:"slug"`
	Label     string `json:"label"`
	VCPU      int    `json:"vcpu"`
	RAMGB     int    `json:"ram_gb"`
	StorageGB int    `json:"storage_gb"`
	HA        bool   `json:"ha"`
	// MonthlyPrice is in US dollars.
	MonthlyPrice int `json:"monthly_price"`
}

// UsageLimits are the bounds of the tier; what it does not bound is left out.
type UsageLimits struct {
	RequestsPerSecond int    `json:"requests_per_second,omitempty"`
	Burst             int    `json:"burst,omitempty"`
	Rows              uint64 `json:"rows,omitempty"`
	Bytes             uint64 `json:"bytes,omitempty"`
	ConcurrentSQL     int    `json:"concurrent_sql,omitempty"`
	ConcurrentAsk     int    `json:"concurrent_ask,omitempty"`
}

// UsageUsed is what the tenant stores, from exact counters.
type UsageUsed struct {
	// StoreKeys counts every key of the tenant, index entries included.
	StoreKeys uint64 `json:"store_keys"`
	Rows      uint64 `json:"rows"`
	Vectors   uint64 `json:"vectors"`
	Bytes     uint64 `json:"bytes"`
}

// SchemaUsage is what one schema stores.
type SchemaUsage struct {
	Schema   string `json:"schema"`
	Rows     uint64 `json:"rows"`
	Bytes    uint64 `json:"bytes"`
	Segments uint64 `json:"segments"`
}

// VectorUsage is what one vector table stores.
type VectorUsage struct {
	Table string `json:"table"`
	Count uint64 `json:"count"`
}

// InFlight counts queries that run right now.
type InFlight struct {
	Ask int64 `json:"ask"`
	SQL int64 `json:"sql"`
}

// Subscription is the state of a tenant's subscription.
type Subscription struct {
	// Status is trialing, active, past_due or canceled.
	Status string `json:"status"`
	// CurrentPeriodEnd is null where the period has no end.
	CurrentPeriodEnd *time.Time `json:"current_period_end"`
}

// AddonCalls counts the calls of one add-on in the period.
type AddonCalls struct {
	Addon string `json:"addon"`
	Calls uint64 `json:"calls"`
}

// MaxDiagnosticEvents is how many events one call may carry.
const MaxDiagnosticEvents = 32

// DiagnosticsRequest is POST /v1/tenants/:t/diagnostics: what a client library
// saw. Each event is a JSON object; one that is not refuses the batch.
type DiagnosticsRequest struct {
	Events []json.RawMessage `json:"events"`
}

// DiagnosticsAccepted is its answer, with 202.
type DiagnosticsAccepted struct {
	Accepted int `json:"accepted"`
}

// QueryCancelled is POST /v1/queries/:id/cancel.
type QueryCancelled struct {
	ID        string `json:"id"`
	Cancelled bool   `json:"cancelled"`
}

// CreateTenantRequest is POST /v1/admin/tenants. All of it may be left out.
type CreateTenantRequest struct {
	// Tenant is the ULID the tenant shall have; without it one is made.
	Tenant       string        `json:"tenant,omitempty"`
	Name         string        `json:"name,omitempty"`
	Tier         string        `json:"tier,omitempty"`
	Subscription *Subscription `json:"subscription,omitempty"`
}

// CreatedTenant is its answer, with 201. The token is shown this once.
type CreatedTenant struct {
	Tenant  string `json:"tenant"`
	Token   string `json:"token"`
	TokenID string `json:"token_id"`
}

// Tenant is one row of GET /v1/admin/tenants.
type Tenant struct {
	Tenant       string       `json:"tenant"`
	Name         string       `json:"name"`
	Tier         string       `json:"tier,omitempty"`
	Subscription Subscription `json:"subscription"`
	CreatedAt    time.Time    `json:"created_at"`
}

// Tenants is GET /v1/admin/tenants, by tenant id.
type Tenants struct {
	Tenants []Tenant `json:"tenants"`
}

// Token is one row of GET /v1/admin/tenants/:t/tokens; the token itself is nowhere.
type Token struct {
	TokenID   string     `json:"token_id"`
	Kind      string     `json:"kind"`
	CreatedAt time.Time  `json:"created_at"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
}

// Tokens is GET /v1/admin/tenants/:t/tokens, by token id.
type Tokens struct {
	Tokens []Token `json:"tokens"`
}

// MintTokenRequest is POST /v1/admin/tenants/:t/tokens.
type MintTokenRequest struct {
	// Kind is "live" (the default) or "test".
	Kind string `json:"kind,omitempty"`
}

// MintedToken is its answer, with 201. The token is shown this once.
type MintedToken struct {
	TokenID string `json:"token_id"`
	Token   string `json:"token"`
}

// RevokedToken is DELETE /v1/admin/tenants/:t/tokens/:id. Revoked is false
// where the token was revoked before.
type RevokedToken struct {
	TokenID string `json:"token_id"`
	Revoked bool   `json:"revoked"`
}

// Replication is GET /v1/admin/replication.
type Replication struct {
	// Role is "writer" or "follower".
	Role  string `json:"role"`
	Node  string `json:"node"`
	Epoch uint64 `json:"epoch"`
	// LSN is the last frame appended, DurableLSN the last one synced here,
	// CommitLSN the last one that may be acknowledged, AppliedLSN the last one visible.
	LSN        uint64 `json:"lsn"`
	DurableLSN uint64 `json:"durable_lsn"`
	CommitLSN  uint64 `json:"commit_lsn"`
	AppliedLSN uint64 `json:"applied_lsn"`
	// DurableEpoch is the epoch of the last frame in the log: with DurableLSN it is where
	// the log ends, which decides who may become the writer.
	DurableEpoch uint64 `json:"durable_epoch"`
	// Connected: a follower hears its leader now. LeaderDurableLSN is the last frame that
	// it heard to be durable there. Promotable: it may become the writer in its process.
	Connected        bool   `json:"connected"`
	LeaderDurableLSN uint64 `json:"leader_durable_lsn"`
	Promotable       bool   `json:"promotable"`
	// Digest is the state's at AppliedLSN, 32 hex digits.
	Digest    string         `json:"digest"`
	Leader    string         `json:"leader,omitempty"`
	InSync    []string       `json:"in_sync"`
	Followers []FollowerInfo `json:"followers"`
	// SetAside are the frames that the node has kept beside its log, of all times.
	SetAside []SetAside `json:"set_aside"`
}

// SetAside is a file of frames that a node had and its leader's history had not: the
// LSNs from FirstLSN to LastLSN, of one epoch. A LastLSN of 0: the file cannot be read.
type SetAside struct {
	File     string `json:"file"`
	Epoch    uint64 `json:"epoch"`
	FirstLSN uint64 `json:"first_lsn"`
	LastLSN  uint64 `json:"last_lsn"`
}

// TenantConfig is GET and POST /v1/admin/tenants/:t/config.
type TenantConfig struct {
	ReplicationMode string `json:"replication_mode"`
	// Installed says that an operator has set the mode; left out while it is the default.
	Installed bool `json:"installed,omitempty"`
}

// SetTenantConfigRequest is the body of POST /v1/admin/tenants/:t/config.
type SetTenantConfigRequest struct {
	ReplicationMode string `json:"replication_mode"`
}

// PromoteRequest is the body of POST /v1/admin/promote.
type PromoteRequest struct {
	// Epoch is the one that the record of who writes names for this node.
	Epoch uint64 `json:"epoch"`
}

// Promoted is its answer.
type Promoted struct {
	Epoch uint64 `json:"epoch"`
	// Writer: the node is the writer already, of that epoch or a later one. If not, it
	// is about to be: GET /ready says when.
	Writer bool `json:"writer"`
}

// HandoverRequest is the body of POST /v1/admin/handover, for the writer.
type HandoverRequest struct {
	// Node is the follower that is to write.
	Node string `json:"node"`
	// URL is where clients reach it, as it has told the writer where this is left out;
	// ReplicationAddress is the host:port that followers will stream from.
	URL                string `json:"url,omitempty"`
	ReplicationAddress string `json:"replication_address,omitempty"`
}

// Handover is its answer: the record names the node for Epoch, which begins behind LSN.
// POST /v1/admin/promote makes it the writer.
type Handover struct {
	Epoch uint64 `json:"epoch"`
	LSN   uint64 `json:"lsn"`
}

// Topology is GET /v1/topology. Of two answers the one with the higher epoch is
// right.
type Topology struct {
	Epoch     uint64   `json:"epoch"`
	Writer    string   `json:"writer"`
	Followers []string `json:"followers"`
}

// FollowerInfo is one follower as the writer sees it.
type FollowerInfo struct {
	Node       string `json:"node"`
	Address    string `json:"address"`
	Connected  bool   `json:"connected"`
	Sync       bool   `json:"sync"`
	DurableLSN uint64 `json:"durable_lsn"`
	AppliedLSN uint64 `json:"applied_lsn"`
	LagLSN     uint64 `json:"lag_lsn"`
}

// Archive is GET /v1/admin/archive.
type Archive struct {
	// Segments are objects of the archive, the newest first.
	Segments []ArchiveObject `json:"segments"`
	// TailStatus is "active", "paused" or "off".
	TailStatus string `json:"tail_status"`
	// RecoverableLSN is the last frame that can be restored to, without a hole, on the
	// line of the newest epoch; RecoverableUntil is its stamp. Null where there is none;
	// the stamp also where only an object that is not read for this says it.
	RecoverableLSN   *uint64    `json:"recoverable_lsn"`
	RecoverableUntil *time.Time `json:"recoverable_until"`
	// RPOSeconds is how much would be lost with this machine now: for how long the
	// oldest frame that is in no object has been durable. Null where this node ships
	// nothing and cannot know.
	RPOSeconds *float64 `json:"rpo_seconds"`
}

// ArchiveObject is one object of the archive.
type ArchiveObject struct {
	// Kind is "segment", "checkpoint" or "tail".
	Kind string `json:"kind"`
	// LSNStart and LSNEnd are the frames it holds; of a checkpoint both are where it stands.
	LSNStart uint64 `json:"lsn_start"`
	LSNEnd   uint64 `json:"lsn_end"`
	// SealedAt is the stamp of the last frame. It and SHA256 are told of what this node
	// has in its log or has shipped since it was started, and of checkpoints; null where
	// only the whole object says.
	SealedAt *time.Time `json:"sealed_at"`
	// SHA256 is the one in a segment's footer, over all before it; of a checkpoint, that
	// of its list of files. A tail has none.
	SHA256     *string `json:"sha256"`
	SizeBytes  int64   `json:"size_bytes"`
	Compressed bool    `json:"compressed"`
	Key        string  `json:"key"`
}

// TailStatus is the answer of POST /v1/admin/archive/tail/pause and …/resume.
type TailStatus struct {
	TailStatus string `json:"tail_status"`
}

// ShippedCheckpoint is the answer of POST /v1/admin/checkpoint, when the checkpoint
// is in the archive.
type ShippedCheckpoint struct {
	LSN    uint64 `json:"lsn"`
	Epoch  uint64 `json:"epoch"`
	Digest string `json:"digest"`
}
