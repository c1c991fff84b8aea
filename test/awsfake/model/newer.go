package model

import (
	"regexp"
	"strings"
)

// addition is what a model lacks because Debian's is older than the SDK that we use: each
// by name, with the reason. Everything else that a model does not know is a violation.
type addition struct {
	service string
	// shape gets the member, a list of the shape listOf.
	shape, member, listOf string
	// operation may fail with the error, which is a shape of the model.
	operation, fails string
	reason           string
}

func newer() []addition {
	return []addition{
		{service: "sqs", shape: "ReceiveMessageRequest", member: "MessageSystemAttributeNames", listOf: "MessageSystemAttributeName",
			reason: "it took the place of AttributeNames, which is deprecated, in 2024"},
		{service: "sqs", operation: "SendMessage", fails: "QueueDoesNotExist", reason: "operations list it since the service speaks JSON"},
		{service: "sqs", operation: "ReceiveMessage", fails: "QueueDoesNotExist", reason: "as above"},
		{service: "sqs", operation: "DeleteMessage", fails: "QueueDoesNotExist", reason: "as above"},
	}
}

func (n addition) add(s *Service) {
	if n.service != s.Name {
		return
	}
	if shape := s.Shapes[n.shape]; shape != nil {
		if _, ok := shape.Members[n.member]; !ok {
			list := n.shape + n.member
			s.Shapes[list] = &Shape{Name: list, Type: "list", Member: &Reference{Shape: n.listOf}}
			shape.Members[n.member] = Reference{Shape: list}
		}
	}
	if op := s.Operations[n.operation]; op != nil {
		op.Errors = append(op.Errors, Reference{Shape: n.fails})
	}
}

// changedProtocols are the services that speak another protocol by now than Debian's
// models say: shapes are the same, and only names of members go over the wire, not what
// the older protocol made of them.
func changedProtocols() map[string]string {
	return map[string]string{
		"cloudwatch": rpcV2CBOR, // since 2025, POST /service/GraniteServiceVersion20100801/operation/…
		"sqs":        jsonRPC,   // since 2023, AmazonSQS.…, JSON 1.0
	}
}

// patterns are those that Go's regexp does not take, by the name of their shape.
func patterns() map[string]func(string) bool {
	notBlank := func(s string) bool { return strings.TrimSpace(s) != "" }
	when := regexp.MustCompile(`^-?\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(T([01]\d|2[0-3]):[0-5]\d:[0-5]\d([.,]\d+)?Z)?$`)
	printable := func(s string) bool {
		return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f })
	}
	return map[string]func(string) bool{
		"AlarmName":                 notBlank,
		"StringDateTime":            when.MatchString,
		"arnType":                   printable,
		"sessionPolicyDocumentType": printable,
	}
}
