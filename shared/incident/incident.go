// Package incident is the record of what went wrong and who was told: an incident with
// its updates in order, and with the deliveries that are still owed for them, in one
// document that is replaced by compare-and-set.
//
// Invariants:
//
//   - An update and the deliveries that it owes come into being in one write: no update
//     is forgotten by a notifier that was killed, and none is owed twice.
//   - A delivery is claimed in the document before anything is sent, and settled in it
//     after. Two notifiers never send the same one at the same time, unless one of them
//     stood still for longer than ClaimFor; then the receiver sees the same delivery id
//     twice.
//   - A delivery is given up at a named age, and the update says so: owed, delivered and
//     given up always add up to what the update owed.
//   - An update is added once, whoever repeats the call: it has a key.
package incident

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"
	"unicode"

	"originchain/shared/alarms"
)

// The limits. Together they keep a document below MaxBytes, which is what the smallest
// store of documents takes: one that grew above it could neither be resolved nor settled.
const (
	MaxBytes      = 256 << 10
	MaxUpdates    = 50
	MaxTitleBytes = 200
	// MaxTextBytes is how long an update is as JSON has it, where a quote takes two.
	MaxTextBytes   = 1 << 10
	MaxSubscribers = 100
	// MaxOwed is how many deliveries an incident owes at most; those above are given up
	// at once, and counted: here, and by the notifier that comes next.
	MaxOwed = 200
	// GiveUpAfter is the age at which a delivery is given up.
	GiveUpAfter = 24 * time.Hour
	// ClaimFor is how long a claim keeps others from sending; an attempt takes less.
	ClaimFor = time.Minute
	// firstPause and longestPause bound the time between two attempts.
	firstPause   = 2 * time.Second
	longestPause = 10 * time.Minute
	// maxNamed is how many of an update's deliveries that were given up are named; the
	// rest are counted.
	maxNamed = 3
	// maxErrorBytes is how much of a failure is kept.
	maxErrorBytes = 100
)

// Incident is the document. Its JSON is stable.
type Incident struct {
	Format   int             `json:"format"`
	ID       string          `json:"id"`
	Severity alarms.Severity `json:"severity"`
	Title    string          `json:"title"`
	Cause    Cause           `json:"cause"`
	Opened   time.Time       `json:"opened"`
	Resolved *time.Time      `json:"resolved,omitempty"`
	Updates  []Update        `json:"updates"`
	// Owed are the deliveries that are not settled, oldest first.
	Owed []Delivery `json:"owed,omitempty"`
}

const format = 1

// Cause is what an incident was opened for.
type Cause struct {
	Alarm    string `json:"alarm,omitempty"`
	Node     string `json:"node,omitempty"`
	Failover string `json:"failover,omitempty"`
	// Instance is whose it is, in a store of several instances.
	Instance string `json:"instance,omitempty"`
}

// Update is one entry of the timeline.
type Update struct {
	// Seq counts from 1. Key tells a repeated call.
	Seq  int       `json:"seq"`
	Key  string    `json:"key"`
	At   time.Time `json:"at"`
	Text string    `json:"text"`
	// Resolves: the incident ended with it.
	Resolves bool `json:"resolves,omitempty"`
	// Delivered is how many subscribers have it, Missed how many will not get it; GivenUp
	// are the first of those.
	Delivered int       `json:"delivered"`
	Missed    int       `json:"missed,omitempty"`
	GivenUp   []GivenUp `json:"given_up,omitempty"`
	// Unsaid is how many of Missed were given up at once, and nobody was called for it yet.
	Unsaid int `json:"unsaid,omitempty"`
}

func (u *Update) giveUp(subscriber, reason string) {
	if u.Missed++; len(u.GivenUp) < maxNamed {
		u.GivenUp = append(u.GivenUp, GivenUp{subscriber, reason})
	}
}

// GivenUp is a delivery that was not made.
type GivenUp struct {
	Subscriber string `json:"subscriber"`
	Reason     string `json:"reason"`
}

// Delivery is an update that one subscriber is still owed. Its ID never changes.
type Delivery struct {
	ID         string    `json:"id"`
	Update     int       `json:"update"`
	Subscriber string    `json:"subscriber"`
	Since      time.Time `json:"since"`
	// Due is when the next attempt may be made; while one is claimed, when the claim
	// ends.
	Due      time.Time `json:"due"`
	Claimed  bool      `json:"claimed,omitempty"`
	Attempts int       `json:"attempts"`
	Error    string    `json:"error,omitempty"`
}

// Rules that are broken.
var (
	ErrResolved = errors.New("the incident is resolved: open another one")
	ErrFull     = fmt.Errorf("the incident has %d updates, and takes only one that resolves it", MaxUpdates)
)

var idText = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func checkID(what, id string) error {
	if !idText.MatchString(id) {
		return fmt.Errorf("the %s %q: give 1 to 64 letters, digits, dots, dashes and underscores", what, id)
	}
	return nil
}

// settled: nothing is owed, and nothing will be.
func (i *Incident) settled() bool { return i.Resolved != nil && len(i.Owed) == 0 }

func (o *Opening) check() error {
	switch {
	case o.Severity < alarms.TenantDown || o.Severity > alarms.Drift:
		return fmt.Errorf("severity %d: give 1, 2 or 3", o.Severity)
	case o.Title == "" || len(o.Title) > MaxTitleBytes || containsControl(o.Title):
		return fmt.Errorf("the title of an incident is one line of at most %d bytes", MaxTitleBytes)
	case o.Text == "" || encodedBytes(o.Text) > MaxTextBytes:
		return fmt.Errorf("an incident is opened with a text of at most %d bytes", MaxTextBytes)
	}
	return checkID("incident", o.ID)
}

