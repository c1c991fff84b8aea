package statemachine

import (
	"encoding/json"
	"time"
)

// Placeholders of the verification's definition.
const (
	// Verify is the function, Template the launch template of the machine that has the
	// space and the time which the function has not.
	Verify   = "VerifyFunctionArn"
	Template = "LaunchTemplateName"
)

// VerificationPlaceholders are those that RenderVerification fills in.
func VerificationPlaceholders() []string { return []string{Verify, Template} }

const (
	// MachineRuns is how long a machine may verify: it ends by itself after that. It is
	// less than half of the time between two verifications, so that the last one that was
	// green before is never taken for this one.
	MachineRuns = 10 * time.Hour
	// lookSeconds is how often somebody looks whether the machine has ended, lookRounds for
	// how long: it has time to start and to end.
	lookSeconds = 300
	lookRounds  = int(MachineRuns/time.Second)/lookSeconds + 9
	// greenWithin is how old a verification of this execution can be when it is looked at.
	greenWithin = (lookRounds + 2) * lookSeconds
	// verifySeconds bounds the function, which has 900; verificationSeconds an execution.
	verifySeconds       = 960
	verificationSeconds = (lookRounds + 12) * lookSeconds
)

// Verification is the machine that has recovery points verified:
//
//	Verify → HandedOver?      (killed: Start)
//	           ├ no  → Done
//	           └ yes → Start → Wait → Look → Ended?
//	                             ↑             ├ not yet → Count
//	                             └─────────────┤
//	                                           ├ too long → Terminate → TooLong
//	                                           └ yes → Age → Green? → Done, or NotGreen
//
// That a machine has ended says nothing: what counts is what it has recorded.
func Verification() map[string]any {
	failed := func(next string) []any {
		return []any{object{"ErrorEquals": []any{"States.ALL"}, "ResultPath": "$.error", "Next": next}}
	}
	call := func(payload object, seconds int, next string) object {
		return object{"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "TimeoutSeconds": seconds,
			"Parameters":     object{"FunctionName": "${" + Verify + "}", "Payload": payload},
			"ResultSelector": object{"handed_over.$": "$.Payload.handed_over", "reason.$": "$.Payload.reason", "age_seconds.$": "$.Payload.age_seconds"},
			"ResultPath":     "$.verified", "Retry": retry(beginAttempts, 5, 3), "Catch": failed("Failed"), "Next": next}
	}
	ec2 := func(action string, parameters object, more object) object {
		s := object{"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:ec2:" + action, "TimeoutSeconds": callSeconds, "Parameters": parameters,
			"Retry": []any{object{"ErrorEquals": []any{"States.ALL"}, "IntervalSeconds": 30, "BackoffRate": 2, "MaxAttempts": 6, "MaxDelaySeconds": 600, "JitterStrategy": "FULL"}},
			"Catch": failed("Failed")}
		for k, v := range more {
			s[k] = v
		}
		return s
	}
	verify := call(object{"verify": true}, verifySeconds, "HandedOver")
	// A function that is killed had too little memory or time, and would have the next time:
	// the machine has more. It is tried once more, for what was no more than a bad moment.
	verify["Retry"] = append([]any{object{"ErrorEquals": killed(), "IntervalSeconds": 5, "MaxAttempts": 1}}, verify["Retry"].([]any)...)
	verify["Catch"] = append([]any{object{"ErrorEquals": killed(), "ResultPath": "$.error", "Next": "Start"}}, verify["Catch"].([]any)...)
	machine := object{"InstanceIds.$": "States.Array($.machine.id)"}
	return object{"Comment": "The verification of an instance's recovery points: by the function, or by a machine where that is too small.", "StartAt": "Verify", "TimeoutSeconds": verificationSeconds, "States": object{
		"Verify":     verify,
		"HandedOver": object{"Type": "Choice", "Default": "Done", "Choices": []any{object{"Variable": "$.verified.handed_over", "BooleanEquals": true, "Next": "Start"}}},
		// The token keeps a call that is made again from starting a second machine.
		//nolint:gosec // G101: no credential, it is of the call
		"Start": ec2("runInstances", object{"LaunchTemplate": object{"LaunchTemplateName": "${" + Template + "}", "Version": "$Latest"}, "MinCount": 1, "MaxCount": 1,
			"ClientToken.$": "States.Hash($$.Execution.Id, 'SHA-256')"},
			object{"ResultSelector": object{"id.$": "$.Instances[0].InstanceId", "round": 0}, "ResultPath": "$.machine", "Next": "Wait"}),
		"Wait": object{"Type": "Wait", "Seconds": lookSeconds, "Next": "Look"},
		"Look": ec2("describeInstances", machine,
			object{"ResultSelector": object{"state.$": "$.Reservations[0].Instances[0].State.Name"}, "ResultPath": "$.look", "Next": "Ended",
				// It is known for an hour after its end, and looked at more often.
				"Catch": failed("Terminate")}),
		"Ended": object{"Type": "Choice", "Default": "Terminate", "Choices": []any{
			object{"Variable": "$.look.state", "StringEquals": "terminated", "Next": "Age"},
			object{"Variable": "$.machine.round", "NumericLessThan": lookRounds, "Next": "Count"}}},
		"Count":     object{"Type": "Pass", "Parameters": object{"id.$": "$.machine.id", "round.$": "States.MathAdd($.machine.round, 1)"}, "ResultPath": "$.machine", "Next": "Wait"},
		"Terminate": ec2("terminateInstances", machine, object{"ResultPath": "$.terminated", "Next": "TooLong"}),
		"TooLong":   object{"Type": "Fail", "Error": "OC.TooLong", "Cause": "The machine that verifies was not seen to end in time, and was terminated; its log is in the group of the verification. docs/RUNBOOK.md#oc_pitr_last_verified_age_s"},
		"Age":       call(object{"age": true}, callSeconds, "Green"),
		"Green":     object{"Type": "Choice", "Default": "NotGreen", "Choices": []any{object{"Variable": "$.verified.age_seconds", "NumericLessThan": greenWithin, "Next": "Done"}}},
		"NotGreen":  object{"Type": "Fail", "Error": "OC.NotGreen", "Cause": "The machine that verifies has ended, and recorded no recovery point that is well; its log is in the group of the verification. docs/RUNBOOK.md#oc_pitr_last_verified_age_s"},
		"Failed":    object{"Type": "Fail", "ErrorPath": "$.error.Error", "CausePath": "$.error.Cause"},
		"Done":      object{"Type": "Succeed"},
	}}
}

// killed are the errors of a function that did not come to say anything: out of memory, or of
// its time.
func killed() []any {
	return []any{"Lambda.Unknown", "Runtime.ExitError", "Runtime.OutOfMemory", "Sandbox.Timedout", "States.Timeout"}
}

// RenderVerification is the definition with values for all placeholders.
func RenderVerification(values map[string]string) ([]byte, error) {
	b, err := json.MarshalIndent(Verification(), "", "  ")
	if err != nil {
		return nil, err
	}
	return fill(string(b)+"\n", VerificationPlaceholders(), values)
}
