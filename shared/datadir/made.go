package datadir

import (
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Made says when a data directory of this machine was made: not the directory itself,
// which somebody may have emptied, but the first file in it, which is never replaced. It
// is zero where the file system does not keep that.
func Made(path string) (time.Time, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, filepath.Join(path, lockFile), 0, unix.STATX_BTIME, &st); err != nil {
		return time.Time{}, fmt.Errorf("tell when the data directory %s was made: %w", path, err)
	}
	if st.Mask&unix.STATX_BTIME == 0 {
		return time.Time{}, nil
	}
	return time.Unix(st.Btime.Sec, int64(st.Btime.Nsec)), nil
}
