// Package statemachine is the failover of an instance as a state machine of AWS Step
// Functions: JSONPath, with placeholders for what only a stack knows.
//
//	Confirm → Verdict → Fence → DeriveUnit → RaiseEpoch → Promote → Smoke → Dns → Record → LetGo → Tell
//	             ├ wait → Wait → Confirm, at pauses that grow, so often at most as the function says
//	             ├ page → Page: a person approves, naming the guards that are given up → Confirm
//	             └ done, ignored → Ignored
//
// A step that finds that it cannot go on (a guard stands, the record has moved, somebody else
// is at it) goes back to Confirm, which looks anew. A schedule starts the machine with
// {"watch": true}: where the alarm is on and nobody has it, that is as if it had just come
// (Watch), and else nothing, of which nobody is told.
//
// Every call is retried where its error says that it may pass (lambdas/outcome), for minutes
// where Lambda has not begun it at all; and what is caught is said in the incident, and to who
// is on call. What Fence has stopped is let go again, also where a step fails for good
// (LetGoStuck): nobody else would start it. Where that is refused (WasLetGo), it is said too.
package statemachine

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Placeholders of the definition, as ${Name}.
const (
	Silence = "SilenceFunctionArn"
	Promote = "PromoteFunctionArn"
	Dns     = "DnsFunctionArn"
	Notify  = "NotifyFunctionArn"
	Topic   = "PageTopicArn"
)

// Placeholders are those that Render fills in.
func Placeholders() []string { return []string{Silence, Promote, Dns, Notify, Topic} }

const (
	// approveSeconds is how long a person is waited for.
	approveSeconds = 12 * 3600
	// callSeconds bounds one call of a function: above what the function may take itself.
	callSeconds = 180
	// machineSeconds bounds an execution.
	machineSeconds = 24 * 3600
	// beginAttempts is how often a call is made that Lambda does not begin, at most
	// beginSeconds apart: long enough for what uses up an account's calls, and for a function
	// that was set aside to be brought back, and less than the time after which a watch takes
	// a failover for abandoned (TestAStepIsWaitedFor).
	beginAttempts, beginSeconds = 30, 10
	// sayAttempts is how often of a call that only tells of what happens: the rest waits for it.
	sayAttempts = 5
	// maxRounds is how often Confirm is asked: above what the function answers with wait.
	maxRounds = 40
)

// steps are the states that carry out the steps of package failover behind the first, in
// their order.
func steps() [][2]string {
	return [][2]string{
		{"Fence", "fence"}, {"DeriveUnit", "derive unit"}, {"RaiseEpoch", "raise epoch"}, {"Promote", "promote"},
		{"Smoke", "smoke"}, {"Dns", "dns"}, {"Record", "record"},
	}
}

type object = map[string]any

