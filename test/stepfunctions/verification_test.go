package stepfunctions_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"originchain/infra/statemachine"
	"originchain/lambdas/documents"
	"originchain/lambdas/outcome"
	"originchain/lambdas/pitrverify"
	"originchain/shared/registry"
	"originchain/shared/restore"
	"originchain/shared/telemetry"
	"originchain/test/stepfunctions"
)

const (
	verifyARN   = "arn:aws:lambda:eu-central-1:123456789012:function:oc-acme-pitrverify"
	template    = "originchain-acme-verify"
	exitError   = "Runtime.ExitError"
	ec2Failure  = "Ec2.Ec2Exception"
	never       = time.Duration(1<<63 - 1)
	isCalledFor = "arn:aws:states:::"
)

// verification is the state machine with the real function behind it, and a machine of
// EC2. Time passes where the definition waits.
type verification struct {
	t      *testing.T
	states map[string]any
	ec2    *ec2
	// fails is what a task fails with, n being the how manieth time that it is called.
	fails func(state string, n int) error
	// function is what the function finds, machine what the machine does.
	function, machine pitrverify.Verify

	mu        sync.Mutex
	now       time.Time
	documents pitrverify.Documents
	calls     map[string]int
	// again: what is called next is a look that failed, before which nothing is waited for.
	again bool
}

func newVerification(t *testing.T) *verification {
	v := &verification{t: t, states: statemachine.Verification()["States"].(map[string]any), now: time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC), calls: map[string]int{},
		documents: documents.Of(registry.NewMemory()), function: tooLarge, machine: green}
	v.ec2 = newEC2(t, template, func() time.Time { return v.now })
	v.ec2.ended = func(at time.Time) {
		if _, err := v.verifier(v.machine, at).Handle(t.Context()); err != nil {
			t.Logf("the machine: %v", err)
		}
	}
	return v
}

func green(context.Context) (pitrverify.Result, error) {
	return pitrverify.Result{Full: true, OK: true, LSN: 7, Epoch: 1}, nil
}

func faulty(context.Context) (pitrverify.Result, error) {
	return pitrverify.Result{Full: true, Faults: 1, LSN: 7, Epoch: 1}, nil
}

func tooLarge(context.Context) (pitrverify.Result, error) {
	return pitrverify.Result{}, &restore.ScratchError{Limit: 1 << 28}
}

func (v *verification) verifier(verify pitrverify.Verify, at time.Time) *pitrverify.Verifier {
	return pitrverify.New(pitrverify.Deps{Documents: v.documents, Conflict: documents.Conflict, Verify: pitrverify.Within(verify), Metrics: telemetry.NewMetrics(),
		Now: func() time.Time { return at }, Clock: func() time.Duration { return time.Duration(at.UnixNano()) }})
}

// ServeHTTP carries a task out.
func (v *verification) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	state := strings.TrimPrefix(r.URL.Path, "/")
	var raw json.RawMessage
	err := json.NewDecoder(r.Body).Decode(&raw)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calls[state]++
	if state == "Look" && !v.again {
		v.now = v.now.Add(v.wait(1))
	}
	if err == nil && v.fails != nil {
		err = v.fails(state, v.calls[state])
	}
	var out any
	if err == nil {
		out, err = v.carryOut(r.Context(), state, raw)
	}
	v.again = state == "Look" && err != nil
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		out = map[string]string{"errorType": string(outcome.Of(err)), "errorMessage": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(out) // whoever asked is gone
}

