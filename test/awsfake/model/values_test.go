package model

import (
	"strings"
	"testing"
)

// TestValuesAreHeld: what is wrong with parameters and answers that are no request's.
func TestValuesAreHeld(t *testing.T) {
	s := load(t, "ssm")
	for _, c := range []struct {
		operation, input, want string
	}{
		{"SendCommand", wellSSM, ""},
		{"SendCommand", `{"documentName":"Doc-stop"}`, "no such member"},
		{"SendCommand", `{}`, "requires it"},
		{"SendCommand", `{"DocumentName":"Doc-stop","DocumentHashType":"Sha255"}`, "none of DocumentHashType"},
		{"SendCommand", `{"DocumentName":"Doc-stop","TimeoutSeconds":"30"}`, "is a integer"},
		{"SendCommand", `null`, "it is null"},
		{"SendCommand", `{`, "cannot be read"},
		{"SendCommands", wellSSM, "no operation"},
	} {
		var said []string
		for _, v := range s.CheckInput(c.operation, []byte(c.input)) {
			said = append(said, v.String())
		}
		if all := strings.Join(said, "\n"); (c.want == "") != (all == "") || !strings.Contains(all, c.want) {
			t.Errorf("%s %s: %q, want %q", c.operation, c.input, all, c.want)
		}
	}
	if wrong := s.CheckOutput("SendCommand", []byte(`{"Command":{"Status":"Pending"}}`)); wrong != nil {
		t.Error(wrong)
	}
	if wrong := s.CheckOutput("SendCommand", []byte(`{"Command":{"Status":"Waiting"}}`)); wrong == nil {
		t.Error("a status that there is not is taken")
	}
}

// TestAnswersHaveWhatIsRead: a path leads to a shape, or nowhere.
func TestAnswersHaveWhatIsRead(t *testing.T) {
	s := load(t, "ec2")
	shape, err := s.Answers("DescribeInstances", "Reservations[0].Instances[0].State.Name")
	if err != nil || shape.Name != "InstanceStateName" {
		t.Errorf("%v, %v", shape, err)
	}
	for _, path := range []string{"Reservations.Instances[0]", "Reservations[1].Instances[0]", "Reservations[0].Instance[0]", "Reservations[0].Instances[0].State[0].Name", "reservations[0]", ""} {
		if shape, err := s.Answers("DescribeInstances", path); err == nil {
			t.Errorf("%s leads to %v", path, shape)
		}
	}
	if _, err := s.Answers("DescribeMachines", "Reservations[0]"); err == nil {
		t.Error("an operation that there is not answers")
	}
	if s.Waiters["InstanceTerminated"].Operation != "DescribeInstances" {
		t.Errorf("%v", s.Waiters)
	}
}
