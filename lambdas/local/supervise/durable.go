package supervise

import (
	"errors"
	"fmt"

	"originchain/shared/durable"
)

// replaceFile replaces a file as one step and says what stands there if that failed. A
// failed fsync is not tried again: the old file stands.
func replaceFile(d durable.Disk, path string, text []byte) error {
	err := durable.Replace(d, path, path+".tmp", text)
	failed := (*durable.Error)(nil)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failed) && failed.Step == durable.SyncingDir:
		return fmt.Errorf("replace %s: the new text is there and may not survive a crash of the machine: %w", path, err)
	}
	return fmt.Errorf("replace %s: %w; it is as it was", path, err)
}
