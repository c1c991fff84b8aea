package awsfake

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"originchain/test/awsfake/model"
)

// States is AWS Step Functions: executions that are started, and tasks that are waited
// for. It runs no state machine.
type States struct {
	*service
	machines   map[string]bool
	executions []Execution
	tasks      map[string]bool // by token; true: it has ended
	results    []Result
}

// Execution is one that was started.
type Execution struct {
	Machine, Name, Input string
	Started              time.Time
}

// Result is the end of a task: its output, or its error and cause.
type Result struct{ Token, Output, Error, Cause string }

func newStates(f *Fake) *States {
	s := &States{machines: map[string]bool{}, tasks: map[string]bool{}}
	s.service = f.serve("stepfunctions", "states", map[string]operation{
		"StartExecution": s.startExecution, "SendTaskSuccess": s.taskSuccess, "SendTaskFailure": s.taskFailure,
	})
	return s
}

// Machine makes a state machine, and returns its ARN.
func (s *States) Machine(name string) (arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	arn = "arn:aws:states:" + Region + ":" + Account + ":stateMachine:" + name
	s.machines[arn] = true
	return arn
}

// Task has a task wait, and returns its token.
func (s *States) Task() (token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token = uuid.NewString()
	s.tasks[token] = false
	return token
}

// Expire ends a task that has waited for too long.
func (s *States) Expire(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tasks[token] = true
}

// Executions are all that were started, in their order.
func (s *States) Executions() []Execution {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.executions)
}

// Results are the ends of tasks, in their order.
func (s *States) Results() []Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.results)
}

// startExecution is answered the same way if it comes again, of the same name and input.
func (s *States) startExecution(in model.Struct) (model.Struct, error) {
	e := Execution{Machine: text(in, "stateMachineArn"), Name: text(in, "name"), Input: text(in, "input"), Started: time.Now().UTC()}
	if e.Name == "" {
		e.Name = uuid.NewString()
	}
	if e.Input == "" {
		e.Input = "{}"
	}
	switch {
	case !strings.HasPrefix(e.Machine, "arn:"):
		return nil, refuse("InvalidArn", "Invalid Arn: %q", e.Machine)
	case !s.machines[e.Machine]:
		return nil, refuse("StateMachineDoesNotExist", "State Machine Does Not Exist: %q", e.Machine)
	case !json.Valid([]byte(e.Input)):
		return nil, refuse("InvalidExecutionInput", "Invalid State Machine Execution Input: %q", e.Input)
	case strings.ContainsAny(e.Name, " <>{}[]?*\"#%\\^|~`$&,;:/"):
		return nil, refuse("InvalidName", "Invalid Name: %q", e.Name)
	}
	started := func(e Execution) model.Struct {
		return model.Struct{"executionArn": strings.Replace(e.Machine, ":stateMachine:", ":execution:", 1) + ":" + e.Name, "startDate": e.Started}
	}
	for _, there := range s.executions {
		if there.Machine != e.Machine || there.Name != e.Name {
			continue
		}
		if there.Input != e.Input {
			return nil, refuse("ExecutionAlreadyExists", "Execution Already Exists: %q", e.Name)
		}
		return started(there), nil
	}
	s.executions = append(s.executions, e)
	return started(e), nil
}

func (s *States) end(r Result) error {
	ended, known := s.tasks[r.Token]
	switch {
	case !known:
		return refuse("InvalidToken", "Invalid Token: %q", r.Token)
	case ended:
		return refuse("TaskTimedOut", "Task Timed Out: the provided task does not exist anymore")
	}
	s.tasks[r.Token] = true
	s.results = append(s.results, r)
	return nil
}

func (s *States) taskSuccess(in model.Struct) (model.Struct, error) {
	output := text(in, "output")
	if !json.Valid([]byte(output)) {
		return nil, refuse("InvalidOutput", "Invalid Output: %q", output)
	}
	return nil, s.end(Result{Token: text(in, "taskToken"), Output: output})
}

func (s *States) taskFailure(in model.Struct) (model.Struct, error) {
	return nil, s.end(Result{Token: text(in, "taskToken"), Error: text(in, "error"), Cause: text(in, "cause")})
}