// Definition is the machine as a value.
func Definition() map[string]any {
	states := object{
		"Confirm": confirm("Holding"), "Verdict": verdict(), "Wait": object{"Type": "Wait", "SecondsPath": "$.confirm.after_seconds", "Next": "Confirm"},
		"Page": page(), "Approval": object{"Type": "Pass", "Parameters": object{"event.$": "$.event", "confirm": object{"round": 0, "run": "", "held.$": "$.confirm.held", "reasons": []any{}}, "approval.$": "$.page", "let_go.$": "$.let_go", "told.$": "$.confirm.noes", "left": ""}, "Next": "Confirm"},
		"Tell": say("Done", "tell", ""), "Done": object{"Type": "Succeed"}, "Ignored": object{"Type": "Succeed"},
		"TellLeft": say("CallLeft", "record", "States.Format('The new writer writes, and something of the failover is left: {}. Finish it with scripts/promote-follower.sh, by the same node.', $.error.Cause)"),
		"CallLeft": call("LetGo", "States.Format('The writer was replaced, and something is left to do: {}', $.error.Cause)"),
		"LetGo":    letGo("run", "WasLetGo", "TellHeld"), "LetGoStuck": letGo("run", "TellStuck", "TellStuck"), "LetGoHeld": letGo("held", "Released", "Verdict"),
		"WasLetGo":     object{"Type": "Choice", "Default": "TellHeld", "Choices": []any{object{"Variable": "$.let_go.outcome", "StringEquals": "ok", "Next": "Tell"}}},
		"DnsLeft":      object{"Type": "Pass", "Result": "dns", "ResultPath": "$.left", "Next": "Record"},
		"Stopped":      object{"Type": "Choice", "Default": "LetGoStuck", "Choices": []any{object{"Variable": "$.confirm.run", "StringEquals": "", "Next": "StuckHolding"}}},
		"StuckHolding": object{"Type": "Choice", "Default": "LetGoLeft", "Choices": []any{object{"Variable": "$.confirm.held", "StringEquals": "", "Next": "TellStuck"}}},
		"LetGoLeft":    letGo("held", "TellStuck", "TellStuck"),
		"TellHeld":     say("Tell", "let go", "States.Format('Of the servers that a failover has stopped not all are known to run: {}. Start those that do not when their machines are well: docs/RUNBOOK.md#a-failover', $.let_go.Cause)"),
		"TellStuck": say("CallStuck", "stuck",
			"States.Format('The failover does not go on by itself ({}): {}. What was stopped: {}. A person is called: docs/RUNBOOK.md#a-failover', $.error.Error, $.error.Cause, $.let_go.Cause)"),
		"CallStuck":   call("Stuck", "States.Format('The failover does not go on by itself ({}): {}. What was stopped: {}. docs/RUNBOOK.md#a-failover', $.error.Error, $.error.Cause, $.let_go.Cause)"),
		"Stuck":       object{"Type": "Fail", "Error": "OC.Stuck", "Cause": "The failover did not come to its end; the incident says why."},
		"NoVerdict":   object{"Type": "Pass", "Result": object{"Error": "OC.NoVerdict", "Cause": "nobody could say whether the writer is dead"}, "ResultPath": "$.error", "Next": "StuckHolding"},
		"TellPage":    tellPage(),
		"NotApproved": object{"Type": "Pass", "Result": object{"Error": "OC.NotApproved", "Cause": "nobody has approved in time"}, "ResultPath": "$.error", "Next": "StuckHolding"},
		"Begin":       object{"Type": "Pass", "Parameters": object{"event.$": "$", "confirm": object{"round": 0, "run": "", "held": "", "reasons": []any{}}, "approval": nil, "told": nil, "let_go": object{"Cause": "nothing by this execution"}, "left": ""}, "Next": "Whence"},
		"Whence":      object{"Type": "Choice", "Default": "Confirm", "Choices": []any{object{"Variable": "$.event.watch", "IsPresent": true, "Next": "Watch"}}},
		"Watch":       watch(),
		"Unseen":      object{"Type": "Succeed", "Comment": "How the alarm stands could not be seen; the next watch tries again, and that the function fails is an alarm of its own."},
		"Holding":     object{"Type": "Choice", "Default": "LetGoHeld", "Choices": []any{object{"Variable": "$.confirm.held", "StringEquals": "", "Next": "Verdict"}}},
		"Released":    object{"Type": "Choice", "Default": "Verdict", "Choices": []any{object{"Next": "Pause", "And": []any{object{"Variable": "$.let_go.outcome", "StringEquals": "ok"}, rounds()}}}},
		"Again":       object{"Type": "Choice", "Default": "Stopped", "Choices": []any{object{"Next": "Pause", "And": []any{rounds()}}}},
		"Pause":       object{"Type": "Wait", "SecondsPath": "$.confirm.again_seconds", "Next": "Confirm"},
	}
	all := steps()
	for i, s := range all {
		next := "LetGo"
		if i+1 < len(all) {
			next = all[i+1][0]
		}
		states[s[0]] = step(s[1], next)
		states[s[0]].(object)["Catch"] = []any{again(), stuck()}
	}
	// The name is what clients wait for; the writer writes without it.
	states["Dns"].(object)["Catch"] = []any{again(), object{"ErrorEquals": []any{"States.ALL"}, "ResultPath": "$.error", "Next": "DnsLeft"}}
	states["Dns"].(object)["Parameters"].(object)["FunctionName"] = "${" + Dns + "}"
	states["Record"].(object)["Parameters"].(object)["Payload"].(object)["left.$"] = "$.left"
	states["Record"].(object)["Catch"] = []any{
		object{"ErrorEquals": []any{"OC.Left"}, "ResultPath": "$.error", "Next": "TellLeft"}, again(), stuck(),
	}
	return object{"Comment": "The failover of an instance, begun by its alarm.", "StartAt": "Begin", "TimeoutSeconds": machineSeconds, "States": states}
}

