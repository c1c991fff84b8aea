package model

import (
	"fmt"
	"strings"
)

// CheckInput is all that is wrong with the parameters of an operation, as JSON that names
// them as the model does: Step Functions calls services so.
func (s *Service) CheckInput(operation string, parameters []byte) []Violation {
	return s.checkJSON("input", operation, parameters, func(op *Operation) *Reference { return op.Input })
}

// CheckOutput is all that is wrong with what an operation is said to answer.
func (s *Service) CheckOutput(operation string, answer []byte) []Violation {
	return s.checkJSON("output", operation, answer, func(op *Operation) *Reference { return op.Output })
}

func (s *Service) checkJSON(path, operation string, text []byte, of func(*Operation) *Reference) []Violation {
	f := &found{service: s, operation: operation}
	op := s.Operations[operation]
	if op == nil {
		f.add(path, "it is no operation of the service")
		return f.list
	}
	raw, err := decodeJSON(text)
	if err != nil {
		f.add(path, "it cannot be read: %v", err)
		return f.list
	}
	shape := s.shape(of(op))
	if v, ok := f.take(path, shape, raw); ok {
		f.check(path, shape, v)
	} else if raw == nil {
		f.add(path, "it is null")
	}
	return f.list
}

// Answers says whether an operation's answer has what a path leads to, as
// Reservations[0].Instances[0].State.Name; the shape is that of it.
func (s *Service) Answers(operation, path string) (*Shape, error) {
	op := s.Operations[operation]
	if op == nil {
		return nil, fmt.Errorf("%s has no operation %s", s.Name, operation)
	}
	at := s.shape(op.Output)
	for part := range strings.SplitSeq(path, ".") {
		name, index, indexed := strings.Cut(part, "[")
		member, ok := at.Members[name]
		if !ok {
			return nil, fmt.Errorf("%s %s answers with no %s: %s has no member %q", s.Name, operation, path, at.Name, name)
		}
		at = s.Shapes[member.Shape]
		if (at.Type == "list") != indexed || indexed && index != "0]" {
			return nil, fmt.Errorf("%s %s answers with no %s: %s is a %s", s.Name, operation, path, name, at.Type)
		}
		if indexed {
			at = s.shape(at.Member)
		}
	}
	return at, nil
}
