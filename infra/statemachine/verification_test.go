package statemachine

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// execution walks a definition, as far as the verification's uses the language: tasks
// answer as a test says, and waiting takes no time.
type execution struct {
	t      *testing.T
	states object
	// answer is what a task answers; an error's text is its name.
	answer func(name string, seen int) (object, error)
	visits []string
	waited time.Duration
}

// lookup reads a path of the input.
func lookup(data any, path string) any {
	for _, key := range strings.Split(strings.TrimPrefix(path, "$."), ".") {
		name, index, _ := strings.Cut(key, "[")
		data = data.(map[string]any)[name]
		if index != "" {
			data = data.([]any)[0]
		}
	}
	return data
}

// resolve gives the values of what ends in ".$".
func (x *execution) resolve(in any, data object) any {
	m, ok := in.(object)
	if !ok {
		return in
	}
	out := object{}
	for k, v := range m {
		name, path := strings.CutSuffix(k, ".$")
		switch text, _ := v.(string); {
		case !path:
			out[k] = x.resolve(v, data)
		case strings.HasPrefix(text, "States.MathAdd("):
			out[name] = lookup(data, strings.TrimSuffix(strings.TrimPrefix(text, "States.MathAdd("), ", 1)")).(int) + 1
		case strings.HasPrefix(text, "States.Array("):
			out[name] = []any{lookup(data, strings.TrimSuffix(strings.TrimPrefix(text, "States.Array("), ")"))}
		case strings.HasPrefix(text, "States.Hash($$.Execution.Id"):
			out[name] = "hash"
		default:
			out[name] = lookup(data, text)
		}
	}
	return out
}

// run gives the last state, with its error.
func (x *execution) run() string {
	data, at := object{}, Verification()["StartAt"].(string)
	for {
		if x.visits = append(x.visits, at); len(x.visits) > 2000 {
			x.t.Fatal("it does not end")
		}
		s := x.states[at].(object)
		switch s["Type"] {
		case "Succeed", "Fail":
			return at
		case "Wait":
			x.waited += time.Duration(s["Seconds"].(int) * int(time.Second))
			at = s["Next"].(string)
		case "Pass":
			data[strings.TrimPrefix(s["ResultPath"].(string), "$.")] = x.resolve(s["Parameters"], data)
			at = s["Next"].(string)
		case "Choice":
			at = x.choose(s, data)
		case "Task":
			at = x.task(at, s, data)
		}
	}
}

func (x *execution) choose(s, data object) string {
	for _, c := range s["Choices"].([]any) {
		choice := c.(object)
		v := lookup(data, choice["Variable"].(string))
		switch {
		case choice["BooleanEquals"] != nil && v == choice["BooleanEquals"], choice["StringEquals"] != nil && v == choice["StringEquals"]:
			return choice["Next"].(string)
		case choice["NumericLessThan"] != nil && asFloat(v) < asFloat(choice["NumericLessThan"]):
			return choice["Next"].(string)
		}
	}
	return s["Default"].(string)
}

func asFloat(v any) float64 {
	switch n := v.(type) {
	case int:
		return float64(n)
	case float64:
		return n
	}
	return -1
}

func (x *execution) task(name string, s, data object) string {
	_ = x.resolve(s["Parameters"], data) // or it would not be there
	seen := 0
	for _, v := range x.visits {
		if v == name {
			seen++
		}
	}
	answer, err := x.answer(name, seen)
	if err != nil {
		c := matching(s["Catch"], err.Error())
		data[strings.TrimPrefix(c["ResultPath"].(string), "$.")] = object{"Error": err.Error(), "Cause": err.Error()}
		return c["Next"].(string)
	}
	result := any(answer)
	if s["ResultSelector"] != nil {
		result = x.resolve(s["ResultSelector"], answer)
	}
	data[strings.TrimPrefix(s["ResultPath"].(string), "$.")] = result
	return s["Next"].(string)
}

// matching is the first catcher, or retrier, of an error: later ones are not asked.
func matching(of any, name string) object {
	for _, c := range of.([]any) {
		if errs := c.(object)["ErrorEquals"].([]any); slices.Contains(errs, any(name)) || slices.Contains(errs, any("States.ALL")) {
			return c.(object)
		}
	}
	return nil
}

// TestAFunctionThatIsKilledIsTriedOnce more: there is time for that, and then for a machine.
func TestAFunctionThatIsKilledIsTriedOnce(t *testing.T) {
	verify := Verification()["States"].(object)["Verify"].(object)
	for _, name := range killed() {
		if attempts := matching(verify["Retry"], name.(string))["MaxAttempts"].(int); attempts != 1 || (2+attempts)*verifySeconds+lookRounds*lookSeconds > verificationSeconds {
			t.Errorf("%s: it is tried %d times again, of %d s each, and an execution has %d s", name, attempts, verifySeconds, verificationSeconds)
		}
	}
	if matching(verify["Retry"], "OC.Unavailable")["MaxAttempts"].(int) < 2 {
		t.Error("a service that is away for a moment fails a verification")
	}
}