func containsControl(s string) bool {
	return slices.ContainsFunc([]rune(s), unicode.IsControl)
}

// add adds an update and what it owes. changed is false if it is there already.
func (i *Incident) add(u Update, to []Subscriber) (changed bool, err error) {
	if err := checkID("key of an update", u.Key); err != nil {
		return false, err
	}
	if n := encodedBytes(u.Text); u.Text == "" || n > MaxTextBytes {
		return false, fmt.Errorf("the text of an update has 1 to %d bytes, as JSON has it, this one %d", MaxTextBytes, n)
	}
	if slices.ContainsFunc(i.Updates, func(have Update) bool { return have.Key == u.Key }) {
		return false, nil
	}
	switch {
	case i.Resolved != nil:
		return false, ErrResolved
	case len(i.Updates) >= MaxUpdates && !u.Resolves:
		return false, ErrFull
	}
	u.Seq = len(i.Updates) + 1
	if n := len(i.Updates); n > 0 && u.At.Before(i.Updates[n-1].At) {
		u.At = i.Updates[n-1].At // a timeline does not go back, whatever a clock does
	}
	if u.Resolves {
		i.Resolved = &u.At
	}
	for _, s := range to {
		switch {
		case i.Severity > s.UpTo:
		case len(i.Owed) >= MaxOwed:
			u.giveUp(s.ID, fmt.Sprintf("%d deliveries were owed already", MaxOwed))
			u.Unsaid++
		default:
			i.Owed = append(i.Owed, Delivery{ID: fmt.Sprintf("%s.%d.%s", i.ID, u.Seq, s.ID), Update: u.Seq, Subscriber: s.ID, Since: u.At, Due: u.At})
		}
	}
	i.Updates = append(i.Updates, u)
	return true, nil
}

// due are the deliveries that may be attempted now. Updates reach a subscriber in their
// order: a later one waits until the one before is settled.
func (i *Incident) due(now time.Time) (out []Delivery) {
	seen := make(map[string]bool)
	for _, d := range i.Owed {
		if !seen[d.Subscriber] && !d.Due.After(now) {
			out = append(out, d)
		}
		seen[d.Subscriber] = true
	}
	return out
}

// claim marks a delivery as being attempted. ok is false if it is settled, or not due.
func (i *Incident) claim(id string, now time.Time) (d Delivery, ok bool) {
	at := slices.IndexFunc(i.Owed, func(d Delivery) bool { return d.ID == id })
	if at < 0 || i.Owed[at].Due.After(now) {
		return Delivery{}, false
	}
	o := &i.Owed[at]
	o.Claimed, o.Due, o.Attempts = true, now.Add(ClaimFor), o.Attempts+1
	return *o, true
}

// settle records how the attempt that was claimed ended. An attempt whose claim has
// passed to somebody else settles it all the same when it was delivered.
func (i *Incident) settle(claimed Delivery, failure error, final bool, now time.Time, jitter float64) (changed, gaveUp bool) {
	at := slices.IndexFunc(i.Owed, func(d Delivery) bool { return d.ID == claimed.ID })
	if at < 0 {
		return false, false
	}
	o, u := &i.Owed[at], &i.Updates[claimed.Update-1]
	age := now.Sub(o.Since)
	switch {
	case failure == nil:
		u.Delivered++
	case o.Attempts != claimed.Attempts:
		return false, false // it is another's attempt by now
	case final || age >= GiveUpAfter:
		reason := Brief(failure)
		if !final {
			reason = fmt.Sprintf("given up after %s and %d attempts: %s", GiveUpAfter, o.Attempts, reason)
		}
		u.giveUp(o.Subscriber, reason)
	default:
		o.Claimed, o.Error, o.Due = false, Brief(failure), now.Add(pause(o.Attempts, jitter))
		return true, false
	}
	i.Owed = slices.Delete(i.Owed, at, at+1)
	return true, failure != nil
}

// pause is how long to wait after so many attempts: twice as long each time up to the
// longest, less up to half of it by jitter, which is in [0, 1).
func pause(attempts int, jitter float64) time.Duration {
	p := longestPause
	if shift := attempts - 1; shift < 20 {
		p = min(longestPause, firstPause<<max(0, shift))
	}
	return p - time.Duration(jitter*float64(p)/2)
}

// encode writes a document. HTML is of no interest, and what escapes it takes six bytes
// for one.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

func encodedBytes(text string) int {
	b, err := encode(text)
	if err != nil {
		return math.MaxInt // no text fails
	}
	return len(b) - len("\"\"\n")
}

// Clip shortens a text to what an update takes.
func Clip(text string) string {
	const more = " …"
	runes := []rune(text)
	for short := text; ; short = string(runes) + more {
		over := encodedBytes(short) - MaxTextBytes
		if over <= 0 {
			return short
		}
		runes = runes[:max(0, len(runes)-max(1, over/maxRuneBytes))]
	}
}

// maxRuneBytes is what JSON makes of one character at most.
const maxRuneBytes = 6

// Brief is what is kept of a failure: one line, and not all of a long one.
func Brief(err error) string { return Line(err, maxErrorBytes) }

// Line is a failure as one line of at most so many bytes.
func Line(err error, most int) string {
	s := err.Error()
	if len(s) > most {
		s = s[:most]
	}
	clean := []rune(s)
	for i, r := range clean {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			clean[i] = ' '
		}
	}
	return string(clean)
}
