package awsfake

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"originchain/test/awsfake/model"
)

// Agent is what runs commands on a machine.
type Agent func(ctx context.Context, script string) (stdout, stderr string, code int)

// What GetCommandInvocation gives of a command's output at most.
const (
	maxStdout = 24_000
	maxStderr = 8_000
	truncated = "\n---Output truncated---"
)

// SSM is AWS Systems Manager: run-command, and parameters.
type SSM struct {
	*service
	machines  map[string]*machine
	documents map[string]*document
	commands  map[string]*invocation

	parameters map[string]kept
}

type machine struct {
	agent      Agent
	deliveries []Delivery
	// away is closed when the machine is back, nil where it is not away.
	away chan struct{}
}

// Delivery is how a command comes to its machine. The zero one is at once.
type Delivery struct {
	invisible, delayed int
	until              <-chan struct{}
	despiteCancel      bool
	never              string // the details that it ends with
	overruns           bool
}

// Promptly delivers at once.
func Promptly() Delivery { return Delivery{} }

// Invisible delivers at once, and GetCommandInvocation does not know of it for as many
// polls.
func Invisible(polls int) Delivery { return Delivery{invisible: polls} }

// Delayed says "Delayed" for as many polls, and delivers then.
func Delayed(polls int) Delivery { return Delivery{delayed: polls} }

// Waiting delivers when the channel is closed, unless the command was cancelled before.
func Waiting(until <-chan struct{}) Delivery { return Delivery{until: until} }

// Late delivers when the channel is closed, cancelled or not: the cancellation came too
// late, as it may.
func Late(until <-chan struct{}) Delivery { return Delivery{until: until, despiteCancel: true} }

// DeliveryTimedOut never delivers: it is "Delayed" for as many polls, and then timed out.
func DeliveryTimedOut(polls int) Delivery {
	return Delivery{delayed: polls, never: "Delivery Timed Out"}
}

// Undeliverable never delivers: the machine does not answer.
func Undeliverable() Delivery { return Delivery{never: "Undeliverable"} }

// Overruns delivers at once, and the command takes longer than its document allows: it
// is carried out, and what comes of it nobody learns.
func Overruns() Delivery { return Delivery{overruns: true} }

// invocation is one command on its one machine.
type invocation struct {
	id, machine, document, script string
	plan                          Delivery
	status, details               string
	stdout, stderr                string
	code                          int
	began                         time.Time
	delivered                     bool
	cancel                        context.CancelFunc
}

func newSSM(f *Fake) *SSM {
	s := &SSM{machines: map[string]*machine{}, documents: map[string]*document{}, commands: map[string]*invocation{}, parameters: map[string]kept{}}
	s.service = f.serve("ssm", "ssm", map[string]operation{
		"SendCommand": s.sendCommand, "GetCommandInvocation": s.getCommandInvocation, "CancelCommand": s.cancelCommand,
		"GetParameter": s.getParameter,
	})
	return s
}

// Machine adds an instance that is managed: its agent runs what is sent to it.
func (s *SSM) Machine(id string, agent Agent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machines[id] = &machine{agent: agent}
}

// Away is a machine without power, or cut off: EC2 says that it runs, and the service takes
// commands for it, which wait until it is back. None expires here.
func (s *SSM) Away(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machines[id].away = make(chan struct{})
}

// Back has a machine that was away answer again.
func (s *SSM) Back(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.machines[id].away)
	s.machines[id].away = nil
}

// Gone takes a machine away, as one that is terminated.
func (s *SSM) Gone(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.machines, id)
}

