package pitr

import (
	"errors"
	"testing"

	"originchain/lambdas/pitrverify"
	"originchain/shared/restore"
	"originchain/shared/verification"
)

// Only what was restored, read and found whole is recorded as verified in full.
func TestWhatIsRecordedOfAVerification(t *testing.T) {
	of := func(change func(*verified)) verified {
		v := verified{OK: true, Restore: &restore.Result{}, Contents: &verification.Report{Complete: true, OK: true}}
		v.Restore.LSN, v.Restore.Epoch = 7, 2
		change(&v)
		return v
	}
	for name, c := range map[string]struct {
		of   verified
		err  error
		want pitrverify.Result
	}{
		"well":                  {of(func(*verified) {}), nil, pitrverify.Result{LSN: 7, Epoch: 2, OK: true, Full: true}},
		"faults":                {of(func(v *verified) { v.OK, v.Contents.FoundFaults = false, 3 }), errors.New("3 faults"), pitrverify.Result{LSN: 7, Epoch: 2, Faults: 3, Full: true}},
		"it ended early":        {of(func(v *verified) { v.OK, v.Error = false, "the disk is full" }), errors.New("the disk is full"), pitrverify.Result{LSN: 7, Epoch: 2}},
		"not all was read":      {of(func(v *verified) { v.Contents.Complete = false }), nil, pitrverify.Result{LSN: 7, Epoch: 2, OK: true}},
		"a manifest is unread":  {of(func(v *verified) { v.OK, v.Unread = false, []string{"checkpoints/1"} }), nil, pitrverify.Result{LSN: 7, Epoch: 2}},
		"nothing was restored":  {verified{OK: true}, nil, pitrverify.Result{}},
		"nothing was looked at": {of(func(v *verified) { v.Contents = nil }), errors.New("it was killed"), pitrverify.Result{}},
	} {
		if got := c.of.result(c.err); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
