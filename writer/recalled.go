package writer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/durable"
)

// retentionFile is in the data directory.
const retentionFile = "retention.json"

const (
	retentionFormat   = 1
	maxRetentionBytes = 64 << 10
)

// recalled keeps, over starts, when a retention last came to its end. It is no more than
// a memory: where it is lost the next run comes sooner.
type recalled struct {
	fs  vfs.FS
	dir string
	// failed says that an fsync has failed: a second one could succeed without the data.
	failed error
}

type retentionNote struct {
	Format int `json:"format"`
	// Archive is which one was looked through.
	Archive string    `json:"archive"`
	Done    time.Time `json:"done"`
}

// load is when a run last came to its end in an archive; zero if that is not known.
func (m *recalled) load(archive string) (_ time.Time, err error) {
	path := m.fs.PathJoin(m.dir, retentionFile)
	f, err := m.fs.Open(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return time.Time{}, nil
	} else if err != nil {
		return time.Time{}, fmt.Errorf("read %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, maxRetentionBytes))
	if err != nil {
		return time.Time{}, fmt.Errorf("read %s: %w", path, err)
	}
	var n retentionNote
	if err := json.Unmarshal(b, &n); err != nil {
		return time.Time{}, fmt.Errorf("read %s: %w; it is written anew by the next run", path, err)
	}
	if n.Format != retentionFormat || n.Archive != archive {
		return time.Time{}, nil
	}
	return n.Done, nil
}

// save notes the end of a run, durably. A nil one notes nothing.
func (m *recalled) save(archive string, done time.Time) error {
	switch {
	case m == nil:
		return nil
	case m.failed != nil:
		return fmt.Errorf("an fsync has failed before: %w", m.failed)
	}
	b, err := json.Marshal(retentionNote{Format: retentionFormat, Archive: archive, Done: done.UTC()})
	if err != nil {
		return err
	}
	path := m.fs.PathJoin(m.dir, retentionFile)
	err = durable.Replace(durable.On(m.fs), path, path+".tmp", append(b, '\n'))
	if failed := (*durable.Error)(nil); errors.As(err, &failed) && failed.Fsync() {
		m.failed = failed.Err
	}
	return err
}