// retried are the errors that may pass: the functions' own, and Lambda's. What was asked for
// may have been done.
func retried() []any {
	return []any{"OC.Unavailable", "Lambda.ServiceException", "Lambda.AWSLambdaException", "Lambda.LambdaException", "Lambda.SdkClientException",
		"Lambda.ClientExecutionTimeoutException", "Lambda.Unknown", "Runtime.ExitError", "Sandbox.Timedout", "States.Timeout"}
}

// notBegun are Lambda's own errors of a call that it has not begun, so that nothing was done:
// too many at once, a function that is being changed or was set aside as nobody had called it
// for weeks, its interfaces or the key of its environment not to be had. Some of these names
// are spelled in two ways, by the generations of the library that the service calls Lambda by.
func notBegun() (names []any) {
	for _, name := range []string{"TooManyRequests", "ResourceNotReady", "ResourceConflict", "CodeArtifactUserPending",
		"EC2Throttled", "Ec2Throttled", "EC2Unexpected", "Ec2Unexpected", "ENILimitReached", "EniLimitReached", "ENINotReady", "EniNotReady",
		"SubnetIPAddressLimitReached", "SubnetIpAddressLimitReached", "KMSAccessDenied", "KmsAccessDenied", "KMSDisabled", "KmsDisabled",
		"KMSInvalidState", "KmsInvalidState", "KMSNotFound", "KmsNotFound"} {
		names = append(names, "Lambda."+name+"Exception")
	}
	return names
}

// unpublished are errors of SNS's that may pass, of both generations too. Where a publication
// was made all the same, two pages come, and the token of the second is the one that is taken.
func unpublished() (names []any) {
	for _, name := range []string{"AmazonSNS", "Sns", "InternalError", "Throttled", "KMSThrottling", "KmsThrottling", "SdkClient"} {
		names = append(names, "SNS."+name+"Exception")
	}
	return names
}

// retry waits for Lambda to begin a call, begin times, and repeats one that may have been
// carried out, attempts times.
func retry(begin, first, attempts int) []any {
	return []any{
		object{"ErrorEquals": notBegun(), "IntervalSeconds": 2, "BackoffRate": 1.5, "MaxAttempts": begin, "MaxDelaySeconds": beginSeconds, "JitterStrategy": "FULL"},
		object{"ErrorEquals": retried(), "IntervalSeconds": first, "BackoffRate": 2, "MaxAttempts": attempts, "MaxDelaySeconds": 20, "JitterStrategy": "FULL"},
	}
}

func stuck() object {
	return object{"ErrorEquals": []any{"States.ALL"}, "ResultPath": "$.error", "Next": "Stopped"}
}

// again is for what a step finds that was not so when it was confirmed: it is confirmed anew.
func again() object {
	return object{"ErrorEquals": []any{"OC.Refused", "OC.Moved", "OC.OtherRun", "OC.OutOfTurn"}, "ResultPath": "$.error", "Next": "Again"}
}

