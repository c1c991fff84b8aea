package stepfunctions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"originchain/infra/statemachine"
	"originchain/lambdas/alarmevent"
	"originchain/lambdas/dns"
	"originchain/lambdas/instancetest"
	"originchain/lambdas/outcome"
	"originchain/lambdas/promote"
	"originchain/lambdas/silence"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/registry"
	"originchain/test/stepfunctions"
)

const alarm = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:acme-oc-controlplane-instance-silent"

// machine is the state machine with the real handlers behind it.
type machine struct {
	*instancetest.Instance
	t *testing.T
	// before happens when a state calls, by its name, and after when that was carried out; an
	// error is the task's.
	before, after func(state string, n int) error
	// word is what the person says who is called.
	word string
	// input is what it begins with; alarm how the alarm stands, since an hour ago.
	input, alarm string

	mu    sync.Mutex
	calls map[string]int
	texts []string
}

func newMachine(t *testing.T) *machine {
	return &machine{t: t, Instance: instancetest.New(t, lease.NewMemory(lease.Hooks{}), registry.NewMemory(), 2), calls: map[string]int{}, word: `{"approve":false,"by":"jo"}`, alarm: "ALARM",
		input: filepath.Join("..", "..", "lambdas", "silence", "testdata", "eventbridge-alarm.json")}
}

type task struct {
	Payload json.RawMessage
	Message string
}

