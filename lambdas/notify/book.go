package notify

import (
	"context"
	"errors"
	"fmt"
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
		watched := make([]ledger.Watched, 0, len(all))
		for _, a := range all {
			watched = append(watched, ledger.Watched(a))
		}
		statuses, overFor := ledger.FromCloudWatch(b.Instance, alarms.Table(), watched, b.Now())
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
		return err
	}
}
