package rounds

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/verification"
)

// verify checks a stopped server's directory as `oc-server verify` does, and that
// an orderly stop left the state at the end of the log. It returns how many keys
// there are.
func verify(ctx context.Context, dir string) (keys uint64, err error) {
	report, err := verification.Run(ctx, verification.Options{FS: vfs.Default, DataDir: dir})
	if err != nil {
		return 0, err
	}
	if report.FoundFaults > 0 {
		return 0, fmt.Errorf("%d faults in %s, the first: %+v", report.FoundFaults, dir, report.Faults[0])
	}
	if report.State.Behind > 0 {
		return 0, fmt.Errorf("after an orderly stop the state stands at LSN %d, the log ends at %d", report.State.LSN, report.Log.LastLSN)
	}
	if !report.OK {
		return 0, fmt.Errorf("%s was not verified in full", dir)
	}
	return report.State.Keys, nil
}
