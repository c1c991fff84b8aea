package engine

import (
	"context"
	"testing"

	"originchain/shared/fault"
	"originchain/shared/rows"
	"originchain/shared/table"
)

// TestPendingBytesAreBounded: what waits for the sequencer when the limit is
// reached is refused too, and is told so at once.
func TestPendingBytesAreBounded(t *testing.T) {
	n, stall, goOn := startStalled(t)
	defer n.mustClose()
	value := make([]byte, 8<<20)
	release := n.busy()
	stall()
	var queued []*pending
	for i := range byte(12) {
		w := &pending{done: make(chan struct{}, 1), Proposal: Proposal{Build: func(b *rows.Builder) error {
			return b.PutRecord(table.SpaceTenants, []byte{i}, value, true)
		}}}
		if err := n.propose(w); err != nil {
			t.Fatal(err)
		}
		queued = append(queued, w)
	}
	release()
	const fit = maxPendingBytes/(8<<20) - 1
	for i, w := range queued[fit:] {
		<-w.done
		if fault.CodeOf(w.err) != fault.Overloaded {
			t.Fatalf("proposal %d of 8 MiB: %v", fit+i, w.err)
		}
	}
	if got := n.PendingBytes(); got > maxPendingBytes || got < maxPendingBytes-(9<<20) {
		t.Errorf("%d bytes pending", got)
	}
	goOn()
	for i, w := range queued[:fit] {
		if <-w.done; w.err != nil {
			t.Errorf("proposal %d: %v", i, w.err)
		}
	}
	if _, err := n.Commit(context.Background(), Proposal{Build: func(b *rows.Builder) error {
		return b.PutRecord(table.SpaceTenants, []byte("next"), value, true)
	}}); err != nil {
		t.Errorf("after the stall: %v", err)
	}
	if got := n.PendingBytes(); got != 0 {
		t.Errorf("%d bytes pending in the end", got)
	}
}
