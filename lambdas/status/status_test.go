package status

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"originchain/lambdas/documents"
	"originchain/shared/alarms"
	"originchain/shared/aws/s3site"
	"originchain/shared/incident"
	"originchain/shared/registry"
)

// shelf keeps what was published.
type shelf map[string]s3site.File

func (s shelf) Put(_ context.Context, f s3site.File) error {
	s[f.Name] = f
	return nil
}

// broken is a registry that cannot be read while it is away.
type broken struct {
	registry.Store
	away string
}

func (b *broken) Load(ctx context.Context, key string) (registry.Document, error) {
	if b.away != "" && strings.HasPrefix(key, b.away) {
		return registry.Document{}, errors.New("away")
	}
	return b.Store.Load(ctx, key)
}

func TestThePage(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	reg := &broken{Store: registry.NewMemory()}
	store := incident.NewStore(documents.Of(reg), incident.Fixed{}, func() time.Time { return now }, func() float64 { return 0 })
	out := shelf{}
	p := New(store, out, "eu-central-1", func() time.Time { return now })
	schedule, err := os.ReadFile(filepath.Join("testdata", "schedule.json"))
	if err != nil {
		t.Fatal(err)
	}
	publish := func(want Health, n int) Page {
		t.Helper()
		a, err := p.Handle(t.Context(), schedule)
		var page Page
		if err == nil {
			err = json.Unmarshal(out["status.json"].Body, &page)
		}
		if err != nil || a.Health != want || a.Incidents != n || page.Regions[0].Health != want || !strings.Contains(string(out["index.html"].Body), string(want)) {
			t.Fatalf("%+v, %v: %+v", a, err, page)
		}
		return page
	}
	publish(Operational, 0)
	// All that is written in an incident is secret here.
	secrets := []string{"acme-b", "10.0.0.2", "orders", "oc_wal_fsync_lag_ms", "SECRET"}
	open := func(id string, s alarms.Severity, c incident.Cause) {
		t.Helper()
		o := incident.Opening{ID: id, Severity: s, Cause: c, Title: "SECRET acme-b at 10.0.0.2 of orders", Text: "SECRET <script>"}
		if _, err := store.Open(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Add(t.Context(), id, "word-1", "SECRET acme-b"); err != nil {
			t.Fatal(err)
		}
	}
	open("20260301T120000Z-SECRET-drift", alarms.Drift, incident.Cause{})
	publish(Operational, 0)
	open("20260301T120000Z-oc_wal_fsync_lag_ms-acme-b", alarms.OneAlarm, incident.Cause{Alarm: "oc_wal_fsync_lag_ms", Node: "acme-b"})
	publish(Degraded, 1)
	open("failover-SECRET", alarms.TenantDown, incident.Cause{Failover: "SECRET", Node: "acme-b"})
	page := publish(Outage, 2)
	for name, f := range out {
		for _, s := range secrets {
			if strings.Contains(string(f.Body), s) {
				t.Errorf("%s has %q in it", name, s)
			}
		}
		if f.CacheControl != "public, max-age=30" || f.ContentType == "" {
			t.Errorf("%s: %q, %q", name, f.ContentType, f.CacheControl)
		}
	}
	if len(page.Incidents[0].Updates) != 2 || page.Incidents[0].Resolved != nil {
		t.Errorf("%+v", page.Incidents)
	}
	now = now.Add(time.Hour)
	if _, err := store.Resolve(t.Context(), "failover-SECRET", "done-SECRET", "SECRET"); err != nil {
		t.Fatal(err)
	}
	page = publish(Degraded, 2)
	now = now.Add(shownFor + time.Second)
	publish(Degraded, 1)
	// What cannot be read is not published as well.
	before := string(out["status.json"].Body)
	reg.away = "incidents/"
	if a, err := p.Handle(t.Context(), schedule); err == nil || string(out["status.json"].Body) != before {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := p.Handle(t.Context(), []byte("[]")); err == nil {
		t.Error("a call that is no object was taken")
	}
}