// rounds is whether there may be another one.
func rounds() object { return object{"Variable": "$.confirm.round", "NumericLessThan": maxRounds} }

// letGo has the server started again that a failover has stopped: the one that runs, or one
// that is held up. That it cannot be keeps nothing from going on.
func letGo(of, next, failed string) object {
	s := invoke(Promote, object{"step": "let go", "run.$": "$.confirm." + of}, object{"Cause.$": "$.Payload.detail", "outcome.$": "$.Payload.outcome"}, "$.let_go", next)
	s["Retry"] = retry(beginAttempts, 1, 2)
	s["Catch"] = []any{object{"ErrorEquals": []any{"States.ALL"}, "ResultPath": "$.let_go", "Next": failed}}
	return s
}

// invoke calls a function; its answer is picked by select.
func invoke(function string, payload, selector object, into, next string) object {
	return object{
		"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "TimeoutSeconds": callSeconds,
		"Parameters":     object{"FunctionName": "${" + function + "}", "Payload": payload},
		"ResultSelector": selector, "ResultPath": into, "Retry": retry(beginAttempts, 1, 4), "Catch": []any{stuck()}, "Next": next,
	}
}

func confirm(next string) object {
	selector := object{}
	for _, name := range []string{"verdict", "run", "epoch", "writer", "target", "lost_from", "lost_to", "after_seconds", "round", "again_seconds", "held", "noes", "reasons"} {
		selector[name+".$"] = "$.Payload." + name
	}
	payload := object{"event.$": "$.event", "execution.$": "$$.Execution.Id", "round.$": "$.confirm.round", "approval.$": "$.approval", "told.$": "$.told"}
	return invoke(Silence, payload, selector, "$.confirm", next)
}

// watch is the first Confirm of a watch. Nobody is called for one that fails, as would be for
// an execution that fails: the next comes two minutes later.
func watch() object {
	s := confirm("Holding")
	s["Retry"] = retry(beginAttempts, 1, 2)
	s["Catch"] = []any{object{"ErrorEquals": []any{"States.ALL"}, "ResultPath": "$.error", "Next": "Unseen"}}
	return s
}

func verdict() object {
	is := func(v, next string) object {
		return object{"Variable": "$.confirm.verdict", "StringEquals": v, "Next": next}
	}
	return object{"Type": "Choice", "Default": "NoVerdict", "Choices": []any{
		is("promote", steps()[0][0]), is("done", "Ignored"), is("ignored", "Ignored"),
		object{"Next": "Wait", "And": []any{
			object{"Variable": "$.confirm.verdict", "StringEquals": "wait"}, rounds(),
		}},
		is("page", "TellPage"), is("shed_load", "TellPage"),
	}}
}

func step(name, next string) object {
	payload := object{"step": name, "run.$": "$.confirm.run"}
	selector := object{"step.$": "$.Payload.step", "outcome.$": "$.Payload.outcome", "detail.$": "$.Payload.detail", "seconds.$": "$.Payload.seconds", "epoch.$": "$.Payload.epoch"}
	return invoke(Promote, payload, selector, "$.step", next)
}

// say adds to the incident, and has subscribers told. That it fails keeps nothing else
// from going on: the schedule makes good what it can.
func say(next, step, text string) object {
	said := object{"execution.$": "$$.Execution.Id", "step": step, "run.$": "$.confirm.run"}
	if text != "" {
		said["text.$"] = text
	}
	s := invoke(Notify, object{"say": said}, object{}, "$.said", next)
	s["Retry"] = retry(sayAttempts, 1, 4)
	s["Catch"] = []any{object{"ErrorEquals": []any{"States.ALL"}, "ResultPath": "$.unsaid", "Next": next}}
	return s
}

func tellPage() object {
	return say("Page", "page", "States.Format('Whether the writer is replaced is for a person to decide: {}', States.JsonToString($.confirm.reasons))")
}

