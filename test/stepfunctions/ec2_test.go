package stepfunctions_test

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"originchain/infra/statemachine"
	"originchain/test/awsfake/model"
)

// ec2Model is read once: it is large.
var ec2Model = sync.OnceValues(func() (*model.Service, error) { return model.Load("ec2") })

// ec2 is EC2 as Step Functions calls it, with one launch template. All that it is given and
// answers is held against the service's model.
type ec2 struct {
	t        *testing.T
	model    *model.Service
	template string
	now      func() time.Time
	// runs is how long a machine runs before it ends itself, and ended is called.
	runs  time.Duration
	ended func(at time.Time)
	// unseen is how many looks come before a new machine is known to who looks, and lost how
	// many answers to a start do not arrive.
	unseen, lost int
	instances    []*instance
}

type instance struct {
	id, token string
	begun     time.Time
	// over: it has ended itself; terminated: it was ended.
	over, terminated bool
}

func newEC2(t *testing.T, template string, now func() time.Time) *ec2 {
	t.Helper()
	m, err := ec2Model()
	if err != nil {
		t.Fatal(err)
	}
	return &ec2{t: t, model: m, template: template, now: now}
}

// errEC2 is what Step Functions makes of each error of the service.
func errEC2(code string) error { return errors.Join(named(ec2Failure), errors.New(code)) }

func (e *ec2) call(action string, raw []byte) (any, error) {
	operation := strings.ToUpper(action[:1]) + action[1:]
	for _, v := range e.model.CheckInput(operation, raw) {
		e.t.Errorf("%s", v)
	}
	var in struct {
		LaunchTemplate struct{ LaunchTemplateName string }
		ClientToken    string
		InstanceIds    []string
	}
	err := json.Unmarshal(raw, &in)
	var out model.Struct
	switch {
	case err != nil:
	case operation == "RunInstances" && in.LaunchTemplate.LaunchTemplateName != e.template:
		err = errEC2("InvalidLaunchTemplateName.NotFoundException")
	case operation == "RunInstances" && (in.ClientToken == "" || len(in.ClientToken) > 64):
		err = errEC2("InvalidParameterValue")
	case operation == "RunInstances":
		out, err = e.run(in.ClientToken)
	case operation == "DescribeInstances":
		out, err = e.describe(in.InstanceIds)
	case operation == "TerminateInstances":
		out, err = e.terminate(in.InstanceIds)
	default:
		e.t.Errorf("EC2 has no %s here", operation)
	}
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(out)
	for _, v := range e.model.CheckOutput(operation, text) {
		e.t.Errorf("%s", v)
	}
	return json.RawMessage(text), err
}

func (e *ec2) run(token string) (model.Struct, error) {
	var i *instance
	for _, there := range e.instances {
		if there.token == token {
			i = there
		}
	}
	if i == nil {
		i = &instance{id: "i-0123456789abcdef" + string(rune('0'+len(e.instances))), token: token, begun: e.now()}
		e.instances = append(e.instances, i)
	}
	if e.lost > 0 {
		e.lost--
		return nil, errEC2("no answer")
	}
	return model.Struct{"ReservationId": "r-0123456789abcdef0", "Instances": []any{e.shown(i)}}, nil
}

func (e *ec2) find(ids []string) (*instance, error) {
	for _, i := range e.instances {
		if len(ids) == 1 && ids[0] == i.id {
			return i, nil
		}
	}
	return nil, errEC2("InvalidInstanceID.NotFound")
}

func (e *ec2) describe(ids []string) (model.Struct, error) {
	i, err := e.find(ids)
	if err != nil {
		return nil, err
	}
	if e.unseen > 0 {
		e.unseen--
		return nil, errEC2("InvalidInstanceID.NotFound")
	}
	return model.Struct{"Reservations": []any{model.Struct{"ReservationId": "r-0123456789abcdef0", "Instances": []any{e.shown(i)}}}}, nil
}

func (e *ec2) terminate(ids []string) (model.Struct, error) {
	i, err := e.find(ids)
	if err != nil {
		return nil, err
	}
	before := e.state(i)
	i.terminated = true
	return model.Struct{"TerminatingInstances": []any{model.Struct{"InstanceId": i.id, "PreviousState": before, "CurrentState": e.state(i)}}}, nil
}

func (e *ec2) shown(i *instance) model.Struct {
	return model.Struct{"InstanceId": i.id, "State": e.state(i)}
}

func (e *ec2) state(i *instance) model.Struct {
	ran := e.now().Sub(i.begun)
	if ran >= e.runs && !i.over && !i.terminated {
		i.over = true
		e.ended(i.begun.Add(e.runs))
	}
	switch {
	case i.over || i.terminated:
		return model.Struct{"Code": 48, "Name": "terminated"}
	case ran == 0:
		return model.Struct{"Code": 0, "Name": "pending"}
	}
	return model.Struct{"Code": 16, "Name": "running"}
}

// settled: one machine was started, or none, and it was ended by who waited for it where it
// did not end itself.
func (e *ec2) settled(started, ended bool) {
	e.t.Helper()
	want := 0
	if started {
		want = 1
	}
	if len(e.instances) != want {
		e.t.Fatalf("%d machines were started, want %d", len(e.instances), want)
	}
	for _, i := range e.instances {
		if i.terminated != ended {
			e.t.Errorf("a machine is left to itself, or was ended: %+v", i)
		}
	}
}

// TestWhatIsReadOfEC2: what the definition takes from answers is in them, and what it
// compares a state with is one.
func TestWhatIsReadOfEC2(t *testing.T) {
	m, err := ec2Model()
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	states := statemachine.Verification()["States"].(map[string]any)
	for name, s := range states {
		state := s.(map[string]any)
		resource, _ := state["Resource"].(string)
		action, ok := strings.CutPrefix(resource, isCalledFor+"aws-sdk:ec2:")
		selector, _ := state["ResultSelector"].(map[string]any)
		for key, from := range selector {
			path, isPath := from.(string)
			if !ok || !isPath || !strings.HasSuffix(key, ".$") {
				continue
			}
			read++
			shape, err := m.Answers(strings.ToUpper(action[:1])+action[1:], strings.TrimPrefix(path, "$."))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if shape.Type != "string" {
				t.Errorf("%s: %s is a %s", name, path, shape.Type)
			}
			if name == "Look" {
				compared(t, states, "$.look."+strings.TrimSuffix(key, ".$"), shape)
			}
		}
	}
	if read != 2 {
		t.Errorf("%d paths are read of answers", read)
	}
}

// compared holds what a variable is compared with to its values.
func compared(t *testing.T, states map[string]any, variable string, shape *model.Shape) {
	t.Helper()
	seen := 0
	for _, s := range states {
		choices, _ := s.(map[string]any)["Choices"].([]any)
		for _, c := range choices {
			choice := c.(map[string]any)
			if choice["Variable"] != variable {
				continue
			}
			seen++
			known := false
			for _, value := range shape.Enum {
				known = known || choice["StringEquals"] == value
			}
			if !known {
				t.Errorf("%s is never %v: %v", variable, choice["StringEquals"], shape.Enum)
			}
		}
	}
	if seen == 0 {
		t.Errorf("nothing looks at %s", variable)
	}
}
