package statemachine

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// matching is the first catcher, or retrier, of an error: later ones are not asked.
func matching(of any, name string) object {
	for _, c := range of.([]any) {
		if errs := c.(object)["ErrorEquals"].([]any); slices.Contains(errs, any(name)) || slices.Contains(errs, any("States.ALL")) {
			return c.(object)
		}
	}
	return nil
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

// TestAMachineHasItsTime: it is looked at for as long as it runs, and what is green for that
// long is not yesterday's.
func TestAMachineHasItsTime(t *testing.T) {
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
