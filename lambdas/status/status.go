// Package status is the function that publishes the status page: the health of the region
// and the timelines of incidents, as files that need no server.
//
// Invariants:
//
//   - What is published is made of an incident's severity, times and kind alone. Nothing
//     that was written in it gets there: titles and texts name nodes, addresses and more.
//   - Nothing is published that is not known: where an incident cannot be read, the page
//     stays as it is, and says of when.
package status

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"originchain/lambdas/outcome"
	"originchain/shared/alarms"
	"originchain/shared/aws/s3site"
	"originchain/shared/incident"
)

const (
	// shownFor is how long an incident is shown that is over, maxShown how many are.
	shownFor = 90 * 24 * time.Hour
	maxShown = 50
	// cacheControl has what was published seen within the minute.
	cacheControl = "public, max-age=30"
	format       = 1
)

// Site takes files; one of the same name is replaced as one step.
type Site interface {
	Put(ctx context.Context, f s3site.File) error
}

// Health is that of a region.
type Health string

// The healths, best first.
const (
	Operational Health = "operational"
	Degraded    Health = "degraded"
	Outage      Health = "outage"
)

// Page is what is published. Its JSON is stable.
type Page struct {
	Format    int       `json:"format"`
	Published time.Time `json:"published"`
	Regions   []Region  `json:"regions"`
	// Incidents are those that are open and those of the last 90 days, newest first.
	Incidents []Incident `json:"incidents"`
}

// Region is one of ours.
type Region struct {
	Name   string `json:"name"`
	Health Health `json:"health"`
}

// Incident is one with its timeline. Its ID says nothing but that it is the same one.
type Incident struct {
	ID       string     `json:"id"`
	Severity int        `json:"severity"`
	Title    string     `json:"title"`
	Opened   time.Time  `json:"opened"`
	Resolved *time.Time `json:"resolved,omitempty"`
	Updates  []Update   `json:"updates"`
}

// Update is one entry of a timeline.
type Update struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Publisher publishes the page of a region.
type Publisher struct {
	incidents *incident.Store
	site      Site
	region    string
	now       func() time.Time
}

// New makes a Publisher.
func New(incidents *incident.Store, site Site, region string, now func() time.Time) *Publisher {
	return &Publisher{incidents, site, region, now}
}

// Answer is what the function answers.
type Answer struct {
	Health    Health `json:"health"`
	Incidents int    `json:"incidents"`
}

const maxCallBytes = 256 << 10

// Handle publishes the page, whoever calls: a schedule, or a queue that has news.
func (p *Publisher) Handle(ctx context.Context, raw []byte) (Answer, error) {
	var in map[string]json.RawMessage
	if len(raw) > maxCallBytes || json.Unmarshal(raw, &in) != nil {
		return Answer{}, &outcome.Error{Name: outcome.Input, Err: fmt.Errorf("it is called with a JSON object of at most %d bytes, which says nothing", maxCallBytes)}
	}
	page, err := p.page(ctx)
	if err != nil {
		return Answer{}, err
	}
	data, err := json.MarshalIndent(page, "", "  ")
	if err != nil {
		return Answer{}, err
	}
	var html bytes.Buffer
	if err := layout().Execute(&html, page); err != nil {
		return Answer{}, err
	}
	for _, f := range []s3site.File{
		{Name: "status.json", ContentType: "application/json", CacheControl: cacheControl, Body: append(data, '\n')},
		{Name: "index.html", ContentType: "text/html; charset=utf-8", CacheControl: cacheControl, Body: html.Bytes()},
	} {
		if err := p.site.Put(ctx, f); err != nil {
			return Answer{}, fmt.Errorf("publish %s: %w", f.Name, err)
		}
	}
	return Answer{Health: page.Regions[0].Health, Incidents: len(page.Incidents)}, nil
}