// Document adds a document of schema 2.2 as AWS takes it, as JSON.
func (s *SSM) Document(name, content string) {
	d, err := parseDocument(content)
	if err != nil {
		s.fake.t.Fatalf("the document %s: %v", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.documents[name] = d
}

// Deliver says how the next commands come to a machine, one each.
func (s *SSM) Deliver(machine string, d ...Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.machines[machine]
	m.deliveries = append(m.deliveries, d...)
}

func (s *SSM) sendCommand(in model.Struct) (model.Struct, error) {
	ids, _ := in["InstanceIds"].([]any)
	if len(ids) != 1 || in["Targets"] != nil {
		return nil, refuse("InvalidInstanceId", "this fake sends to one instance id at once")
	}
	id, _ := ids[0].(string)
	m := s.machines[id]
	if m == nil {
		return nil, refuse("InvalidInstanceId", "Instances [[%s]] not in a valid state for account %s", id, Account)
	}
	name, _ := in["DocumentName"].(string)
	d := s.documents[name]
	if d == nil {
		return nil, refuse("InvalidDocument", "Document with name %s does not exist.", name)
	}
	given, _ := in["Parameters"].(model.Struct)
	script, err := d.script(given)
	if err != nil {
		return nil, err
	}
	inv := &invocation{id: uuid.NewString(), machine: id, document: name, script: script, status: "Pending", details: "Pending", code: -1, began: time.Now()}
	switch {
	case m.away != nil:
		inv.plan = Waiting(m.away)
	case len(m.deliveries) > 0:
		inv.plan, m.deliveries = m.deliveries[0], m.deliveries[1:]
	}
	s.commands[inv.id] = inv
	s.fake.work.Go(func() { s.carry(inv, m.agent) })
	seconds, ok := in["TimeoutSeconds"].(int64)
	if !ok {
		seconds = 3600
	}
	out := model.Struct{
		"CommandId": inv.id, "DocumentName": name, "InstanceIds": ids, "Status": "Pending", "StatusDetails": "Pending",
		"RequestedDateTime": inv.began, "ExpiresAfter": inv.began.Add(time.Duration(seconds) * time.Second),
		"TargetCount": int64(1), "TimeoutSeconds": seconds,
	}
	if given != nil {
		out["Parameters"] = given
	}
	return model.Struct{"Command": out}, nil
}

// carry delivers a command whose time has come by itself; Delayed ones wait for polls.
func (s *SSM) carry(inv *invocation, agent Agent) {
	if inv.plan.until != nil {
		select {
		case <-inv.plan.until:
		case <-s.fake.ctx.Done():
			return
		}
	}
	s.mu.Lock()
	waits := inv.plan.delayed > 0 || inv.plan.never != ""
	s.mu.Unlock()
	if !waits {
		s.run(inv, agent)
	}
}

// run has the agent carry a command out.
func (s *SSM) run(inv *invocation, agent Agent) {
	s.mu.Lock()
	cancelled := inv.status == "Cancelled"
	if inv.delivered || cancelled && !inv.plan.despiteCancel {
		s.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(s.fake.ctx)
	inv.delivered, inv.cancel = true, cancel
	if !cancelled {
		inv.status, inv.details = "InProgress", "InProgress"
	}
	s.mu.Unlock()
	stdout, stderr, code := agent(ctx, inv.script)
	s.mu.Lock()
	defer s.mu.Unlock()
	ended := ctx.Err() != nil
	cancel()
	switch {
	case cancelled:
		return // it has ended before it began, as far as the service knows
	case inv.status == "Cancelling" || ended:
		inv.status, inv.details = "Cancelled", "Cancelled"
		return
	case inv.plan.overruns:
		inv.status, inv.details = "TimedOut", "Execution Timed Out"
		return
	}
	inv.stdout, inv.stderr, inv.code = cut(stdout, maxStdout), cut(stderr, maxStderr), code
	if inv.status, inv.details = "Success", "Success"; code != 0 {
		inv.status, inv.details = "Failed", "Failed"
	}
}

func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most-len(truncated)] + truncated
}

func (s *SSM) getCommandInvocation(in model.Struct) (model.Struct, error) {
	inv := s.commands[in["CommandId"].(string)]
	if inv == nil || inv.machine != in["InstanceId"] {
		return nil, refuse("InvocationDoesNotExist", "")
	}
	if inv.plan.invisible > 0 {
		inv.plan.invisible--
		return nil, refuse("InvocationDoesNotExist", "")
	}
	s.polled(inv)
	out := model.Struct{
		"CommandId": inv.id, "InstanceId": inv.machine, "DocumentName": inv.document, "PluginName": "aws:runShellScript",
		"ResponseCode": int64(inv.code), "Status": inv.status, "StatusDetails": inv.details,
		"StandardOutputContent": inv.stdout, "StandardErrorContent": inv.stderr,
	}
	if inv.delivered {
		out["ExecutionStartDateTime"] = inv.began.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	return out, nil
}

// polled brings a command on that waits for polls.
func (s *SSM) polled(inv *invocation) {
	if inv.delivered || !slices.Contains([]string{"Pending", "Delayed"}, inv.status) {
		return
	}
	switch {
	case inv.plan.delayed > 0:
		inv.plan.delayed--
		inv.status, inv.details = "Delayed", "Delayed"
		if m := s.machines[inv.machine]; inv.plan.delayed == 0 && inv.plan.never == "" && m != nil {
			s.fake.work.Go(func() { s.run(inv, m.agent) })
		}
	case inv.plan.never == "Undeliverable":
		inv.status, inv.details = "Failed", inv.plan.never
	case inv.plan.never != "":
		inv.status, inv.details = "TimedOut", inv.plan.never
	}
}

func (s *SSM) cancelCommand(in model.Struct) (model.Struct, error) {
	inv := s.commands[in["CommandId"].(string)]
	if inv == nil {
		return nil, refuse("InvalidCommandId", "")
	}
	switch inv.status {
	case "Pending", "Delayed":
		inv.status, inv.details = "Cancelled", "Cancelled"
	case "InProgress":
		inv.status, inv.details = "Cancelling", "Cancelling"
		inv.cancel()
	}
	return nil, nil
}

// Status is how a command stands, the newest last, with its machine and script.
type Status struct{ Machine, Script, Details string }

// Commands are all commands that were taken, by machine and script.
func (s *SSM) Commands() (list []Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*invocation, 0, len(s.commands))
	for _, inv := range s.commands {
		all = append(all, inv)
	}
	slices.SortFunc(all, func(a, b *invocation) int {
		if c := a.began.Compare(b.began); c != 0 {
			return c
		}
		return strings.Compare(a.id, b.id)
	})
	for _, inv := range all {
		list = append(list, Status{Machine: inv.machine, Script: inv.script, Details: inv.details})
	}
	return list
}
