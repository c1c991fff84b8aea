package stack

import (
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// excused is the metadata of parts that infra/tools/lint.mjs reads.
const excused = "originchain:excused"

// A role's own policy is inline.
const (
	inlineRule   = "cdk-nag::IAMNoInlinePolicy"
	inlineReason = "The policy is this role's alone: it is made with it, goes with it, and can be attached to nothing else"
)

// wildcard is the rule that objects to a resource with an asterisk.
func wildcard(resource string) string {
	return "cdk-nag::IAMNoWildcardPermissions[Resource::" + resource + "]"
}

// excuseWildcard says why statements of a part's policy have a resource with an asterisk. It
// excuses those whose Sids it names: another statement with the same resource is an error
// until it is named too, and so is a name that no such statement has.
func excuseWildcard(part constructs.IConstruct, resource, reason string, sids ...string) {
	part.Node().AddMetadata(jsii.String(excused), map[string]any{"rule": wildcard(resource), "reason": reason, "sids": sids}, nil)
}

// excuse says why a rule of cdk-nag or cfn-guard that objects to a part, or to what is
// in it, is wrong here. The rule is as `make synth` names it: cdk-nag::Rule,
// cdk-nag::Rule[finding], or cfn-guard::rule. One that excuses nothing is an error.
func excuse(part constructs.IConstruct, rule, reason string) {
	part.Node().AddMetadata(jsii.String(excused), map[string]string{"rule": rule, "reason": reason}, nil)
}
