// Package alarmevent reads what CloudWatch says of an alarm: an event of EventBridge
// ("CloudWatch Alarm State Change"), or a message of SNS, alone or in what Lambda and SQS
// put around it. It believes nothing of what it reads: whose alarm it is, and how old the
// word, is for the caller to hold against what it knows.
package alarmevent

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// MaxBytes bounds an event.
const MaxBytes = 256 << 10

// ErrMalformed is in the chain of errors about what is no event of an alarm.
var ErrMalformed = errors.New("it is no event of a CloudWatch alarm")

// State is that of an alarm, in the service's words.
type State string

// The states.
const (
	OK               State = "OK"
	Alarm            State = "ALARM"
	InsufficientData State = "INSUFFICIENT_DATA"
)

// Event is that an alarm came into a state.
type Event struct {
	// ID is the event's own, if it has one: SNS and EventBridge deliver more than once.
	ID string
	// Account, Region and ARN are whose alarm it is, as the event claims.
	Account, Region, ARN string
	Alarm                string
	State                State
	// At is when the alarm came into the state.
	At     time.Time
	Reason string
}

// Key tells one change of one alarm from all others, however often and by whatever way it
// is told.
func (e Event) Key() string { return e.ARN + "@" + e.At.UTC().Format(KeyTime) }

// KeyTime is how a Key ends.
const KeyTime = "20060102T150405.000Z"

// bridged is an event of EventBridge.
type bridged struct {
	ID         string   `json:"id"`
	DetailType string   `json:"detail-type"`
	Source     string   `json:"source"`
	Account    string   `json:"account"`
	Region     string   `json:"region"`
	Resources  []string `json:"resources"`
	Detail     struct {
		AlarmName string `json:"alarmName"`
		State     struct {
			Value     string `json:"value"`
			Reason    string `json:"reason"`
			Timestamp string `json:"timestamp"`
		} `json:"state"`
	} `json:"detail"`
}

// published is the message that an alarm's SNS action publishes.
type published struct {
	AlarmName       string
	AlarmArn        string
	AWSAccountId    string
	NewStateValue   string
	NewStateReason  string
	StateChangeTime string
}

// wrapped is what SNS and SQS put around a message on its way to a function.
type wrapped struct {
	Records []struct {
		EventSource string
		Sns         struct {
			MessageId string
			Message   string
		}
	}
	// Type and Message are of an SNS notification in a queue.
	Type      string
	MessageId string
	Message   string
}

const (
	detailType = "CloudWatch Alarm State Change"
	source     = "aws.cloudwatch"
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Parse reads one event.
func Parse(raw []byte) (Event, error) {
	if len(raw) > MaxBytes {
		return Event{}, malformed("%d bytes, at most %d", len(raw), MaxBytes)
	}
	var w wrapped
	if err := json.Unmarshal(raw, &w); err != nil {
		return Event{}, malformed("%v", err)
	}
	switch {
	case len(w.Records) > 1:
		return Event{}, malformed("%d records in it, and SNS gives one to a call", len(w.Records))
	case len(w.Records) == 1 && w.Records[0].EventSource == "aws:sns":
		return message(w.Records[0].Sns.MessageId, w.Records[0].Sns.Message)
	case len(w.Records) == 1:
		return Event{}, malformed("a record of %.40q", w.Records[0].EventSource)
	case w.Type == "Notification":
		return message(w.MessageId, w.Message)
	}
	var b bridged
	if err := json.Unmarshal(raw, &b); err != nil {
		return Event{}, malformed("%v", err)
	}
	if b.DetailType != detailType || b.Source != source {
		return Event{}, malformed("its detail-type is %.60q, its source %.40q", b.DetailType, b.Source)
	}
	if len(b.Resources) != 1 {
		return Event{}, malformed("%d resources in it, and an alarm is one", len(b.Resources))
	}
	return checked(Event{ID: b.ID, Account: b.Account, Region: b.Region, ARN: b.Resources[0], Alarm: b.Detail.AlarmName,
		State: State(b.Detail.State.Value), Reason: b.Detail.State.Reason}, b.Detail.State.Timestamp)
}

// message reads what an alarm has published, or EventBridge through a topic.
func message(id, text string) (Event, error) {
	var p published
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return Event{}, malformed("the message of SNS: %v", err)
	}
	if p.AlarmName == "" && strings.Contains(text, detailType) {
		return Parse([]byte(text))
	}
	e := Event{ID: id, Account: p.AWSAccountId, ARN: p.AlarmArn, Alarm: p.AlarmName, State: State(p.NewStateValue), Reason: p.NewStateReason}
	if parts := strings.SplitN(p.AlarmArn, ":", 7); len(parts) == 7 { // SNS has the region's name in prose
		e.Region = parts[3]
	}
	return checked(e, p.StateChangeTime)
}

// checked holds an event against what every one has.
func checked(e Event, at string) (Event, error) {
	parts := strings.SplitN(e.ARN, ":", 7)
	switch e.State {
	case OK, Alarm, InsufficientData:
	default:
		return Event{}, malformed("the state %.40q", e.State)
	}
	if len(parts) != 7 || parts[0] != "arn" || parts[2] != "cloudwatch" || parts[5] != "alarm" {
		return Event{}, malformed("%.100q is the ARN of no alarm", e.ARN)
	}
	if parts[3] != e.Region || parts[4] != e.Account || parts[6] != e.Alarm || e.Alarm == "" {
		return Event{}, malformed("the ARN %.200q is not that of alarm %.100q in account %.20q and region %.30q, which it speaks of", e.ARN, e.Alarm, e.Account, e.Region)
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999-0700"} {
		if t, err := time.Parse(layout, at); err == nil {
			e.At = t.UTC()
			return e, nil
		}
	}
	return Event{}, malformed("the time %.60q", at)
}
