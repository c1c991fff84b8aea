// Package notify is the function that tells subscribers of incidents: it looks for
// deliveries that are due, makes one attempt at each, and records how it ended. It is
// stateless: killed between any two steps, or run twice at once, it loses nothing, and
// what it repeats carries the same delivery id.
package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"originchain/shared/alarms"
	"originchain/shared/incident"
	"originchain/shared/notice"
)

// atOnce is how many attempts are under way.
const atOnce = 8

// Webhooks and Mail make one attempt; an error that is notice.ErrRefused is final.
type (
	// Webhooks is *notice.Webhooks.
	Webhooks interface {
		Send(ctx context.Context, target string, secret []byte, delivery string, body []byte) error
	}
	// Mail is *notice.Mail.
	Mail interface {
		Send(ctx context.Context, msg notice.Message) error
	}
)

// Notifier tells subscribers.
type Notifier struct {
	store    *incident.Store
	webhooks Webhooks
	mail     Mail // nil: there is no mail server
}

// New makes a Notifier; mail may be nil.
func New(store *incident.Store, webhooks Webhooks, mail Mail) *Notifier {
	return &Notifier{store: store, webhooks: webhooks, mail: mail}
}

// Report is what a run did.
type Report struct {
	Delivered int `json:"delivered"`
	Failed    int `json:"failed"`
	Refused   int `json:"refused"`
}

// Handle makes one attempt at every delivery that is due. An error says what kept it
// from looking at all of them; what it did is in the report.
func (n *Notifier) Handle(ctx context.Context) (Report, error) {
	ids, err := n.store.Active(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("incidents cannot be listed: %w", err)
	}
	subscribers, err := n.store.Subscribers(ctx)
	if err != nil {
		return Report{}, err
	}
	to := make(map[string]*incident.Subscriber, len(subscribers))
	for i := range subscribers {
		to[subscribers[i].ID] = &subscribers[i]
	}
	run := &run{n: n, to: to}
	group := &errgroup.Group{}
	group.SetLimit(atOnce)
	for _, id := range ids {
		i, claimed, settled, err := n.store.Claim(ctx, id)
		if err != nil {
			run.fault(err) // the others are told all the same
			continue
		}
		if settled || i.Format == 0 {
			if err := n.store.Retire(ctx, id); err != nil {
				run.fault(err)
			}
		}
		for _, d := range claimed {
			group.Go(func() error {
				run.deliver(ctx, i, d)
				return nil
			})
		}
	}
	_ = group.Wait()
	return run.report, errors.Join(run.faults...)
}

// run is one call of Handle.
type run struct {
	n  *Notifier
	to map[string]*incident.Subscriber

	mu     sync.Mutex
	report Report
	faults []error
}

func (r *run) fault(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, err)
}

// deliver makes one attempt and settles it. What was delivered is settled even when the
// run's time is over: it would be sent again otherwise.
//
// A claim that was waiting for its turn for so long that another notifier could make the
// same attempt before this one ends is let go: it comes back by itself.
func (r *run) deliver(ctx context.Context, i *incident.Incident, d incident.Delivery) {
	if r.n.store.Left(d) < notice.AttemptTimeout {
		return
	}
	failure := r.n.attempt(ctx, i, d, r.to[d.Subscriber])
	final := errors.Is(failure, notice.ErrRefused)
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if err := r.n.store.Settle(settling, i.ID, d, failure, final); err != nil {
		r.fault(err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case failure == nil:
		r.report.Delivered++
	case final:
		r.report.Refused++
	default:
		r.report.Failed++
	}
}

const settleTimeout = 10 * time.Second

func (n *Notifier) attempt(ctx context.Context, i *incident.Incident, d incident.Delivery, s *incident.Subscriber) error {
	u := &i.Updates[d.Update-1]
	switch {
	case s == nil:
		return fmt.Errorf("%w: it is no subscriber any more", notice.ErrRefused)
	case s.Webhook != "":
		body, err := json.Marshal(bodyOf(i, u, d))
		if err != nil {
			return err
		}
		return n.webhooks.Send(ctx, string(s.Webhook), []byte(s.Secret), d.ID, body)
	case n.mail == nil:
		return errors.New("no mail server is configured")
	}
	return n.mail.Send(ctx, notice.Message{Delivery: d.ID, To: s.Email, Subject: subject(i, u), Text: text(i, u)})
}

// Body is what a webhook receives. Its JSON is stable.
type Body struct {
	Delivery string          `json:"delivery"`
	Incident string          `json:"incident"`
	Severity alarms.Severity `json:"severity"`
	Title    string          `json:"title"`
	Cause    incident.Cause  `json:"cause"`
	Opened   time.Time       `json:"opened"`
	Update   int             `json:"update"`
	At       time.Time       `json:"at"`
	Text     string          `json:"text"`
	Resolved bool            `json:"resolved"`
}

func bodyOf(i *incident.Incident, u *incident.Update, d incident.Delivery) Body {
	return Body{Delivery: d.ID, Incident: i.ID, Severity: i.Severity, Title: i.Title, Cause: i.Cause, Opened: i.Opened, Update: u.Seq, At: u.At, Text: u.Text, Resolved: u.Resolves}
}

func subject(i *incident.Incident, u *incident.Update) string {
	state := "update"
	switch {
	case u.Resolves:
		state = "resolved"
	case u.Seq == 1:
		state = "opened"
	}
	return fmt.Sprintf("[severity %d] %s: %s", i.Severity, state, i.Title)
}

func text(i *incident.Incident, u *incident.Update) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n%s\n\nincident %s, update %d, %s\nopened %s\n", i.Title, u.Text, i.ID, u.Seq, u.At.UTC().Format(time.RFC3339), i.Opened.UTC().Format(time.RFC3339))
	if i.Cause.Alarm != "" {
		fmt.Fprintf(&b, "alarm %s %s\n", i.Cause.Alarm, i.Cause.Node)
	}
	return b.String()
}