// page is what there is to say.
func (p *Publisher) page(ctx context.Context) (*Page, error) {
	now := p.now().UTC()
	page := &Page{Format: format, Published: now.Truncate(time.Second), Incidents: []Incident{}}
	region := Region{Name: p.region, Health: Operational}
	active, err := p.incidents.Active(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the incidents that are open: %w", err)
	}
	past, err := p.incidents.Past(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the incidents that are over: %w", err)
	}
	all := slices.Concat(past, active)
	slices.Sort(all)
	for _, id := range slices.Compact(all) {
		i, ok, err := p.incidents.Get(ctx, id)
		switch {
		case err != nil:
			return nil, fmt.Errorf("read an incident: %w; the page stays as it is", err)
		case !ok, i.Severity >= alarms.Drift, i.Resolved != nil && now.Sub(*i.Resolved) > shownFor:
			continue
		case i.Resolved == nil:
			region.Health = worse(region.Health, i.Severity)
		}
		page.Incidents = append(page.Incidents, public(i))
	}
	slices.SortStableFunc(page.Incidents, func(a, b Incident) int { return b.Opened.Compare(a.Opened) })
	page.Incidents = page.Incidents[:min(len(page.Incidents), maxShown)]
	page.Regions = []Region{region}
	return page, nil
}

func worse(h Health, s alarms.Severity) Health {
	switch {
	case s == alarms.TenantDown || h == Outage:
		return Outage
	default:
		return Degraded
	}
}

// public is what everybody may know of an incident.
func public(i *incident.Incident) Incident {
	sum := sha256.Sum256([]byte("status " + i.ID))
	out := Incident{ID: hex.EncodeToString(sum[:6]), Severity: int(i.Severity), Title: title(i), Opened: i.Opened.UTC(), Resolved: i.Resolved}
	for n := range i.Updates {
		u := &i.Updates[n]
		text := textOf(u)
		if last := len(out.Updates) - 1; last >= 0 && out.Updates[last].Text == text && !u.Resolves {
			continue // what says nothing new to outsiders
		}
		out.Updates = append(out.Updates, Update{At: u.At.UTC(), Text: text})
	}
	return out
}

func title(i *incident.Incident) string {
	switch {
	case i.Cause.Failover != "":
		return "A database is moved to another machine after a fault"
	case i.Severity == alarms.TenantDown:
		return "A database may be unavailable"
	}
	return "A database may be slower than usual"
}

// textOf says what an update is, and nothing of what it says.
func textOf(u *incident.Update) string {
	switch {
	case u.Resolves && strings.HasPrefix(u.Key, "overtaken"):
		return "This goes on as another incident."
	case u.Resolves:
		return "Resolved."
	case u.Key == "opened":
		return "We have noticed this, and are looking into it."
	case strings.HasPrefix(u.Key, "failed-"):
		return "A first attempt did not succeed. Another one follows."
	}
	return "We are working on it."
}

// layout is the page.
func layout() *template.Template {
	return template.Must(template.New("index.html").Funcs(template.FuncMap{
		"when": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"iso":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	}).Parse(pageText))
}

const pageText = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="60">
<title>OriginChain status</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 45rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f23; background: #fff; }
.health { padding: .1rem .6rem; border-radius: 1rem; color: #fff; background: #1a7f37; }
.degraded { background: #9a6700; } .outage { background: #cf222e; }
article { border-top: 1px solid #d0d7de; margin-top: 1.5rem; } time { color: #57606a; font-size: .9rem; }
@media (prefers-color-scheme: dark) { body { color: #e6edf3; background: #0d1117; } time { color: #9198a1; } }
</style>
</head>
<body>
<h1>OriginChain status</h1>
<p>As of <time datetime="{{iso .Published}}">{{when .Published}}</time>. The page is made anew every minute; when it is older than five, what it says is no more than what was so then.</p>
<ul>{{range .Regions}}
<li>{{.Name}} <span class="health {{.Health}}">{{.Health}}</span></li>{{end}}
</ul>
<h2>Incidents of the last 90 days</h2>{{range .Incidents}}
<article id="{{.ID}}">
<h3>{{.Title}}{{if not .Resolved}} (open){{end}}</h3>
<ol>{{range .Updates}}
<li><time datetime="{{iso .At}}">{{when .At}}</time> {{.Text}}</li>{{end}}
</ol>
</article>{{else}}
<p>None.</p>{{end}}
</body>
</html>
`
