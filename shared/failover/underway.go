package failover

import (
	"context"
	"time"

	"originchain/shared/registry"
)

// Run is the failover that was begun last, as the journal has it, for whoever tells
// others of it.
type Run struct {
	// ID names it.
	ID       string
	From, To string
	// Epoch is the one that To is given; 0 before that is known.
	Epoch     uint64
	Planned   bool
	StartedAt time.Time
	// Done: its target writes, and all that goes with it is done. Failed: its target
	// cannot become the writer by it any more, and Error says why. Neither: it is under
	// way, or waits for somebody to go on with it.
	Done, Failed bool
	Error        string
	// Held: it, or one before it, has stopped a server that was not let go since (LetGo).
	Held bool
}

// Latest is the run that was begun last; false if there was never one.
func Latest(ctx context.Context, reg registry.Store) (Run, bool, error) {
	j, err := loadJournal(ctx, reg)
	return Run{
		ID: j.Run, From: j.From, To: j.To, Epoch: j.Epoch, Planned: j.Planned, StartedAt: j.StartedAt,
		Done: j.State == done, Failed: j.State == failed, Error: j.Error, Held: len(j.Held) > 0,
	}, j.Run != "", err
}
