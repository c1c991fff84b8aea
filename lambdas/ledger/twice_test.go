package ledger

import (
	"testing"
	"time"

	"originchain/shared/alarms"
)

// TestTwoLedgersAtOnce: both have found that nothing is open, and see the alarm fire, a second
// apart: it is one incident, and both end it as one.
func TestTwoLedgersAtOnce(t *testing.T) {
	b := newBook(t)
	b.instance = "acme"
	b.restart()
	one := b.Ledger
	b.restart()
	two := b.Ledger
	for _, l := range []*Ledger{one, two} {
		b.Ledger = l
		b.rounds(time.Second, alarms.Firing)
	}
	b.want("severity 1, 1 updates")
	b.Ledger = one
	b.rounds(calmFor+2*time.Second, alarms.Resolved)
	b.Ledger = two
	b.rounds(calmFor+2*time.Second, alarms.Resolved)
	b.want("severity 1, 2 updates, over")
}

// TestAWordAtOnce: the word of a state machine is in the incident that another has opened
// meanwhile.
func TestAWordAtOnce(t *testing.T) {
	b := newBook(t)
	one := b.Ledger
	b.restart()
	word := Word{Execution: "e", Step: "stuck", Text: "It does not go on."}
	if err := b.Say(t.Context(), word); err != nil {
		t.Fatal(err)
	}
	b.Ledger = one
	for _, w := range []Word{word, {Execution: "e", Step: "ask", Text: "Somebody is asked."}} {
		if err := b.Say(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	b.want("severity 1, 2 updates")
}
