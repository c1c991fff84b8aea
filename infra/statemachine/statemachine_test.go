package statemachine

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"originchain/lambdas/outcome"
	"originchain/lambdas/promote"
	"originchain/lambdas/silence"
	"originchain/shared/failover"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The machine has a state for each step of a failover, in its order, and each leads to the
// next: Confirm is the first, Dns has a function of its own.
func TestTheStepsAreThoseOfAFailover(t *testing.T) {
	want := failover.StepNames()[1:]
	var got []string
	states := Definition()["States"].(object)
	at := steps()[0][0]
	for at != "LetGo" {
		s, ok := states[at].(object)
		if !ok || len(got) > len(want) {
			t.Fatalf("there is no state %s", at)
		}
		p := s["Parameters"].(object)
		got = append(got, p["Payload"].(object)["step"].(string))
		if function := map[bool]string{true: Dns, false: Promote}[at == "Dns"]; p["FunctionName"] != "${"+function+"}" {
			t.Errorf("%s calls %s", at, p["FunctionName"])
		}
		at = s["Next"].(string)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, name := range []string{"LetGo", "LetGoStuck", "LetGoHeld"} {
		if s := states[name].(object); s["Parameters"].(object)["Payload"].(object)["step"] != promote.LetGo {
			t.Errorf("%s is %v", name, s)
		}
	}
}

// What is said of servers that were stopped is what the function says, which names each: the
// old writer is one of them, and may run.
func TestWhoIsHeldIsNamedByWhoLetsGo(t *testing.T) {
	states := Definition()["States"].(object)
	for _, name := range []string{"TellHeld", "TellStuck"} {
		text := states[name].(object)["Parameters"].(object)["Payload"].(object)["say"].(object)["text.$"].(string)
		if !strings.Contains(text, "$.let_go.Cause") || strings.Contains(text, "$.confirm.") || strings.Contains(text, "old writer") {
			t.Errorf("%s says %s", name, text)
		}
	}
}

// The machine and the function that it asks agree on how long a person is waited for, how
// long an execution lasts, and who says that there is no verdict: the function, which has
// somebody called, before the machine gives up.
func TestTheMachineWaitsAsItsFunctionDoes(t *testing.T) {
	waits := Definition()["States"].(object)["Page"].(object)["TimeoutSeconds"]
	if waits != int(silence.ApprovalLasts/time.Second) {
		t.Errorf("the machine waits %v s for a person, the function %s", waits, silence.ApprovalLasts)
	}
	if lasts := Definition()["TimeoutSeconds"]; lasts != int(silence.ExecutionLasts/time.Second) {
		t.Errorf("an execution lasts %v s, its event %s", lasts, silence.ExecutionLasts)
	}
	if approveSeconds >= machineSeconds {
		t.Errorf("a person is waited for %d s, and an execution ends after %d", approveSeconds, machineSeconds)
	}
	if most := rounds()["NumericLessThan"].(int); most <= silence.MaxRounds {
		t.Errorf("the machine gives up after %d rounds, the function calls a person after %d", most, silence.MaxRounds)
	}
}

// Every state is reached, leads to one that there is, and is left by an error only to where
// somebody hears of it; what is waited for is bounded.
func TestTheShape(t *testing.T) {
	states := Definition()["States"].(object)
	reached := map[string]bool{Definition()["StartAt"].(string): true}
	for name, v := range states {
		s := v.(object)
		for _, next := range leads(s) {
			reached[next] = true
			if _, ok := states[next]; !ok {
				t.Errorf("%s leads to %s, which there is not", name, next)
			}
		}
		if s["Type"] != "Task" {
			continue
		}
		if s["TimeoutSeconds"] == nil || s["Catch"] == nil {
			t.Errorf("%s is not bounded, or its errors are not caught", name)
		}
		last := s["Catch"].([]any)[len(s["Catch"].([]any))-1].(object)
		if !slices.Equal(last["ErrorEquals"].([]any), []any{"States.ALL"}) || last["ResultPath"] == nil {
			t.Errorf("%s does not catch all errors, or drops what it knows by one", name)
		}
		if s["Resource"] == "arn:aws:states:::lambda:invoke" && s["Retry"] == nil {
			t.Errorf("%s is not retried", name)
		}
	}
	for name := range states {
		if !reached[name] {
			t.Errorf("nothing leads to %s", name)
		}
	}
}

// leads are the states behind one.
func leads(s object) (out []string) {
	add := func(v any) {
		if next, ok := v.(string); ok {
			out = append(out, next)
		}
	}
	add(s["Next"])
	add(s["Default"])
	for _, list := range []string{"Choices", "Catch"} {
		all, _ := s[list].([]any)
		for _, c := range all {
			add(c.(object)["Next"])
		}
	}
	return out
}

// A call that Lambda has not begun changed nothing, and is waited for by a retrier of its own,
// the first: a step for long, also one that has a server started again, and what only tells of
// it for shorter. No other retrier has an error of it, and none waits past the time after which
// a watch takes the failover for abandoned.
func TestAStepIsWaitedFor(t *testing.T) {
	const abandoned, told = 5 * 60, 60
	all := maps.Clone(Definition()["States"].(object))
	for name, s := range Verification()["States"].(object) {
		all["verification "+name] = s
	}
	for name, v := range all {
		s := v.(object)
		if s["Resource"] != "arn:aws:states:::lambda:invoke" {
			continue
		}
		retriers := s["Retry"].([]any)
		if name == "verification Verify" {
			retriers = retriers[1:] // one of its own comes before, of a call that was ended
		}
		first := retriers[0].(object)["ErrorEquals"].([]any)
		for _, e := range []string{"TooManyRequests", "ResourceNotReady", "ResourceConflict", "EC2Throttled", "EC2Unexpected", "ENILimitReached", "ENINotReady",
			"SubnetIPAddressLimitReached", "KMSAccessDenied", "KMSDisabled", "KMSInvalidState", "KMSNotFound"} {
			if !slices.Contains(first, any("Lambda."+e+"Exception")) {
				t.Errorf("%s is not waited for where Lambda answers with %s", name, e)
			}
		}
		for _, r := range retriers[1:] {
			for _, e := range r.(object)["ErrorEquals"].([]any) {
				if slices.Contains(first, e) {
					t.Errorf("%s has two ways to be retried by %v", name, e)
				}
			}
		}
		// By FULL jitter a pause is half of that, on average.
		most := longest(retriers[0].(object))
		least, below := 240.0, float64(abandoned)
		if strings.HasPrefix(name, "Tell") {
			least, below = 20, told
		}
		if most < least || most >= below {
			t.Errorf("%s is waited for up to %v s, want %v to %v", name, most, least, below)
		}
	}
}

// longest is for how long a retrier waits in all, at most.
func longest(r object) (sum float64) {
	next, most := asFloat(r["IntervalSeconds"]), asFloat(r["MaxDelaySeconds"])
	for range r["MaxAttempts"].(int) {
		sum += min(next, most)
		next *= asFloat(r["BackoffRate"])
	}
	return sum
}

// Who is to approve is asked again where SNS did not take it, and not where nobody answers.
func TestTheApprovalIsAskedForAgain(t *testing.T) {
	page := Definition()["States"].(object)["Page"].(object)
	retriers, _ := page["Retry"].([]any)
	if len(retriers) != 1 {
		t.Fatalf("%d retriers", len(retriers))
	}
	names := retriers[0].(object)["ErrorEquals"].([]any)
	for _, e := range []string{"SNS.AmazonSNSException", "SNS.InternalErrorException", "SNS.ThrottledException", "SNS.KMSThrottlingException", "SNS.SdkClientException"} {
		if !slices.Contains(names, any(e)) {
			t.Errorf("%s loses the page", e)
		}
	}
	for _, e := range names {
		if strings.HasPrefix(e.(string), "States.") {
			t.Errorf("by %v a page would be sent again that was received", e)
		}
	}
	if n := retriers[0].(object)["MaxAttempts"]; n != 4 {
		t.Errorf("%v attempts", n)
	}
}

// A watch that sees nothing is no failed execution, of which the alarm calls a person.
func TestAWatchThatSeesNothingCallsNobody(t *testing.T) {
	states := Definition()["States"].(object)
	last := states["Watch"].(object)["Catch"].([]any)
	if to := states[last[len(last)-1].(object)["Next"].(string)].(object); to["Type"] != "Succeed" {
		t.Errorf("it ends as %v", to["Type"])
	}
}

// What is retried is what may pass, of the names that the functions have.
func TestRetriesAreByName(t *testing.T) {
	for _, name := range outcome.Names() {
		if got := slices.Contains(retried(), any(string(name))); got != name.Retryable() {
			t.Errorf("%s: retried %t, may pass %t", name, got, name.Retryable())
		}
	}
}

func TestRender(t *testing.T) {
	values := map[string]string{}
	for _, name := range Placeholders() {
		values[name] = "arn:aws:lambda:eu-central-1:123456789012:function:" + name
	}
	b, err := Render(values)
	if err != nil || !json.Valid(b) || strings.Contains(string(b), "${") {
		t.Fatalf("%s, %v", b, err)
	}
	values["Other"] = "x"
	if _, err := Render(values); err == nil {
		t.Error("a value without a placeholder was taken")
	}
	delete(values, "Other")
	values[Topic] = "a\"b"
	if _, err := Render(values); err == nil {
		t.Error("a value that breaks the JSON was taken")
	}
	delete(values, Topic)
	if _, err := Render(values); err == nil {
		t.Error("a placeholder without a value was left")
	}
}

func TestGolden(t *testing.T) {
	got, err := JSON()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "failover.asl.json")
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("make golden if this is meant:\n%s", d)
	}
}
