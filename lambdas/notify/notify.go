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
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"originchain/shared/alarms"
	"originchain/shared/aws/session"
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
	log      logrus.FieldLogger
	// rest waits before what was not recorded is recorded anew.
	rest func(ctx context.Context, pause time.Duration) error
}

// New makes a Notifier; mail may be nil. What is not delivered is logged.
func New(store *incident.Store, webhooks Webhooks, mail Mail, log logrus.FieldLogger) *Notifier {
	return &Notifier{store: store, webhooks: webhooks, mail: mail, log: log, rest: session.Rest}
}

// Report is what a run did.
type Report struct {
	Delivered int `json:"delivered"`
	Failed    int `json:"failed"`
	Refused   int `json:"refused"`
	// GivenUp are those that no attempt will follow, and that somebody waits for: of Refused
	// it is each but those of subscribers that were removed; and those for which there was no
	// room, that no attempt was made at.
	GivenUp int `json:"given_up"`
	// Of has those of Failed and GivenUp by the instance of their incident, "" for one that
	// has none: in a store of several instances any notifier makes the attempts of all.
	Of map[string]Untold `json:"-"`
}

// Untold counts what was not delivered, as a Report does.
type Untold struct{ Failed, GivenUp int }

// Handle makes one attempt at every delivery that is due, and that there is time for: what
// cannot be ended before ctx is over is not begun, and left to the next run. An error says
// what kept it from looking at all of them; what it did is in the report.
func (n *Notifier) Handle(ctx context.Context) (Report, error) {
	ids, err := n.store.Active(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("incidents cannot be listed: %w", err)
	}
	to, err := n.roster(ctx)
	if err != nil {
		return Report{}, err
	}
	run := &run{n: n, to: to}
	group := &errgroup.Group{}
	group.SetLimit(atOnce)
	for _, id := range ids {
		if !roomFor(ctx, attemptAndSettle) {
			break
		}
		run.begin(ctx, group, id)
	}
	_ = group.Wait()
	return run.report, errors.Join(run.faults...)
}

// roster is who is told as of now, by id.
func (n *Notifier) roster(ctx context.Context) (map[string]*incident.Subscriber, error) {
	subscribers, err := n.store.Subscribers(ctx)
	to := make(map[string]*incident.Subscriber, len(subscribers))
	for i := range subscribers {
		to[subscribers[i].ID] = &subscribers[i]
	}
	return to, err
}

