package notify

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/alarms"
	"originchain/shared/incident"
)

// lateRoster has something happen right after it was read, once, and fails after that as often
// as a test says.
type lateRoster struct {
	*incident.Roster
	then  func()
	fails int
}

func (l *lateRoster) Subscribers(ctx context.Context) ([]incident.Subscriber, error) {
	if l.then == nil && l.fails > 0 {
		l.fails--
		return nil, errors.New("ThrottlingException")
	}
	out, err := l.Roster.Subscribers(ctx)
	if do := l.then; do != nil {
		l.then = nil
		do()
	}
	return out, err
}

// crew is an incident that is owed to ops, by a store whose roster changes while it is in use.
type crew struct {
	*Notifier
	t      *testing.T
	roster *incident.Roster
	late   *lateRoster
	// other is the store of another function.
	store, other *incident.Store
	now          time.Time
	mail         *sent
	log          strings.Builder
}

func newCrew(t *testing.T) *crew {
	c := &crew{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), mail: &sent{}}
	docs := newDisk()
	c.roster = incident.NewRoster(docs)
	c.late = &lateRoster{Roster: c.roster}
	store := func(told incident.Told) *incident.Store {
		return incident.NewStore(docs, told, func() time.Time { return c.now }, func() float64 { return 0 })
	}
	c.store, c.other = store(c.late), store(c.roster)
	log := logrus.New()
	log.SetOutput(&c.log)
	c.Notifier = New(c.store, nil, c.mail, log)
	c.must(c.roster.Subscribe(t.Context(), incident.Subscriber{ID: "ops", Email: "ops@acme.example", UpTo: alarms.TenantDown}))
	_, err := c.other.Open(t.Context(), incident.Opening{ID: "i", Severity: alarms.TenantDown, Title: "x", Text: "x"})
	c.must(err)
	return c
}

func (c *crew) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// comes adds a subscriber, and an update that is owed to it.
func (c *crew) comes(id string) {
	c.t.Helper()
	c.must(c.roster.Subscribe(c.t.Context(), incident.Subscriber{ID: id, Email: id + "@acme.example", UpTo: alarms.TenantDown}))
	_, err := c.other.Resolve(c.t.Context(), "i", "over", "Over.")
	c.must(err)
}

func (c *crew) told() (to []string) {
	for _, m := range c.mail.all {
		to = append(to, m.Delivery)
	}
	slices.Sort(to)
	return to
}

// Whoever is added while a notifier runs, and is owed what that one claims, is told. Where the
// roster cannot be read anew the claim is let go, and comes back by itself.
func TestWhoIsAddedWhileARunGoesOn(t *testing.T) {
	for _, fails := range []int{0, 1} {
		c := newCrew(t)
		c.late.then, c.late.fails = func() { c.comes("new") }, fails
		report, err := c.Handle(t.Context())
		if (err != nil) != (fails > 0) || report.Delivered != 2-fails || report.Refused > 0 || report.GivenUp > 0 {
			t.Errorf("after %d failures: %+v, %v", fails, report, err)
		}
		for range 2 {
			c.now = c.now.Add(incident.ClaimFor)
			_, err = c.Handle(t.Context())
			c.must(err)
		}
		i, _, err := c.store.Get(t.Context(), "i")
		if want := []string{"i.1.ops", "i.2.new", "i.2.ops"}; err != nil || !slices.Equal(c.told(), want) || i.Updates[1].Missed > 0 || len(i.Owed) > 0 {
			t.Errorf("after %d failures %q were made, want %q: %+v, %v\n%s", fails, c.told(), want, i, err, &c.log)
		}
	}
}

// What is owed to somebody who was removed is given up, and calls nobody.
func TestWhoIsRemovedWhileARunGoesOn(t *testing.T) {
	c := newCrew(t)
	c.must(c.roster.Unsubscribe(t.Context(), "ops"))
	report, err := c.Handle(t.Context())
	if err != nil || report.Refused != 1 || report.GivenUp+report.Failed > 0 || len(c.told()) > 0 {
		t.Errorf("%+v, %v: %q", report, err, c.told())
	}
	if text := c.log.String(); !strings.Contains(text, "level=info") || strings.Contains(text, "level=error") {
		t.Errorf("logged: %s", text)
	}
}
