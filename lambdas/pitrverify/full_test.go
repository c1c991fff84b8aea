package pitrverify

import (
	"testing"

	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
)

// Of an archive that holds nothing nothing is verified, and what an earlier run left in
// the scratch directory is removed.
func TestNothingToRestoreIsNotGreen(t *testing.T) {
	fs := simdisk.New()
	for _, left := range []string{"/scratch", "/scratch.restoring"} {
		if err := fs.MkdirAll(left+"/state", 0o700); err != nil {
			t.Fatal(err)
		}
	}
	result, err := Full(object.NewMemory("empty"), restore.Request{Latest: true}, fs, "/scratch")(t.Context())
	if err == nil || result.Full || result.OK {
		t.Errorf("%+v, %v", result, err)
	}
	for _, left := range []string{"/scratch", "/scratch.restoring"} {
		if _, err := fs.Stat(left); err == nil {
			t.Errorf("%s is still there", left)
		}
	}
}
