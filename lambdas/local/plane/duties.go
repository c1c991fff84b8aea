package plane

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/documents"
	"originchain/lambdas/ledger"
	"originchain/lambdas/local/control"
	"originchain/lambdas/local/roster"
	"originchain/lambdas/notify"
	"originchain/lambdas/pitrverify"
	"originchain/shared/alarms"
	"originchain/shared/incident"
	"originchain/shared/schedule"
	"originchain/shared/telemetry"
)

const (
	// notifyEvery is the pause between two looks at what is owed to subscribers;
	// notifyLimit bounds one: an attempt is bounded by itself.
	notifyEvery = time.Second
	notifyLimit = 5 * time.Minute
)

// duties are the functions that this control plane runs itself, which on AWS are Lambdas:
// heartbeats and silence, incidents and who is told of them, verification.
type duties struct {
	metrics   *telemetry.Metrics
	heart     *heart
	incidents *incident.Store
	notifier  *notify.Notifier
	ledger    *ledger.Ledger
	verifier  *pitrverify.Verifier
	verified  pitrverify.Record // as it was at the start
}

// openDuties reads what they go on from; nothing runs yet.
func (p *Plane) openDuties(ctx context.Context) error {
	told, err := roster.Read(string(p.dir))
	if err != nil {
		return fmt.Errorf("read who is told of incidents: %w", err)
	}
	p.metrics = telemetry.NewMetrics()
	p.incidents = incident.NewStore(documents.Of(p.registry), told.Subscribers, time.Now, rand.Float64)
	var mail notify.Mail
	if told.Mail != nil {
		mail = told.Mail
	}
	p.notifier = notify.New(p.incidents, told.Webhooks, mail, p.log)
	p.ledger = ledger.New(ledger.Deps{Incidents: p.incidents, Registry: p.registry, Log: p.log, Now: time.Now})
	// Whoever had this directory before is no more: this one has its lock.
	if err := p.ledger.Load(ctx, true); err != nil {
		return fmt.Errorf("read the incidents that are open: %w", err)
	}
	if p.verifier, err = p.newVerifier(p.metrics); err != nil {
		return err
	}
	if p.verified, err = p.verifier.Load(ctx); err != nil {
		return err
	}
	p.bells.age = func() float64 { return verifiedAge(p.verifier) }
	p.heart = newHeart(p, p.log, p.metrics, p.bells.told)
	p.watch.beat = p.heart.beat
	p.bells.silent = p.heart.silence.Status
	return nil
}

// tell tells subscribers until ctx ends, whether or not any node runs.
func (p *Plane) tell(ctx context.Context) error {
	return p.scheduled(ctx, schedule.Job{Name: "tell subscribers", Every: notifyEvery, Limit: notifyLimit, Run: func(ctx context.Context) error {
		report, err := p.notifier.Handle(ctx)
		if report.Delivered+report.Failed+report.Refused+report.GivenUp > 0 {
			p.log.WithFields(logrus.Fields{"delivered": report.Delivered, "failed": report.Failed, "refused": report.Refused, "given_up": report.GivenUp}).Info("subscribers were told of incidents")
		}
		return err
	}})
}

// attend has the rest running until ctx ends: what is about nodes that run.
func (p *Plane) attend(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { p.bells.run(ctx, p.note) })
	all.Go(func() { p.heart.run(ctx) })
	all.Go(func() {
		if err := p.scheduled(ctx, p.verifyJob(p.verified, p.verifier)); err != nil {
			p.log.WithError(err).Error("nothing is verified")
		}
	})
	all.Wait()
}

// scheduled runs a job. A failure is logged unless the run before had the same one.
func (p *Plane) scheduled(ctx context.Context, j schedule.Job) error {
	said, run := "", j.Run
	j.Run = func(ctx context.Context) error {
		err := run(ctx)
		if err == nil {
			said = ""
		}
		return err
	}
	s, err := schedule.New([]schedule.Job{j}, func(job string, err error) {
		if text := err.Error(); text != said {
			said = text
			p.log.WithError(err).WithField("job", job).Error("a scheduled job failed; it comes again")
		}
	})
	if err != nil {
		return err
	}
	_ = s.Run(ctx) // that of ctx
	return nil
}

// note brings the incidents up to date with the alarms.
func (p *Plane) note(ctx context.Context, all []alarms.Status) {
	_, s, ok := p.watch.writer()
	_ = p.ledger.Round(ctx, all, ok && s.ready) // it has logged what it could not do, and the next round does it
}

// measured serves /metrics beside another handler.
func measured(metrics *telemetry.Metrics, rest http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.Handler())
	mux.Handle("/", rest)
	return mux
}

// openIncidents is what status says of them.
func (p *Plane) openIncidents(ctx context.Context) ([]control.Incident, error) {
	out := []control.Incident{}
	ids, err := p.incidents.Active(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		i, ok, err := p.incidents.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if ok && i.Resolved == nil {
			out = append(out, control.Incident{ID: i.ID, Severity: int(i.Severity), Title: i.Title, Opened: i.Opened, Updates: len(i.Updates), Owed: len(i.Owed)})
		}
	}
	return out, nil
}
