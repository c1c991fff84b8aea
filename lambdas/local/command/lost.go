package command

import (
	"encoding/json"
	"fmt"

	"originchain/shared/failover"
)

// lastFailover is the last failover as a person reads it, and what was lost by it; "" if
// there was none.
func lastFailover(report json.RawMessage) string {
	var r failover.Report
	if err := json.Unmarshal(report, &r); err != nil || r.Epoch == 0 {
		return ""
	}
	text := fmt.Sprintf("%-9s from %s to %s, epoch %d: ", "failover", r.From, r.To, r.Epoch)
	switch {
	case r.LostExact && r.LostTo > 0:
		return text + fmt.Sprintf("LSN %d to %d lost, exact: %s keeps them in its divergent files\n", r.LostFrom, r.LostTo, r.From)
	case r.LostExact:
		return text + "no LSN lost, exact\n"
	case r.LostTo > 0:
		return text + fmt.Sprintf("LSN %d to %d lost, as was heard: exact once %s is back with its data directory\n", r.LostFrom, r.LostTo, r.From)
	}
	return text + fmt.Sprintf("no LSN lost, as was heard: exact once %s is back with its data directory\n", r.From)
}
