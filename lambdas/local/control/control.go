// Package control is how the commands of oc-control reach the one that has an instance
// up: HTTP over a socket in the instance's directory, which only its owner may open.
package control

import (
	"context"
	"encoding/json"
	"time"
)

// Status is what an instance looks like now. Its JSON is stable.
type Status struct {
	Epoch        uint64          `json:"epoch"`
	Writer       Node            `json:"writer"`
	Followers    []Follower      `json:"followers"`
	Alarms       []Alarm         `json:"alarms"`
	LastFailover json.RawMessage `json:"last_failover"`
	// Incidents are those that are open.
	Incidents    []Incident    `json:"incidents"`
	Verification *Verification `json:"verification,omitempty"`
}

// Incident is one that is open.
type Incident struct {
	ID       string    `json:"id"`
	Severity int       `json:"severity"`
	Title    string    `json:"title"`
	Opened   time.Time `json:"opened"`
	Updates  int       `json:"updates"`
	// Owed is how many deliveries to subscribers have still to be made.
	Owed int `json:"owed"`
}

// Verification is when a recovery point was last restored and checked in full.
type Verification struct {
	EverySeconds float64 `json:"every_seconds"`
	// Verified is when one was found well; nil: none ever was.
	Verified *time.Time `json:"verified"`
	// AgeSeconds is from then on, or from the first start while none was; nil: the clock
	// contradicts the record.
	AgeSeconds *float64 `json:"age_seconds"`
	// Last is how the last one ended, well or not.
	Last *VerificationRun `json:"last"`
}

// VerificationRun is one of them.
type VerificationRun struct {
	Begun  time.Time `json:"begun"`
	Ended  time.Time `json:"ended"`
	Green  bool      `json:"green"`
	LSN    uint64    `json:"lsn"`
	Epoch  uint64    `json:"epoch"`
	Faults uint64    `json:"faults"`
	Error  string    `json:"error,omitempty"`
}

// Node is a server. PID is 0 while none runs.
type Node struct {
	Node    string `json:"node"`
	PID     int    `json:"pid"`
	Address string `json:"address"`
}

// Follower is a node that does not write.
type Follower struct {
	Node
	Connected  bool   `json:"connected"`
	InSync     bool   `json:"in_sync"`
	AppliedLSN uint64 `json:"applied_lsn"`
}

// Alarm is one that fires.
type Alarm struct {
	Name     string `json:"name"`
	Severity int    `json:"severity"`
	// Node is whose it is; "" for one of the instance.
	Node    string    `json:"node,omitempty"`
	Summary string    `json:"summary"`
	Since   time.Time `json:"since"`
	Runbook string    `json:"runbook"`
}

// Promotion asks for another writer.
type Promotion struct {
	// Target is the node to become it; "" for the best follower.
	Target  string `json:"target,omitempty"`
	Planned bool   `json:"planned,omitempty"`
	DryRun  bool   `json:"dry_run,omitempty"`
	// The rest are guards that a person gives up.
	AllowSlowWriter bool `json:"allow_slow_writer,omitempty"`
	// AllowLag is in LSNs; nil is the default, and 0 allows none.
	AllowLag         *uint64 `json:"allow_lag,omitempty"`
	AllowBackfilling bool    `json:"allow_backfilling,omitempty"`
	AcceptDataLoss   bool    `json:"accept_data_loss,omitempty"`
}

// The faults of a drill.
const (
	// FaultKill is SIGKILL, FaultStop SIGSTOP until it is undone.
	FaultKill = "kill"
	FaultStop = "stop"
	// FaultDisk lets the writer's files take nothing any more, until it is undone.
	FaultDisk = "disk"
	// FaultPartition cuts the writer off from all others until it is undone.
	FaultPartition = "partition"
)

// Fault is what was done to the writer.
type Fault struct {
	// ID names it, also where nobody has heard whether it was made.
	ID    string `json:"id"`
	Fault string `json:"fault"`
	Node  string `json:"node"`
	PID   int    `json:"pid"`
	Epoch uint64 `json:"epoch"`
	// At is when, by the clock of this machine, which is the caller's.
	At time.Time `json:"at"`
}

// Plane has an instance up.
type Plane interface {
	Status(ctx context.Context) (Status, error)
	// Down ends the instance, and the plane behind the answer.
	Down()
	// Promote makes another node the writer: say gets a line for each step. The report
	// is there also with an error. The context does not end with the command that asks: a
	// terminal that is lost must not leave half a failover behind.
	Promote(ctx context.Context, p Promotion, say func(line string)) (json.RawMessage, error)
	// Fault does something to the writer; Undo ends what goes on, and without a node of
	// every one, for who has not heard whom it was done to. What was undone by its id is not
	// made any more.
	Fault(ctx context.Context, fault, id string) (Fault, error)
	Undo(ctx context.Context, f Fault) error
	// Point is failover.DNS, for a failover that another process carries out.
	Point(ctx context.Context, name, address string, ttl time.Duration) error
}

// Pointing asks for a name to be an address.
type Pointing struct {
	Name       string `json:"name"`
	Address    string `json:"address"`
	TTLSeconds int    `json:"ttl_seconds"`
}
