package stack

import (
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// excused is the metadata of parts that infra/tools/lint.mjs reads.
const excused = "originchain:excused"

// excuse says why a rule of cdk-nag or cfn-guard that objects to a part, or to what is
// in it, is wrong here. The rule is as `make synth` names it: cdk-nag::Rule,
// cdk-nag::Rule[finding], or cfn-guard::rule. One that excuses nothing is an error.
func excuse(part constructs.IConstruct, rule, reason string) {
	part.Node().AddMetadata(jsii.String(excused), map[string]string{"rule": rule, "reason": reason}, nil)
}
