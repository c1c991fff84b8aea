package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/ledger"
	"originchain/shared/alarms"
	"originchain/shared/aws/cwalarms"
	"originchain/shared/incident"
	"originchain/shared/registry"
)

// Book is what the incidents of an instance are kept from.
type Book struct {
	Incidents *incident.Store
	// Registry is the instance's, Instance its short name; "" is none.
	Registry registry.Store
	Instance string
	// Deployed are all instances of the region as they were configured when this one was
	// deployed last; nil: that is not known.
	Deployed []string
	Now      func() time.Time
	// Alarms are those whose names begin so.
	Alarms func(ctx context.Context, prefix string) ([]cwalarms.Alarm, error)
}

// Keep brings the incidents of the book up to date; nil where there is no instance.
func (b *Book) Keep(log logrus.FieldLogger) Keep {
	if b.Instance == "" {
		return nil
	}
	return func(ctx context.Context, words ...ledger.Word) error {
		all, err := b.Alarms(ctx, b.Instance+"-")
		known := err == nil
		if err != nil {
			err = fmt.Errorf("how the alarms stand is not known: %w", err)
		}
		statuses, overFor := ledger.FromCloudWatch(b.Instance, alarms.Table(), watched(all), b.Now())
		writtenFor, writes := ledger.Written(statuses, overFor)
		l := ledger.New(ledger.Deps{Incidents: b.Incidents, Registry: b.Registry, Log: log, Now: b.Now, Instance: b.Instance, OverFor: overFor, WrittenFor: writtenFor})
		if loadErr := l.Load(ctx, false); loadErr != nil {
			return errors.Join(err, loadErr)
		}
		// What is known is told, although something is not.
		err = errors.Join(err, l.Round(ctx, statuses, writes))
		if known { // all that there are
			err = errors.Join(err, l.Unwatched(ctx, statuses))
		}
		for _, w := range words {
			err = errors.Join(err, l.Say(ctx, w))
		}
		return errors.Join(err, b.gone(ctx, l))
	}
}

// gone ends the incidents of instances that were removed: it takes that the configuration has
// them no more, and that none of their alarms is there. Neither does alone: this function's
// configuration is older than an instance that was added since, until it is deployed itself;
// and alarms go and come while what has them is deployed anew.
func (b *Book) gone(ctx context.Context, l *ledger.Ledger) (err error) {
	if !slices.Contains(b.Deployed, b.Instance) {
		return nil // what does not even have this one says nothing of others
	}
	for _, other := range l.Others() {
		if other == "" || slices.Contains(b.Deployed, other) {
			continue
		}
		all, alarmErr := b.Alarms(ctx, other+"-")
		if alarmErr != nil {
			err = errors.Join(err, fmt.Errorf("whether %s has alarms is not known: %w", other, alarmErr))
			continue
		}
		if there, _ := ledger.FromCloudWatch(other, alarms.Table(), watched(all), b.Now()); len(there) == 0 {
			err = errors.Join(err, l.Gone(ctx, other))
		}
	}
	return err
}

func watched(all []cwalarms.Alarm) []ledger.Watched {
	out := make([]ledger.Watched, 0, len(all))
	for _, a := range all {
		out = append(out, ledger.Watched(a))
	}
	return out
}
