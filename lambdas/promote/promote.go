// Package promote is the function that carries out a failover that was begun, one step a
// call: package failover's Continue, for a state machine, and its LetGo behind the last one.
// A call can be repeated, come twice or late; what it does not do then it says.
package promote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"originchain/lambdas/outcome"
	"originchain/shared/failover"
)

// LetGo is the step behind the others: the servers that failovers have stopped, the old
// writer's among them, are started again. It is called also where the failover does not go on.
const LetGo = "let go"

// Ready is no step: it says that a step could be carried out, and changes nothing. A schedule
// asks for it, as Lambda sets a function of a VPC aside that nobody calls for weeks, and it
// takes minutes until such a one is called again.
const Ready = "ready"

// Ask is what it is called with.
type Ask struct {
	// Step is LetGo, Ready, or one of failover.StepNames but the first; Run what silence has
	// answered, and none for Ready.
	Step string `json:"step"`
	Run  string `json:"run"`
	// Left is failover.Next's: the last step goes on without it.
	Left string `json:"left"`
}

// Answer is what a step did. Its JSON is stable.
type Answer struct {
	Run     string           `json:"run"`
	Step    string           `json:"step"`
	Outcome failover.Outcome `json:"outcome"`
	Detail  string           `json:"detail"`
	Seconds float64          `json:"seconds"`
	From    string           `json:"from"`
	To      string           `json:"to"`
	Epoch   uint64           `json:"epoch"`
}

// Handler carries out steps.
type Handler struct {
	deps failover.Deps
	zone string
	// steps are those that it may carry out.
	steps []string
}

// New makes a Handler of all steps; zone is the writer's name, "" for none.
func New(deps failover.Deps, zone string) *Handler {
	return Of(deps, zone, append(failover.StepNames()[1:], LetGo, Ready)...)
}

// Of makes a Handler of some steps.
func Of(deps failover.Deps, zone string, steps ...string) *Handler {
	return &Handler{deps: deps, zone: zone, steps: steps}
}

// Handle carries out a step. Its errors have names (package outcome): Unavailable is to be
// retried; Left is the last step's, of a writer that writes.
func (h *Handler) Handle(ctx context.Context, raw []byte) (Answer, error) {
	ask, err := decode(raw)
	if err != nil {
		return Answer{}, err
	}
	if !slices.Contains(h.steps, ask.Step) {
		return Answer{}, input("the step %.60q is none of %s", ask.Step, strings.Join(h.steps, ", "))
	}
	switch ask.Step {
	case LetGo:
		return h.letGo(ctx, ask)
	case Ready:
		return h.ready(ctx)
	}
	report, err := failover.Continue(ctx, h.deps, failover.Next{Run: ask.Run, Step: ask.Step, Left: ask.Left, Zone: h.zone}, nil)
	a := Answer{Run: ask.Run, Step: ask.Step, Outcome: failover.OK, From: report.From, To: report.To, Epoch: report.Epoch, Detail: "the failover has come to its end before"}
	for _, s := range report.Steps {
		if s.Name == ask.Step {
			a.Outcome, a.Detail, a.Seconds = s.Outcome, s.Detail, s.Seconds
		}
	}
	if err != nil {
		return a, &outcome.Error{Name: outcome.Of(err), Err: fmt.Errorf("%s of failover %s: %w", ask.Step, ask.Run, err)}
	}
	return a, nil
}

// letGo is left, and no error, where a server is not to be started: somebody else's turn it
// is then. Its detail, or its error, names all that were held, and what became of each.
func (h *Handler) letGo(ctx context.Context, ask Ask) (a Answer, err error) {
	a = Answer{Run: ask.Run, Step: ask.Step, Outcome: failover.OK}
	began := time.Now()
	a.Detail, err = failover.LetGo(ctx, h.deps, ask.Run)
	a.Seconds = time.Since(began).Seconds()
	var held *failover.HeldError
	switch {
	case errors.As(err, &held):
		a.Outcome, a.Detail = failover.Left, err.Error()
	case err != nil:
		a.Outcome = failover.Failed
		return a, &outcome.Error{Name: outcome.Of(err), Err: fmt.Errorf("%s of failover %s: %w", ask.Step, ask.Run, err)}
	}
	return a, nil
}

// ready reads what each step reads first: who writes, and which nodes there are.
func (h *Handler) ready(ctx context.Context) (a Answer, err error) {
	began := time.Now()
	a = Answer{Step: Ready, Outcome: failover.OK}
	rec, there, err := h.deps.Lease.Load(ctx)
	if err != nil {
		return a, &outcome.Error{Name: outcome.Of(err), Err: fmt.Errorf("no failover could be carried out: read the record of who writes: %w", err)}
	}
	nodes, err := failover.Nodes(ctx, h.deps.Registry)
	if err != nil {
		return a, &outcome.Error{Name: outcome.Of(err), Err: fmt.Errorf("no failover could be carried out: list the nodes: %w", err)}
	}
	a.Seconds, a.Epoch = time.Since(began).Seconds(), uint64(rec.Epoch)
	if a.Detail = fmt.Sprintf("%s writes epoch %d, and %d nodes are known", rec.Holder, rec.Epoch, len(nodes)); !there {
		a.Detail = fmt.Sprintf("nobody has written yet, and %d nodes are known", len(nodes))
	}
	return a, nil
}

const maxAskBytes = 64 << 10

func decode(raw []byte) (ask Ask, err error) {
	if len(raw) > maxAskBytes {
		return ask, input("a call of %d bytes, at most %d", len(raw), maxAskBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&ask); err != nil {
		return ask, input(`it is called with {"step": …, "run": …}: %v`, err)
	}
	switch named := ask.Run != "" || ask.Left != ""; {
	case ask.Step == Ready && named:
		return ask, input("%s is of no run", Ready)
	case ask.Step != Ready && ask.Run == "":
		return ask, input("no run is named")
	}
	return ask, nil
}

func input(format string, args ...any) error {
	return &outcome.Error{Name: outcome.Input, Err: fmt.Errorf(format, args...)}
}