// ServeHTTP carries a task out.
func (m *machine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	state := strings.TrimPrefix(r.URL.Path, "/")
	var in task
	err := json.NewDecoder(r.Body).Decode(&in)
	m.mu.Lock()
	m.calls[state]++
	n := m.calls[state]
	m.texts = append(m.texts, in.Message+string(in.Payload))
	m.mu.Unlock()
	if err == nil && m.before != nil {
		err = m.before(state, n)
	}
	var out any
	if err == nil {
		out, err = m.carryOut(r.Context(), state, in)
	}
	if err == nil && m.after != nil {
		err = m.after(state, n)
	}
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		out = map[string]string{"errorType": string(outcome.Of(err)), "errorMessage": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(out) // whoever asked is gone
}

func (m *machine) carryOut(ctx context.Context, state string, in task) (any, error) {
	var out any
	var err error
	switch {
	case state == "Page":
		return json.RawMessage(m.word), nil
	case strings.HasPrefix(state, "Call"), strings.HasPrefix(state, "Tell"):
		out = struct{}{}
	case state == "Confirm", state == "Watch":
		log := logrus.New()
		log.SetOutput(io.Discard)
		h := silence.NewHandler(silence.Config{Instance: "acme", Zone: instancetest.Zone, AlarmARN: alarm}, silence.EventDeps{Failover: m.Deps(), Log: log, Now: func() time.Time {
			return time.Date(2026, 3, 1, 12, 0, 5, 0, time.UTC)
		}, Alarm: func(context.Context, string) (alarmevent.State, time.Time, error) {
			return alarmevent.State(m.alarm), time.Date(2026, 3, 1, 11, 0, 5, 0, time.UTC), nil
		}})
		out, err = h.Handle(ctx, in.Payload)
	case state == "Dns":
		out, err = dns.New(m.Deps(), instancetest.Zone).Handle(ctx, in.Payload)
	default:
		out, err = promote.New(m.Deps(), instancetest.Zone).Handle(ctx, in.Payload)
	}
	return map[string]any{"Payload": out}, err
}

// run runs the machine on the recorded event, and says which states it went through.
func (m *machine) run() (states, status string) {
	m.t.Helper()
	server := httptest.NewServer(m)
	defer server.Close()
	values := map[string]string{}
	for _, name := range statemachine.Placeholders() {
		values[name] = "arn:aws:lambda:eu-central-1:123456789012:function:" + name
	}
	definition, err := statemachine.Render(values)
	path := filepath.Join(m.t.TempDir(), "failover.asl.json")
	if err == nil {
		err = os.WriteFile(path, definition, 0o600)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	runner := stepfunctions.Runner{Dir: "."}
	if err := runner.Install(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	out, err := runner.Run(m.t.Context(), stepfunctions.Execution{ID: "arn:aws:states:eu-central-1:123456789012:execution:acme-failover:one", Definition: path, Input: m.input, Server: server.URL, Now: true})
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Join(out.States, " "), strings.TrimSpace(out.Status + " " + out.Error)
}

const way = "Fence DeriveUnit RaiseEpoch Promote Smoke Dns Record LetGo WasLetGo Tell Done"

func TestTheMachine(t *testing.T) {
	for _, c := range []struct {
		name           string
		set            func(*machine)
		states, status string
		// writer is who writes in the end, in epoch 2; "" where nobody else does.
		writer string
		// letGo: the old writer's server is started again.
		letGo bool
	}{
		{"promote", func(m *machine) { m.Kill("acme-a") }, "Begin Whence Confirm Holding Verdict " + way, "SUCCEEDED", "acme-b", true},
		{"wait, then promote", func(m *machine) {
			m.Kill("acme-a")
			m.Kill("acme-b")
			m.Kill("acme-c")
			m.before = func(state string, n int) error {
				if state == "Confirm" && n == 3 {
					return m.Deps().Control.Start(m.t.Context(), m.Node("acme-c"))
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict Wait Confirm Holding Verdict Wait Confirm Holding Verdict " + way, "SUCCEEDED", "acme-c", true},
		{"page, approved", func(m *machine) {
			lacking(m)
			m.word = `{"approve":true,"by":"jo","epoch":1,"writer":"acme-a","to":"acme-b","loss_from":5001,"loss_to":5010,"allow":{"accept_data_loss":true}}`
		}, "Begin Whence Confirm Holding Verdict TellPage Page Approval Confirm Holding Verdict " + way, "SUCCEEDED", "acme-b", true},
		{"page, approved for what is not so", func(m *machine) {
			lacking(m)
			m.word = `{"approve":true,"by":"jo","epoch":7,"writer":"acme-a","to":"acme-b","loss_from":5001,"loss_to":5010,"allow":{"accept_data_loss":true}}`
			m.before = func(state string, n int) error {
				if state == "Page" && n == 2 {
					m.word = `{"approve":true,"by":"jo","epoch":1,"writer":"acme-a","to":"acme-b","loss_from":5001,"loss_to":5010,"allow":{"accept_data_loss":true}}`
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict TellPage Page Approval Confirm Holding Verdict TellPage Page Approval Confirm Holding Verdict " + way, "SUCCEEDED", "acme-b", true},
		{"page, and the answers cannot be read", func(m *machine) {
			lacking(m)
			words := []string{`"yes"`, `7`, `true`, `null`, `[{"approve":false,"by":"jo"}]`, `{}`, `{"approve":"false","by":"jo"}`, `{"reject":true,"by":"jo"}`,
				`{"approve":true,"by":"jo","epoch":1,"writer":"acme-a","to":"acme-b","loss_from":5001,"loss_to":5010,"allow":{"accept_data_loss":true}}`}
			m.before = func(state string, n int) error {
				if state == "Page" {
					m.word = words[n-1]
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict" + strings.Repeat(" TellPage Page Approval Confirm Holding Verdict", 9) + " " + way, "SUCCEEDED", "acme-b", true},
		{"a watch, page, and the answers cannot be read", func(m *machine) {
			lacking(m)
			m.watch("ALARM")
			words := []string{`"yes"`, `null`, `{"approve":true,"by":"jo","epoch":1,"writer":"acme-a","to":"acme-b","loss_from":5001,"loss_to":5010,"allow":{"accept_data_loss":true}}`}
			m.before = func(state string, n int) error {
				if state == "Page" {
					m.word = words[n-1]
				}
				return nil
			}
		}, "Begin Whence Watch Holding Verdict" + strings.Repeat(" TellPage Page Approval Confirm Holding Verdict", 3) + " " + way, "SUCCEEDED", "acme-b", true},
		{"page, rejected by nobody, and then by somebody", func(m *machine) {
			lacking(m)
			m.word = `{"approve":false}`
			m.before = func(state string, n int) error {
				if state == "Page" && n == 2 {
					m.word = `{"approve":false,"by":"jo"}`
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict" + strings.Repeat(" TellPage Page Approval Confirm Holding Verdict", 2) + " Ignored", "SUCCEEDED", "", false},
		{"page, approved by who was not told that another has refused", func(m *machine) {
			lacking(m)
			m.word = `{"approve":true,"by":"jo","epoch":1,"writer":"acme-a","to":"acme-b","loss_from":5001,"loss_to":5010,"allow":{"accept_data_loss":true}}`
			m.before = func(state string, n int) error {
				if state != "Page" || n > 1 {
					return nil
				}
				event, err := os.ReadFile(m.input)
				if err == nil {
					_, err = m.carryOut(m.t.Context(), "Confirm", task{Payload: fmt.Appendf(nil, `{"event": %s, "execution": "two", "round": 0, "told": 0, "approval": {"approve": false, "by": "kim"}}`, event)})
				}
				return err
			}
			m.after = func(state string, n int) error {
				if state == "Confirm" && n == 2 {
					return instancetest.ErrAway // its answer, to call jo again, is lost
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict" + strings.Repeat(" TellPage Page Approval Confirm Holding Verdict", 2) + " " + way, "SUCCEEDED", "acme-b", true},
		{"page, rejected", lacking, "Begin Whence Confirm Holding Verdict TellPage Page Approval Confirm Holding Verdict Ignored", "SUCCEEDED", "", false},
		{"what is fenced is not well by then", func(m *machine) {
			m.Kill("acme-a")
			m.before = func(state string, n int) error {
				if state == "Fence" && n == 1 {
					return &failover.RefusedError{Decision: failover.Decision{Verdict: failover.Wait, Reasons: []failover.Reason{{Code: failover.LeaseRuns, Detail: "acme-a has renewed epoch 1"}}}}
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict Fence Again Pause Confirm Holding Verdict " + way, "SUCCEEDED", "acme-b", true},
		{"its target is not fit any more, and another is", func(m *machine) {
			m.Kill("acme-a")
			m.before = func(state string, n int) error {
				if state == "RaiseEpoch" && n == 1 {
					m.Behind("acme-b", 3000)
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict Fence DeriveUnit RaiseEpoch Again Pause Confirm Holding Verdict " + way, "SUCCEEDED", "acme-c", true},
		{"its target is not fit any more, and none is", func(m *machine) {
			m.Kill("acme-a")
			m.before = func(state string, n int) error {
				if state == "RaiseEpoch" && n == 1 {
					m.Behind("acme-b", 3000)
					m.Behind("acme-c", 3000)
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict Fence DeriveUnit RaiseEpoch Again Pause Confirm Holding LetGoHeld Released Pause Confirm Holding Verdict TellPage Page Approval Confirm Holding Verdict Ignored", "SUCCEEDED", "", true},
		{"none is, who was stopped cannot be let go at once, and a person says no", func(m *machine) {
			m.Kill("acme-a")
			m.Fail("start", 3)
			m.before = func(state string, n int) error {
				if state == "RaiseEpoch" && n == 1 {
					m.Behind("acme-b", 3000)
					m.Behind("acme-c", 3000)
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict Fence DeriveUnit RaiseEpoch Again Pause Confirm Holding LetGoHeld Verdict TellPage Page Approval Confirm Holding LetGoHeld Released Pause Confirm Holding Verdict Ignored", "SUCCEEDED", "", true},
		{"it never goes on", func(m *machine) {
			m.Kill("acme-a")
			m.before = func(state string, n int) error {
				if state == "Fence" {
					return &failover.MovedError{Holder: "acme-c", Epoch: 2}
				}
				return nil
			}
		}, "Begin Whence" + strings.Repeat(" Confirm Holding Verdict Fence Again Pause", 39) + " Confirm Holding Verdict Fence Again Stopped LetGoStuck TellStuck CallStuck Stuck", "FAILED OC.Stuck", "", false},
		{"a watch, and the alarm is off", func(m *machine) { m.watch("OK") }, "Begin Whence Watch Holding Verdict Ignored", "SUCCEEDED", "", false},
		{"a watch, and nobody has the alarm", func(m *machine) { m.Kill("acme-a"); m.watch("ALARM") }, "Begin Whence Watch Holding Verdict " + way, "SUCCEEDED", "acme-b", true},
		{"a watch that sees nothing", func(m *machine) {
			m.Kill("acme-a")
			m.watch("ALARM")
			m.before = func(state string, _ int) error {
				if state == "Watch" {
					return instancetest.ErrAway
				}
				return nil
			}
		}, "Begin Whence Watch Unseen", "SUCCEEDED", "", false},
		{"who carries out was set aside", func(m *machine) {
			m.Kill("acme-a")
			m.before = func(state string, n int) error {
				if state == "Fence" && n <= 25 {
					return named("Lambda.ResourceNotReadyException")
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict " + way, "SUCCEEDED", "acme-b", true},
		{"all calls of the account are used up, and the old writer is let go all the same", func(m *machine) {
			m.Kill("acme-a")
			m.before = func(state string, n int) error {
				if state == "LetGo" && n <= 25 {
					return named("Lambda.TooManyRequestsException")
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict " + way, "SUCCEEDED", "acme-b", true},
		{"who was stopped is not to be let go", func(m *machine) {
			m.Kill("acme-a")
			m.before = func(state string, n int) error {
				if state == "LetGo" {
					return m.forget("acme-a")
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict Fence DeriveUnit RaiseEpoch Promote Smoke Dns Record LetGo WasLetGo TellHeld Tell Done", "SUCCEEDED", "acme-b", false},
		{"SNS does not take it, page", func(m *machine) {
			lacking(m)
			m.before = func(state string, n int) error {
				if state == "Page" && n <= 2 {
					return named("SNS.InternalErrorException")
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict TellPage Page Approval Confirm Holding Verdict Ignored", "SUCCEEDED", "", false},
		{"nobody answers the page", func(m *machine) {
			lacking(m)
			m.before = func(state string, n int) error {
				switch {
				case state == "Page" && n > 1:
					m.t.Error("who has not answered is asked again")
				case state == "Page":
					return named("States.Timeout")
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict TellPage Page NotApproved StuckHolding TellStuck CallStuck Stuck", "FAILED OC.Stuck", "", false},
		{"what looks like a watch", func(m *machine) {
			m.Kill("acme-a")
			m.watch("ALARM")
			m.begins(`{"watch": "yes", "detail-type": "CloudWatch Alarm State Change"}`)
		}, "Begin Whence Watch Holding Verdict Ignored", "SUCCEEDED", "", false},
		{"a step is retried", func(m *machine) {
			m.Kill("acme-a")
			m.before = func(state string, n int) error {
				if state == "RaiseEpoch" && n <= 2 {
					return instancetest.ErrAway
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict " + way, "SUCCEEDED", "acme-b", true},
		{"what does not pass is caught", func(m *machine) {
			m.Kill("acme-a")
			m.before = func(state string, _ int) error {
				if state == "Promote" {
					return instancetest.ErrAway
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict Fence DeriveUnit RaiseEpoch Promote Stopped LetGoStuck TellStuck CallStuck Stuck", "FAILED OC.Stuck", "", false},
		{"nobody takes the turn", func(m *machine) {
			m.Kill("acme-a")
			m.before = func(state string, _ int) error {
				if state == "RaiseEpoch" {
					return instancetest.ErrAway
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict Fence DeriveUnit RaiseEpoch Stopped LetGoStuck TellStuck CallStuck Stuck", "FAILED OC.Stuck", "", true},
		{"who was given it dies", func(m *machine) {
			m.Kill("acme-a")
			m.before = func(state string, n int) error {
				if state == "Promote" && n == 1 {
					m.Kill("acme-b")
				}
				if state == "Promote" {
					return instancetest.ErrAway
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict Fence DeriveUnit RaiseEpoch Promote Stopped LetGoStuck TellStuck CallStuck Stuck", "FAILED OC.Stuck", "", true},
		{"its machine is away", func(m *machine) {
			m.Kill("acme-a")
			m.Fail("start", 1000)
		}, "Begin Whence Confirm Holding Verdict Fence DeriveUnit RaiseEpoch Promote Smoke Dns Record LetGo TellHeld Tell Done", "SUCCEEDED", "acme-b", true},
		{"nothing was begun", func(m *machine) {
			m.before = func(state string, _ int) error {
				if state == "Confirm" {
					return instancetest.ErrAway
				}
				return nil
			}
		}, "Begin Whence Confirm Stopped StuckHolding TellStuck CallStuck Stuck", "FAILED OC.Stuck", "", false},
		{"the name does not follow", func(m *machine) {
			m.Kill("acme-a")
			m.Fail("dns", 1000)
		}, "Begin Whence Confirm Holding Verdict Fence DeriveUnit RaiseEpoch Promote Smoke Dns DnsLeft Record TellLeft CallLeft LetGo WasLetGo Tell Done", "SUCCEEDED", "", true},
		{"who points the name dies each time", func(m *machine) {
			m.Kill("acme-a")
			m.before = func(state string, _ int) error {
				if state == "Dns" {
					return &outcome.Error{Name: "Runtime.ExitError", Err: errors.New("signal: killed")}
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict Fence DeriveUnit RaiseEpoch Promote Smoke Dns DnsLeft Record TellLeft CallLeft LetGo WasLetGo Tell Done", "SUCCEEDED", "", true},
		{"who points the name dies once", func(m *machine) {
			m.Kill("acme-a")
			m.before = func(state string, n int) error {
				if state == "Dns" && n == 1 {
					return &outcome.Error{Name: "Runtime.ExitError", Err: errors.New("signal: killed")}
				}
				return nil
			}
		}, "Begin Whence Confirm Holding Verdict " + way, "SUCCEEDED", "acme-b", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			c.set(m)
			states, status := m.run()
			if d := cmp.Diff(c.states, states); d != "" || status != c.status {
				t.Errorf("it ended as %q, want %q\n%s", status, c.status, d)
			}
			if c.writer != "" {
				m.IsWriter(c.writer, 2)
			}
			if got := slices.Contains(m.Calls(), "start"); got != c.letGo {
				t.Errorf("the old writer's server was started: %t, %v", got, m.Calls())
			}
			if all := strings.Join(m.texts, "\n"); strings.Contains(c.name, "page") && !strings.Contains(all, "--task-token token-of-the-task") {
				t.Errorf("nobody was given the token: %s", all)
			} else if strings.Contains(c.name, "page") && !strings.Contains(all, `"epoch": 1, "writer": "acme-a", "to": "acme-b", "loss_from": 5001, "loss_to": 5010,`) {
				t.Errorf("nobody was told what is approved: %s", all)
			} else if strings.Contains(c.name, "another has refused") && !strings.Contains(all, "kim has refused to have the writer replaced, which stands") {
				t.Errorf("nobody was told of the no: %s", all)
			}
		})
	}
}

// named is an error as Step Functions names one of a service.
func named(name outcome.Name) error {
	return &outcome.Error{Name: name, Err: errors.New("of the service")}
}

// forget has the registry know nothing of a node.
func (m *machine) forget(id string) error {
	const key = "nodes/"
	doc, err := m.Registry.Load(m.t.Context(), key+id)
	if err != nil {
		return err
	}
	return m.Registry.Delete(m.t.Context(), key+id, doc.Version)
}

// watch begins with what the schedule has.
func (m *machine) watch(alarm string) {
	m.alarm = alarm
	m.begins(`{"watch": true}`)
}

func (m *machine) begins(input string) {
	m.input = filepath.Join(m.t.TempDir(), "input.json")
	if err := os.WriteFile(m.input, []byte(input), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// lacking has no follower hold what was acknowledged.
func lacking(m *machine) {
	for i, id := range []string{"acme-b", "acme-c"} {
		m.Alone(id)
		m.Behind(id, uint64(10*(i+1)))
	}
	m.Kill("acme-a")
}
