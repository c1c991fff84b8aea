package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
)

type plane struct {
	status  Status
	asked   Promotion
	undone  Fault
	pointed Pointing
	down    chan struct{}
	fail    error
	report  string
	// begun gets the context of a promotion, which then waits for on.
	begun chan context.Context
	on    chan struct{}
}

func (p *plane) Status(context.Context) (Status, error) { return p.status, p.fail }
func (p *plane) Down()                                  { close(p.down) }
func (p *plane) Promote(ctx context.Context, in Promotion, say func(string)) (json.RawMessage, error) {
	p.asked = in
	if p.begun != nil {
		p.begun <- ctx
		<-p.on
	}
	say("[1/8] confirm … ok (0.01 s)")
	say("[2/8] fence … ok (0.02 s)")
	return json.RawMessage(p.report), p.fail
}
func (p *plane) Fault(_ context.Context, fault, id string) (Fault, error) {
	return Fault{ID: id, Fault: fault, Node: "a", PID: 7, Epoch: 3, At: time.Unix(9, 0).UTC()}, p.fail
}
func (p *plane) Point(_ context.Context, name, address string, ttl time.Duration) error {
	p.pointed = Pointing{name, address, int(ttl / time.Second)}
	return p.fail
}
func (p *plane) Undo(_ context.Context, f Fault) error { p.undone = f; return p.fail }

// served puts the socket where the kernel would not take its name.
func served(t *testing.T, p *plane) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), strings.Repeat("long", 30), "control.sock")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	c := NewClient(path)
	var down *DownError
	if _, err := c.Status(t.Context()); !errors.As(err, &down) {
		t.Errorf("before anybody listens: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil { // what a killed plane leaves
		t.Fatal(err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info.Mode(), err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	server := &http.Server{Handler: NewServer(p, log)}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return c
}

func TestCommandsReachThePlane(t *testing.T) {
	p := &plane{down: make(chan struct{}), report: `{"verdict":"promote"}`, status: Status{
		Epoch: 3, Writer: Node{"a", 7, "http://127.0.0.1:1"}, Followers: []Follower{{Node{"b", 8, "http://127.0.0.2:1"}, true, true, 12}},
		Alarms: []Alarm{}, LastFailover: json.RawMessage(`{}`), Incidents: []Incident{},
	}}
	c := served(t, p)
	s, err := c.Status(t.Context())
	if diff := cmp.Diff(p.status, s); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	b, err := json.Marshal(s)
	want := `{"epoch":3,"writer":{"node":"a","pid":7,"address":"http://127.0.0.1:1"},"followers":[{"node":"b","pid":8,"address":"http://127.0.0.2:1","connected":true,"in_sync":true,"applied_lsn":12}],"alarms":[],"last_failover":{},"incidents":[]}`
	if err != nil || string(b) != want {
		t.Errorf("%v\n%s\n%s", err, b, want)
	}
	var said []string
	lag := uint64(0)
	asked := Promotion{Target: "b", Planned: true, AllowLag: &lag}
	report, err := c.Promote(t.Context(), asked, func(l string) { said = append(said, l) })
	if err != nil || string(report) != p.report || len(said) != 2 || !cmp.Equal(p.asked, asked) {
		t.Errorf("%s %q %+v %v", report, said, p.asked, err)
	}
	f, err := c.Fault(t.Context(), FaultKill)
	if err != nil || f.PID != 7 || f.Fault != FaultKill || f.ID == "" {
		t.Errorf("%+v %v", f, err)
	}
	if err := c.Undo(t.Context(), f); err != nil || p.undone != f {
		t.Errorf("%+v %v", p.undone, err)
	}
	if want := (Pointing{"w.example", "127.1.2.3", 60}); c.Point(t.Context(), want.Name, want.Address, time.Minute) != nil || p.pointed != want {
		t.Errorf("%+v", p.pointed)
	}
	if err := c.Down(t.Context()); err != nil {
		t.Error(err)
	}
	<-p.down
}

func TestWhatThePlaneRefusesIsSaid(t *testing.T) {
	p := &plane{fail: errors.New("node-2 is not in sync"), report: `{"verdict":"page"}`}
	c := served(t, p)
	said := 0
	report, err := c.Promote(t.Context(), Promotion{}, func(string) { said++ })
	if err == nil || err.Error() != p.fail.Error() || string(report) != p.report || said != 2 {
		t.Errorf("%s %d %v", report, said, err)
	}
	if _, err := c.Status(t.Context()); err == nil || err.Error() != p.fail.Error() {
		t.Error(err)
	}
	if f, err := c.Fault(t.Context(), "x"); err == nil || err.Error() != p.fail.Error() || f.ID == "" || f.Fault != "x" || f.Node != "" {
		t.Error(f, err)
	}
	// A plane that dies in the middle is no success.
	p.fail, p.report = nil, ""
	if _, err := c.Promote(t.Context(), Promotion{}, func(string) {}); err == nil || !strings.Contains(err.Error(), "broke off") {
		t.Errorf("an answer without an end: %v", err)
	}
}

// A command that is ended misses what the promotion says, and does not end it half way.
func TestACommandThatEndsLeavesThePromotion(t *testing.T) {
	p := &plane{report: `{"verdict":"promote"}`, begun: make(chan context.Context), on: make(chan struct{})}
	c := served(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := c.Promote(ctx, Promotion{}, func(string) {})
		ended <- err
	}()
	promoting := <-p.begun
	cancel()
	if err := <-ended; err == nil {
		t.Error("no error")
	}
	if promoting.Done() != nil {
		t.Error("the promotion ends with the command")
	}
	close(p.on)
}
