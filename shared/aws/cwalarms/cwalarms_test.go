package cwalarms_test

import (
	"errors"
	"fmt"
	"testing"

	"originchain/shared/aws/cwalarms"
	"originchain/test/awsfake"
)

func TestOne(t *testing.T) {
	f := awsfake.Start(t)
	f.CloudWatch.Set("acme-alarm", "ALARM", "not fine")
	f.CloudWatch.Set("acme-alarm-2", "OK", "fine")
	r := cwalarms.New(f.Config())
	if a, err := r.One(t.Context(), "acme-alarm"); err != nil || a.Name != "acme-alarm" || a.State != "ALARM" || a.Since.IsZero() {
		t.Errorf("%+v, %v", a, err)
	}
	var none *cwalarms.NoAlarmError
	if a, err := r.One(t.Context(), "acme"); !errors.As(err, &none) || none.Name != "acme" {
		t.Errorf("%+v, %v", a, err)
	}
	f.CloudWatch.Next("DescribeAlarms", awsfake.Times(20, awsfake.Throttle())...)
	if a, err := r.One(t.Context(), "acme-alarm"); err == nil || errors.As(err, &none) {
		t.Errorf("what could not be read: %+v, %v", a, err)
	}
}

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
