package ledger

import (
	"math"
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
