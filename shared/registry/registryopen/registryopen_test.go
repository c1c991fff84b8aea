package registryopen_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/registry/registryopen"
)

func TestOpen(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-central-1")
	for raw, want := range map[string]string{
		"file://" + t.TempDir() + "/r": "*registry.Folder",
		"dynamodb://registry/a":        "*ddbregistry.Store",
	} {
		s, err := registryopen.Open(t.Context(), vfs.Default, raw)
		if got := fmt.Sprintf("%T", s); got != want || err != nil {
			t.Errorf("%s: %s, %v", raw, got, err)
		}
	}
	for _, raw := range []string{"", "file://host/x", "file:relative", "file:///x?y=z", "http://h/x", "x", "dynamodb://registry", "http://u:secret@h/\x7f"} {
		if s, err := registryopen.Open(t.Context(), vfs.Default, raw); err == nil || s != nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, %v", raw, s, err)
		}
	}
}