// TestVerifications: what the function has verified is done; what it hands over is a machine
// that ends itself, and whose record counts; nothing else is a success.
func TestVerifications(t *testing.T) {
	verified := func(over bool, age float64) object {
		return object{"Payload": object{"handed_over": over, "reason": "x", "age_seconds": age}}
	}
	looks := func(state string) object {
		return object{"Reservations": []any{object{"Instances": []any{object{"State": object{"Name": state}}}}}}
	}
	for name, c := range map[string]struct {
		over    bool
		fails   string
		with    string // OC.<state> if empty
		ends    int    // at which look the machine has ended
		age     float64
		want    string
		started bool
	}{
		"the function is enough":           {want: "Done"},
		"the function finds a fault":       {fails: "Verify", want: "Failed"},
		"the function has no memory":       {fails: "Verify", with: "Runtime.ExitError", ends: 7, age: 301, want: "Done", started: true},
		"the function has no time":         {fails: "Verify", with: "Sandbox.Timedout", ends: 7, age: 301, want: "Done", started: true},
		"nobody answers for the function":  {fails: "Verify", with: "States.Timeout", ends: 7, age: 301, want: "Done", started: true},
		"killed, and nothing is recorded":  {fails: "Verify", with: "Lambda.Unknown", ends: 7, age: 90_000, want: "NotGreen", started: true},
		"handed over, and green":           {over: true, ends: 7, age: 301, want: "Done", started: true},
		"handed over, and green late":      {over: true, ends: lookRounds, age: 301, want: "Done", started: true},
		"handed over, yesterday's is left": {over: true, ends: 3, age: 24*3600 - MachineRuns.Seconds(), want: "NotGreen", started: true},
		"no machine to be had":             {over: true, fails: "Start", want: "Failed", started: true},
		"the machine does not end":         {over: true, ends: 1 << 30, want: "TooLong", started: true},
		"nobody can look":                  {over: true, fails: "Look", want: "TooLong", started: true},
		"it cannot be ended":               {over: true, fails: "Terminate", ends: 1 << 30, want: "Failed", started: true},
		"the record cannot be read":        {over: true, ends: 1, fails: "Age", want: "Failed", started: true},
	} {
		x := &execution{t: t, states: Verification()["States"].(object)}
		x.answer = func(task string, seen int) (object, error) {
			if task == c.fails {
				return nil, errors.New(cmp.Or(c.with, "OC."+task))
			}
			switch task {
			case "Verify":
				return verified(c.over, 90_000), nil
			case "Age":
				return verified(false, c.age), nil
			case "Start":
				return object{"Instances": []any{object{"InstanceId": "i-1"}}}, nil
			case "Look":
				return looks(map[bool]string{false: "running", true: "terminated"}[seen >= c.ends]), nil
			}
			return object{}, nil
		}
		if got := x.run(); got != c.want || slices.Contains(x.visits, "Start") != c.started {
			t.Errorf("%s: it ends in %s, want %s, by way of %q", name, got, c.want, x.visits)
		}
		if got, most := x.waited, time.Duration(verificationSeconds-verifySeconds)*time.Second; got > most {
			t.Errorf("%s: it waits for %s, and an execution may take %s", name, got, most)
		}
		if c.want == "TooLong" != slices.Contains(x.visits, "Terminate") && c.fails != "Terminate" {
			t.Errorf("%s: a machine is left to itself, or ended: %q", name, x.visits)
		}
	}
	if waits := time.Duration(lookRounds) * lookSeconds * time.Second; waits < MachineRuns+30*time.Minute || greenWithin*2 > 24*3600 {
		t.Errorf("it is waited %s for a machine that runs %s; what is green for %d s would be yesterday's", waits, MachineRuns, greenWithin)
	}
}

func TestRenderVerification(t *testing.T) {
	b, err := RenderVerification(map[string]string{Verify: "arn:aws:lambda:eu-central-1:111122223333:function:oc-acme-pitrverify", Template: "originchain-acme-verify"})
	if err != nil || !json.Valid(b) || strings.Contains(string(b), "${") {
		t.Fatalf("%v\n%s", err, b)
	}
	if _, err := RenderVerification(map[string]string{Verify: "x"}); err == nil {
		t.Error("it is rendered without a template")
	}
}