// run is one call of Handle.
type run struct {
	n *Notifier
	// to is the roster as it was read last; only Handle's own goroutine has it.
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

// untold counts what was not delivered of an incident. The caller has the lock.
func (r *run) untold(i *incident.Incident, failed, givenUp int) {
	if r.report.Of == nil {
		r.report.Of = make(map[string]Untold)
	}
	of := r.report.Of[i.Cause.Instance]
	r.report.Of[i.Cause.Instance] = Untold{of.Failed + failed, of.GivenUp + givenUp}
	r.report.Failed += failed
	r.report.GivenUp += givenUp
}

// begin claims what an incident owes, and has it delivered.
func (r *run) begin(ctx context.Context, group *errgroup.Group, id string) {
	i, claimed, settled, err := r.n.store.Claim(ctx, id)
	if err != nil {
		r.fault(err) // the others are told all the same
		return
	}
	if settled || i.Format == 0 {
		if err := r.n.store.Retire(ctx, id); err != nil {
			r.fault(err)
		}
	}
	r.unsaid(ctx, i)
	for _, d := range r.known(ctx, claimed) {
		to := r.to[d.Subscriber]
		group.Go(func() error {
			r.deliver(ctx, i, d, to)
			return nil
		})
	}
}

// unsaid logs and counts what an incident gave up at once when an update came.
func (r *run) unsaid(ctx context.Context, i *incident.Incident) {
	missed := 0
	for _, u := range i.Updates {
		if u.Unsaid == 0 {
			continue
		}
		missed += u.Unsaid
		log := r.n.logOf(i).WithFields(logrus.Fields{"incident": i.ID, "update": u.Seq, "subscribers": u.Unsaid})
		for _, g := range u.GivenUp[:min(1, len(u.GivenUp))] {
			log = log.WithFields(logrus.Fields{"subscriber": g.Subscriber, "cause": g.Reason})
		}
		log.Error("subscribers are not told of an update: too much was owed already, and no attempt is made")
	}
	if missed == 0 {
		return
	}
	r.mu.Lock()
	r.untold(i, 0, missed)
	r.mu.Unlock()
	if err := r.n.store.Said(ctx, i.ID, len(i.Updates)); err != nil {
		r.fault(err) // it is said again
	}
}

// known are the claims of which it is known whom they are for, or that it is nobody any more.
// Somebody who is not in the roster may have been added after it was read, and before what is
// claimed was owed; who is not in one that is read after that was removed. While it cannot be
// read such a claim is let go: it comes back by itself.
func (r *run) known(ctx context.Context, claimed []incident.Delivery) []incident.Delivery {
	stranger := func(d incident.Delivery) bool { return r.to[d.Subscriber] == nil }
	if !slices.ContainsFunc(claimed, stranger) {
		return claimed
	}
	to, err := r.n.roster(ctx)
	if err != nil {
		r.fault(fmt.Errorf("whether somebody is a subscriber still is not known: %w", err))
		return slices.DeleteFunc(claimed, stranger)
	}
	r.to = to
	return claimed
}

// deliver makes one attempt and settles it; to is nil for somebody who was removed. What was delivered is settled even when the
// run's time is over: it would be sent again otherwise.
//
// A claim that was waiting for its turn for so long that another notifier could make the
// same attempt before this one is settled is let go: it comes back by itself. So is one that
// whoever runs this would end in the middle of.
func (r *run) deliver(ctx context.Context, i *incident.Incident, d incident.Delivery, to *incident.Subscriber) {
	if r.n.store.Left(d) < notice.AttemptTimeout || !roomFor(ctx, attemptAndSettle) {
		return
	}
	failure := r.n.attempt(ctx, i, d, to)
	final := errors.Is(failure, notice.ErrRefused)
	gaveUp, err := r.n.settle(ctx, i.ID, d, failure, final)
	r.n.tell(i, d, failure, gaveUp, to == nil, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil:
		r.faults = append(r.faults, err)
		if failure != nil {
			r.untold(i, 1, 0)
		}
		return
	case failure == nil:
		r.report.Delivered++
	case final:
		r.report.Refused++
	default:
		r.untold(i, 1, 0)
	}
	if gaveUp && to != nil {
		r.untold(i, 0, 1)
	}
}

const (
	// settleTimeout bounds how long it is tried to record how an attempt ended, settleTries
	// how often; the pauses between two grow from firstRest to longestRest.
	settleTimeout = 10 * time.Second
	settleTries   = 8
	firstRest     = 100 * time.Millisecond
	longestRest   = time.Second
	// loggedBytes is how much of a failure is logged: the incident keeps less, and what SES says
	// comes to whose identity it is of after that.
	loggedBytes = 400
	// attemptAndSettle is what a delivery takes at most.
	attemptAndSettle = notice.AttemptTimeout + settleTimeout
)

// roomFor says whether ctx lasts for so long.
func roomFor(ctx context.Context, need time.Duration) bool {
	end, ends := ctx.Deadline()
	return !ends || time.Until(end) >= need
}

// settle records how an attempt ended. A store that is too busy for a moment does not have it
// sent again: that is as harmless to repeat as sending is not.
func (n *Notifier) settle(ctx context.Context, id string, d incident.Delivery, failure error, final bool) (gaveUp bool, err error) {
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	pause := firstRest
	for range settleTries {
		gone, tryErr := n.store.Settle(settling, id, d, failure, final)
		gaveUp = gaveUp || gone // an answer that was lost is followed by one that nothing is owed
		if err = tryErr; err == nil || n.rest(settling, pause) != nil {
			break
		}
		pause = min(2*pause, longestRest)
	}
	return gaveUp, err
}

// logOf says whose incident it is, where there are several instances.
func (n *Notifier) logOf(i *incident.Incident) logrus.FieldLogger {
	if i.Cause.Instance == "" {
		return n.log
	}
	return n.log.WithField("instance", i.Cause.Instance)
}

// tell logs what was not delivered, or was and is not recorded.
func (n *Notifier) tell(i *incident.Incident, d incident.Delivery, failure error, gaveUp, removed bool, unrecorded error) {
	log := n.logOf(i).WithFields(logrus.Fields{"delivery": d.ID, "subscriber": d.Subscriber, "attempts": d.Attempts})
	if failure != nil {
		log = log.WithField("cause", incident.Line(failure, loggedBytes))
	}
	switch {
	case unrecorded != nil && failure == nil:
		log.WithError(unrecorded).Error("a delivery was made and could not be recorded: it comes again, under the same id")
	case unrecorded != nil:
		log.WithError(unrecorded).Error("a delivery failed, and that could not be recorded: it comes again when its claim ends")
	case failure != nil && removed:
		log.Info("what was owed to somebody who is no subscriber any more is given up")
	case failure != nil && gaveUp:
		log.Error("a subscriber is not told: no attempt follows")
	case failure != nil:
		log.Error("a subscriber is not told yet: the delivery failed, and is tried again")
	}
}

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
