package notify

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/alarmevent"
	"originchain/lambdas/embedded"
	"originchain/lambdas/ledger"
	"originchain/lambdas/outcome"
	"originchain/lambdas/scheduled"
	"originchain/shared/alarms"
)

// MaxRecords is how many messages a queue gives to one call.
const MaxRecords = 10_000

// maxCallBytes is what Lambda gives to a call at most.
const maxCallBytes = 6 << 20

// Keep brings the incidents of the instance up to date, and adds words to them. Several at
// the same time do what one does.
type Keep func(ctx context.Context, words ...ledger.Word) error

// HandlerDeps are what a Handler works with.
type HandlerDeps struct {
	Notifier *Notifier
	// Keep is nil where incidents are another function's: this one only tells of them.
	Keep Keep
	// Account and Region are whose alarms are listened to; "" are all.
	Account, Region string
	Log             logrus.FieldLogger
	// Publish has what was not delivered counted; nil where nobody counts.
	Publish func(Report)
}

// Handler is the function on AWS. A queue, a schedule or a state machine calls it, and
// whoever does, it looks at what is so: an alarm's message wakes it, and is believed
// nothing.
//
// Invariants:
//
//   - A message is acknowledged once what it stands for is in an incident: what fails
//     before that is named in the answer, and the queue gives it again, and lays it aside
//     in the end.
//   - Deliveries that fail are no failure of a message: they are owed, and the schedule
//     comes again.
type Handler struct{ deps HandlerDeps }

// NewHandler makes a Handler.
func NewHandler(deps HandlerDeps) *Handler { return &Handler{deps} }

// Answer is what the function answers: to a queue, which messages it is to give again.
type Answer struct {
	Report
	BatchItemFailures []ItemFailure `json:"batchItemFailures"`
}

// ItemFailure names a message.
type ItemFailure struct {
	ItemIdentifier string `json:"itemIdentifier"`
}

// Say is what a state machine calls with.
type Say struct {
	Execution string `json:"execution"`
	Step      string `json:"step"`
	Run       string `json:"run"`
	// Text is for people; "" has nothing to say but that the journal has news.
	Text string `json:"text"`
}

// incoming is a call: the queue's, a schedule's, or a state machine's.
type incoming struct {
	Records []struct {
		MessageID   string `json:"messageId"`
		EventSource string `json:"eventSource"`
		Body        string `json:"body"`
	} `json:"Records"`
	scheduled.Event
	Say *Say `json:"say"`
}

// Handle answers one call.
func (h *Handler) Handle(ctx context.Context, raw []byte) (Answer, error) {
	a := Answer{BatchItemFailures: []ItemFailure{}}
	var in incoming
	if len(raw) > maxCallBytes || json.Unmarshal(raw, &in) != nil || len(in.Records) > MaxRecords {
		return a, input("it is called by a queue, a schedule, or with {\"say\": …}")
	}
	switch {
	case len(in.Records) > 0:
		return h.batch(ctx, a, &in)
	case in.Say != nil:
		if err := h.keep(ctx, in.Say.words()...); err != nil {
			return a, err
		}
	case in.Scheduled():
		// What was missed is made good by now; what still cannot be is told of all the same.
		if err := h.keep(ctx); err != nil {
			return a, errors.Join(err, h.tell(ctx, &a))
		}
	default:
		return a, input("the call is none of a queue, a schedule or a state machine: its source is %.60q", in.Source)
	}
	return a, h.tell(ctx, &a)
}

// tell makes the deliveries that are due, and counts them.
func (h *Handler) tell(ctx context.Context, a *Answer) (err error) {
	a.Report, err = h.deps.Notifier.Handle(ctx)
	if h.deps.Publish != nil && a.Failed+a.GivenUp > 0 {
		h.deps.Publish(a.Report)
	}
	return err
}

// Publish writes how many deliveries were not made as CloudWatch reads metrics from a
// function's log: of each instance whose incidents they are of, whichever function made the
// attempts, and of this function's own for incidents that have none. So an instance's alarms
// count what concerns it, and all of that.
func Publish(out io.Writer, instance string, now func() time.Time) func(Report) {
	return func(r Report) {
		by := make(map[string]Untold, len(r.Of))
		for of, n := range r.Of {
			of = cmp.Or(of, instance)
			by[of] = Untold{by[of].Failed + n.Failed, by[of].GivenUp + n.GivenUp}
		}
		delete(by, "") // neither has an instance
		for _, of := range slices.Sorted(maps.Keys(by)) {
			// Each delivery that failed is in the log besides.
			_ = embedded.Publish(out, alarms.Namespace(of), of, now(),
				embedded.Metric{Name: alarms.DeliveriesFailed, Unit: "Count", Value: float64(by[of].Failed)},
				embedded.Metric{Name: alarms.DeliveriesGivenUp, Unit: "Count", Value: float64(by[of].GivenUp)})
		}
	}
}

func (s *Say) words() []ledger.Word {
	if s.Text == "" {
		return nil
	}
	return []ledger.Word{{Execution: s.Execution, Step: s.Step, Run: s.Run, Text: s.Text}}
}

func (h *Handler) keep(ctx context.Context, words ...ledger.Word) error {
	if h.deps.Keep == nil {
		if len(words) > 0 {
			return input("this function keeps no incidents: what is to be said belongs to that of the instance")
		}
		return nil
	}
	return h.deps.Keep(ctx, words...)
}

// batch takes the messages of a queue.
func (h *Handler) batch(ctx context.Context, a Answer, in *incoming) (Answer, error) {
	var words []ledger.Word
	var read []string
	for _, r := range in.Records {
		if r.EventSource != "aws:sqs" || r.MessageID == "" {
			return a, input("a record of %.40q, and only a queue's are taken", r.EventSource)
		}
		said, err := h.message(r.MessageID, []byte(r.Body))
		if err != nil {
			h.deps.Log.WithError(err).WithField("message", r.MessageID).Error("a message was not understood; the queue lays it aside in the end")
			a.BatchItemFailures = append(a.BatchItemFailures, ItemFailure{r.MessageID})
			continue
		}
		words, read = append(words, said...), append(read, r.MessageID)
	}
	if len(read) == 0 {
		return a, nil
	}
	if err := h.keep(ctx, words...); err != nil {
		h.deps.Log.WithError(err).Error("incidents are not up to date: the queue gives its messages again")
		for _, id := range read {
			a.BatchItemFailures = append(a.BatchItemFailures, ItemFailure{id})
		}
		return a, nil
	}
	if err := h.tell(ctx, &a); err != nil { // they are owed, and the schedule comes again
		h.deps.Log.WithError(err).Error("not all subscribers were told")
	}
	return a, nil
}

// message reads the body of a message: an alarm's, or what a state machine says.
func (h *Handler) message(id string, body []byte) ([]ledger.Word, error) {
	var m struct {
		Say *Say `json:"say"`
	}
	if json.Unmarshal(body, &m) == nil && m.Say != nil {
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&m); err != nil {
			return nil, err
		}
		return m.Say.words(), nil
	}
	e, err := alarmevent.Parse(body)
	if err != nil {
		return nil, err
	}
	if h.deps.Account != "" && e.Account != h.deps.Account || h.deps.Region != "" && e.Region != h.deps.Region {
		h.deps.Log.WithFields(logrus.Fields{"message": id, "alarm_arn": e.ARN}).Warn("an alarm of another account or region is ignored")
	}
	return nil, nil
}

func input(format string, args ...any) error {
	return &outcome.Error{Name: outcome.Input, Err: fmt.Errorf(format, args...)}
}
