package leaseopen_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/lease/leaseopen"
)

func TestOpen(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-central-1")
	for raw, want := range map[string]string{
		"":                             "<nil>",
		"file://" + t.TempDir() + "/c": "*lease.File",
		"http://127.0.0.1:1/v1/leases/a?token-file=/t": "*leasehttp.Store",
		"dynamodb://leases/a":                          "*ddblease.Store",
	} {
		s, err := leaseopen.Open(context.Background(), vfs.Default, raw)
		if got := fmt.Sprintf("%T", s); got != want || err != nil {
			t.Errorf("%s: %s, %v", raw, got, err)
		}
	}
	for _, raw := range []string{"file://host/x", "file:relative", "file:///x?y=z", "ftp://h/x", "x", "http://h/x", "dynamodb://leases", "http://u:secret@h/\x7f"} {
		if err := leaseopen.Check(raw); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", raw, err)
		}
	}
}