func (v *verification) carryOut(ctx context.Context, state string, raw []byte) (any, error) {
	service, _ := strings.CutPrefix(v.states[state].(map[string]any)["Resource"].(string), isCalledFor)
	if action, ok := strings.CutPrefix(service, "aws-sdk:ec2:"); ok {
		return v.ec2.call(action, raw)
	}
	var in struct {
		FunctionName string
		Payload      json.RawMessage
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil || service != "lambda:invoke" || in.FunctionName != verifyARN {
		v.t.Errorf("%s calls %s with %s: %v", state, service, raw, err)
	}
	answer, err := pitrverify.NewHandler(v.verifier(v.function, v.now), func(float64) {}).Handle(ctx, in.Payload)
	return map[string]any{"StatusCode": http.StatusOK, "Payload": answer}, err
}

func (v *verification) run() (states []string, status string) {
	v.t.Helper()
	server := httptest.NewServer(v)
	defer server.Close()
	definition, err := statemachine.RenderVerification(map[string]string{statemachine.Verify: verifyARN, statemachine.Template: template})
	dir := v.t.TempDir()
	path, input := filepath.Join(dir, "verification.asl.json"), filepath.Join(dir, "input.json")
	if err == nil {
		err = errors.Join(os.WriteFile(path, definition, 0o600), os.WriteFile(input, []byte("{}"), 0o600))
	}
	runner := stepfunctions.Runner{Dir: "."}
	if err == nil {
		err = runner.Install(v.t.Context())
	}
	var out stepfunctions.Ended
	if err == nil {
		out, err = runner.Run(v.t.Context(), stepfunctions.Execution{ID: "arn:aws:states:eu-central-1:123456789012:execution:oc-acme-verify:one", Definition: path, Input: input, Server: server.URL, Now: true})
	}
	if err != nil {
		v.t.Fatal(err)
	}
	return out.States, strings.TrimSpace(out.Status + " " + out.Error)
}

// always has a task fail each time.
func always(state string, name outcome.Name) func(*verification) {
	return func(v *verification) {
		v.fails = func(s string, _ int) error {
			if s != state {
				return nil
			}
			return named(name)
		}
	}
}

// TestTheVerification: what the function has verified is done; what it hands over is a
// machine that ends itself, and whose record counts; nothing else is a success.
func TestTheVerification(t *testing.T) {
	rounds := lookRounds(t)
	look := func(n int) string {
		return "Start" + strings.Repeat(" Wait Look Ended Count", n-1) + " Wait Look Ended "
	}
	const over, done = "Verify HandedOver ", "Age Green Done"
	tooLong := look(rounds) + "Terminate TooLong"
	for _, c := range []struct {
		name           string
		set            func(*verification)
		states, status string
	}{
		{"the function is enough", func(v *verification) { v.function = green }, over + "Done", "SUCCEEDED"},
		{"the function finds a fault", func(v *verification) { v.function = faulty }, "Verify Failed", "FAILED OC.Unavailable"},
		{"the function has no memory", always("Verify", exitError), "Verify " + look(7) + done, "SUCCEEDED"},
		{"the function has no time", always("Verify", "Sandbox.Timedout"), "Verify " + look(7) + done, "SUCCEEDED"},
		{"killed once", func(v *verification) {
			v.function = green
			v.fails = func(state string, n int) error {
				if state == "Verify" && n == 1 {
					return named(exitError)
				}
				return nil
			}
		}, over + "Done", "SUCCEEDED"},
		{"killed, and what the machine finds is not well", func(v *verification) {
			always("Verify", exitError)(v)
			v.machine = faulty
			v.verified(24 * time.Hour)
		}, "Verify " + look(7) + "Age Green NotGreen", "FAILED OC.NotGreen"},
		{"handed over, and green", func(*verification) {}, over + look(7) + done, "SUCCEEDED"},
		{"handed over, and nobody knows the machine at first", func(v *verification) { v.ec2.unseen = 2 }, over + look(7) + done, "SUCCEEDED"},
		{"handed over, and the answer of the start is lost", func(v *verification) {
			v.ec2.lost = 2
		}, over + look(7) + done, "SUCCEEDED"},
		{"handed over, and green late", func(v *verification) { v.ec2.runs = v.wait(rounds) }, over + look(rounds) + done, "SUCCEEDED"},
		{"handed over, and yesterday's is left", func(v *verification) {
			v.machine = tooLarge
			v.verified(24*time.Hour - statemachine.MachineRuns)
		}, over + look(7) + "Age Green NotGreen", "FAILED OC.NotGreen"},
		{"no machine to be had", always("Start", ec2Failure), over + "Start Failed", "FAILED " + ec2Failure},
		{"the machine does not end", func(v *verification) { v.ec2.runs = never }, over + tooLong, "FAILED OC.TooLong"},
		{"nobody can look", func(v *verification) { always("Look", ec2Failure)(v); v.ec2.runs = never }, over + "Start Wait Look Terminate TooLong", "FAILED OC.TooLong"},
		{"it cannot be ended", func(v *verification) { always("Terminate", ec2Failure)(v); v.ec2.runs = never }, over + look(rounds) + "Terminate Failed", "FAILED " + ec2Failure},
		{"the record cannot be read", always("Age", outcome.Unavailable), over + look(7) + "Age Failed", "FAILED OC.Unavailable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := newVerification(t)
			v.ec2.runs = v.wait(7)
			c.set(v)
			states, status := v.run()
			if got := strings.Join(states, " "); got != c.states || status != c.status {
				t.Errorf("it ended as %q, want %q, by way of\n%s, want\n%s", status, c.status, got, c.states)
			}
			v.bounded(states)
			if n := v.calls["Verify"]; strings.HasPrefix(c.states, "Verify Start") && n != 2 {
				t.Errorf("a function that is killed was called %d times", n)
			}
			v.ec2.settled(slices.Contains(states, "Start") && c.name != "no machine to be had", slices.Contains(states, "Terminate") && c.name != "it cannot be ended")
		})
	}
}

// verified records that one was green so long ago.
func (v *verification) verified(ago time.Duration) {
	if _, err := v.verifier(green, v.now.Add(-ago)).Handle(v.t.Context()); err != nil {
		v.t.Fatal(err)
	}
}

// wait is how long so many waits take.
func (v *verification) wait(n int) time.Duration {
	pause := v.states["Wait"].(map[string]any)["Seconds"].(int)
	return time.Duration(n*pause) * time.Second
}

// bounded: an execution has the time for all that it waited for.
func (v *verification) bounded(states []string) {
	v.t.Helper()
	waits := 0
	for _, s := range states {
		if s == "Wait" {
			waits++
		}
	}
	whole := statemachine.Verification()["TimeoutSeconds"].(int) - 2*v.states["Verify"].(map[string]any)["TimeoutSeconds"].(int)
	if took, most := v.wait(waits), time.Duration(whole)*time.Second; took > most {
		v.t.Errorf("it waits for %s, and an execution may take %s", took, most)
	}
}

// lookRounds is at which look it is given up.
func lookRounds(t *testing.T) int {
	t.Helper()
	ended := statemachine.Verification()["States"].(map[string]any)["Ended"].(map[string]any)
	for _, c := range ended["Choices"].([]any) {
		if n, ok := c.(map[string]any)["NumericLessThan"].(int); ok {
			return n + 1
		}
	}
	t.Fatal(fmt.Errorf("it is never given up: %v", ended))
	return 0
}
