package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"originchain/shared/incident"
)

// Others are the instances, besides the Ledger's own, that an incident is open of.
func (l *Ledger) Others() []string { return slices.Sorted(maps.Keys(l.others)) }

// Gone ends the incidents of another instance, which the caller knows not to be there any
// more: whoever kept them went with it, and nobody else would.
func (l *Ledger) Gone(ctx context.Context, instance string) error {
	var faults []error
	for _, id := range l.others[instance] {
		why := fmt.Sprintf("The instance %s is not deployed any more, and nobody watches it. Nothing is known of this.", instance)
		if _, err := l.store.Resolve(ctx, id, "gone", why); err != nil && !errors.Is(err, incident.ErrResolved) {
			faults = append(faults, fmt.Errorf("resolve incident %s: %w", id, err))
			continue
		}
		l.log.WithField("incident", id).Warnf("an incident is over, whose instance %s is not there any more", instance)
	}
	return errors.Join(faults...)
}
