package cwalarms_test

import (
	"fmt"
	"testing"

	"originchain/shared/aws/cwalarms"
	"originchain/test/awsfake"
)

func TestNamed(t *testing.T) {
	f := awsfake.Start(t)
	for n := range 120 {
		f.CloudWatch.Set(fmt.Sprintf("acme-alarm-%03d", n), "OK", "fine")
	}
	f.CloudWatch.Set("acme-alarm-007", "ALARM", "not fine")
	f.CloudWatch.Set("globex-alarm", "ALARM", "not ours")
	got, err := cwalarms.New(f.Config()).Named(t.Context(), "acme-")
	if err != nil || len(got) != 120 {
		t.Fatalf("%d, %v", len(got), err)
	}
	for _, a := range got {
		if want := map[bool]string{true: "ALARM", false: "OK"}[a.Name == "acme-alarm-007"]; a.State != want || a.Since.IsZero() {
			t.Errorf("%+v", a)
		}
	}
	f.CloudWatch.Next("DescribeAlarms", awsfake.Times(20, awsfake.Throttle())...)
	if _, err := cwalarms.New(f.Config()).Named(t.Context(), "acme-"); err == nil {
		t.Error("what could not be read is no alarm")
	}
}
