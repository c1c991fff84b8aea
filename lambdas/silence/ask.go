package silence

import (
	"encoding/json"
	"fmt"

	"originchain/lambdas/alarmevent"
	"originchain/lambdas/outcome"
)

// Ask is what the state machine calls with. An event alone is an Ask of the first round.
type Ask struct {
	Event     json.RawMessage `json:"event"`
	Execution string          `json:"execution"`
	// Round is that of the answer before; absent in the first one.
	Round int `json:"round"`
	// Told is Answer.Noes of the call by which the execution has called the person last who is
	// not waited for any more; nil before it has called anybody. A call that is made anew, as its
	// answer was lost, has called nobody.
	Told *int `json:"told"`
	// Approval is what a person has answered who was called, as it was written: any JSON, and
	// an Approval if all is well. null is none.
	Approval json.RawMessage `json:"approval"`

	// said is the Approval; nil for none, and for one that cannot be read: unread says why.
	said   *Approval
	unread string
}

// answered says that a person has said something, be it nothing that can be read.
func (a *Ask) answered() bool { return a.said != nil || a.unread != "" }

// refuses says that a person has said no, which only an Approval can.
func (a *Ask) refuses() bool { return a.said != nil && !a.said.Approve }

// since is the epoch of the record when a change was looked at first of which nothing is
// kept: what a person was told of it, if that is before the present one.
func (a *Ask) since(epoch uint64) uint64 {
	if a.said != nil && a.said.Epoch > 0 {
		return min(a.said.Epoch, epoch)
	}
	return epoch
}

// decode reads an Ask, or an event alone.
func decode(raw []byte) (ask Ask, err error) {
	if len(raw) > alarmevent.MaxBytes {
		return ask, &outcome.Error{Name: outcome.Input, Err: fmt.Errorf("a call of %d bytes, at most %d", len(raw), alarmevent.MaxBytes)}
	}
	if err := json.Unmarshal(raw, &ask); err != nil {
		var of struct{ Event json.RawMessage }
		if json.Unmarshal(raw, &of) == nil && len(of.Event) > 0 { // a call, and not an event that is nothing
			return ask, &outcome.Error{Name: outcome.Input, Err: fmt.Errorf("a call that cannot be read: %w", err)}
		}
		return Ask{Event: raw}, nil // which the event's reader says
	}
	if len(ask.Event) == 0 {
		return Ask{Event: raw}, nil
	}
	if len(ask.Approval) > 0 && string(ask.Approval) != "null" {
		ask.said, ask.unread = readApproval(ask.Approval)
		if ask.Told == nil {
			ask.Told = new(int) // of nothing: a no counts that was ever said
		}
	}
	return ask, nil
}