// call publishes to who is on call.
func call(next, message string) object {
	return object{
		"Type": "Task", "Resource": "arn:aws:states:::sns:publish", "TimeoutSeconds": callSeconds,
		"Parameters": object{"TopicArn": "${" + Topic + "}", "Subject": "OriginChain: a failover needs a person", "Message.$": message},
		"ResultPath": "$.called", "Retry": []any{object{"ErrorEquals": []any{"States.ALL"}, "IntervalSeconds": 1, "BackoffRate": 2, "MaxAttempts": 4}},
		"Catch": []any{object{"ErrorEquals": []any{"States.ALL"}, "ResultPath": "$.uncalled", "Next": next}}, "Next": next,
	}
}

// page asks who is on call, and waits for the word by `aws stepfunctions send-task-success`:
// silence.Approval, which is of the epoch, the writer, the node and the loss that are told here.
func page() object {
	return object{
		"Type": "Task", "Resource": "arn:aws:states:::sns:publish.waitForTaskToken", "TimeoutSeconds": approveSeconds,
		"Parameters": object{"TopicArn": "${" + Topic + "}", "Subject": "OriginChain: approve or reject a failover",
			"Message.$": `States.Format('The writer {} of epoch {} is silent, and {} could take its place. LSN {} to {} would be lost by that (0: none is known). Why this is not done by itself: {}

To approve, naming the guards that are given up, or to reject with "approve": false:
aws stepfunctions send-task-success --task-token {} --task-output file://approval.json
approval.json: \{"approve": true, "by": "your name", "epoch": {}, "writer": "{}", "to": "{}", "loss_from": {}, "loss_to": {}, "allow": \{"allow_slow_writer": false, "allow_lag": 0, "allow_backfilling": false, "accept_data_loss": false\}\}
Where that is not so any more by then, you are asked again.', $.confirm.writer, $.confirm.epoch, $.confirm.target, $.confirm.lost_from, $.confirm.lost_to, States.JsonToString($.confirm.reasons), $$.Task.Token, $.confirm.epoch, $.confirm.writer, $.confirm.target, $.confirm.lost_from, $.confirm.lost_to)`,
		},
		// By name: what runs out is the time of whoever is asked, and is not to be asked for again.
		"Retry":      []any{object{"ErrorEquals": unpublished(), "IntervalSeconds": 1, "BackoffRate": 2, "MaxAttempts": 4, "JitterStrategy": "FULL"}},
		"ResultPath": "$.page", "Next": "Approval",
		"Catch": []any{object{"ErrorEquals": []any{"States.Timeout"}, "ResultPath": "$.error", "Next": "NotApproved"}, stuck()},
	}
}

// JSON is the definition with its placeholders.
func JSON() ([]byte, error) {
	b, err := json.MarshalIndent(Definition(), "", "  ")
	return append(b, '\n'), err
}

// Render is the definition with values for all placeholders.
func Render(values map[string]string) ([]byte, error) {
	b, err := JSON()
	if err != nil {
		return nil, err
	}
	return fill(string(b), Placeholders(), values)
}

// fill gives placeholders their values.
func fill(text string, placeholders []string, values map[string]string) ([]byte, error) {
	for _, name := range placeholders {
		v, ok := values[name]
		if !ok || v == "" || strings.ContainsAny(v, "\"\\\n") {
			return nil, fmt.Errorf("the state machine needs a value for %s, and %q is none", name, v)
		}
		text = strings.ReplaceAll(text, "${"+name+"}", v)
	}
	if unknown := slices.DeleteFunc(slices.Sorted(maps.Keys(values)), func(n string) bool { return slices.Contains(placeholders, n) }); len(unknown) > 0 {
		return nil, fmt.Errorf("the state machine has no placeholder %s", strings.Join(unknown, ", "))
	}
	return []byte(text), nil
}
