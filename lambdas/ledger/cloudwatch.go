package ledger

import (
	"math"
	"slices"
	"strings"
	"time"

	"originchain/shared/alarms"
)

// Watched is an alarm as CloudWatch has it.
type Watched struct {
	Name  string
	State string
	// Since is when it came into the state.
	Since time.Time
}

// FromCloudWatch makes of the alarms of an instance, which are named for it, what Round and
// Deps.OverFor take. An alarm of the table that is several there fires if one of them does,
// and has not fired since the last of them ended. One that is not there is left out.
func FromCloudWatch(instance string, table []alarms.Alarm, all []Watched, now time.Time) (out []alarms.Status, overFor func(alarm, node string) time.Duration) {
	over := make(map[string]time.Duration)
	for i := range table {
		a := &table[i]
		s := alarms.Status{Alarm: a.Name, Severity: a.Severity, State: alarms.NoData, Value: math.NaN(), Summary: a.Summary, Runbook: "#" + a.Anchor()}
		found := false
		for _, c := range alarms.ForCloudWatch(table[i : i+1]) {
			for _, w := range of(all, instance, &c) {
				age := max(0, now.Sub(w.Since))
				if !found || age < over[a.Name] {
					over[a.Name] = age
				}
				found = true
				s.State = worse(s.State, state(w.State))
			}
		}
		if found {
			out = append(out, s)
		}
	}
	return out, func(alarm, _ string) time.Duration { return over[alarm] }
}

// proofs are the alarms that together say that an instance is written. That the writer is
// silent no more is not enough: who the record names may be a follower still, which nobody
// has told to open, or wait for a follower of its own.
func proofs() []string {
	return []string{alarms.InstanceSilent, "/ready", "oc_lease_remaining_ms", "oc_replication_leader_connected"}
}

// Written says whether a node is a ready writer, by what FromCloudWatch has made, and for how
// long nothing has said otherwise. An alarm that is not there, or knows nothing, proves nothing.
func Written(all []alarms.Status, overFor func(alarm, node string) time.Duration) (writtenFor func() time.Duration, writes bool) {
	var least time.Duration
	for n, name := range proofs() {
		i := slices.IndexFunc(all, func(s alarms.Status) bool { return s.Alarm == name })
		if i < 0 || all[i].State != alarms.OK {
			return func() time.Duration { return 0 }, false
		}
		if age := overFor(name, ""); n == 0 || age < least {
			least = age
		}
	}
	return func() time.Duration { return least }, true
}

// of are those that one of the table is at an instance, or at its nodes.
func of(all []Watched, instance string, c *alarms.CloudWatch) (out []Watched) {
	for _, w := range all {
		if name := c.Of(instance, ""); w.Name == name && !c.PerNode || c.PerNode && strings.HasPrefix(w.Name, name) {
			out = append(out, w)
		}
	}
	return out
}

// state is that of an alarm, in the words of package alarms.
func state(s string) alarms.State {
	switch strings.ToUpper(s) {
	case "ALARM":
		return alarms.Firing
	case "OK":
		return alarms.OK
	}
	return alarms.NoData
}

// worse is the state of the two that more is to be said of.
func worse(a, b alarms.State) alarms.State {
	for _, s := range []alarms.State{alarms.Firing, alarms.OK} {
		if a == s || b == s {
			return s
		}
	}
	return a
}
