package engine

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"originchain/shared/datadir"
	"originchain/shared/lsn"
)

// keptCheckpoints: a node rewinds to a local checkpoint, since Pebble cannot go
// back; the older one is there in case the newer lies above the fork.
const keptCheckpoints = 2

const checkpointTemp = ".tmp"

// maintain makes a local checkpoint at each roll and lets go of log segments
// that nothing needs any more. It runs beside the pipeline and never in it.
func (e *Engine) maintain() {
	for range e.rolled {
		if e.failure.Load() != nil {
			continue
		}
		if err := e.checkpoint(); err != nil {
			e.deps.Log.WithError(err).Error("local checkpoint failed; log segments are kept until one succeeds")
		}
	}
}

// checkpoint copies the state by hard links, under the LSN it stands at or
// above, and then removes what is older than needed. A segment goes only when
// the state on disk and both checkpoints are past it.
func (e *Engine) checkpoint() error {
	at := lsn.LSN(e.visible.Load())
	fs, dir := e.deps.FS, e.dir.Checkpoints()
	name := fmt.Sprintf("%016x", uint64(at))
	path := fs.PathJoin(dir, name)
	if _, err := fs.Stat(path); err == nil {
		return nil // nothing was committed since the last one
	}
	if err := fs.RemoveAll(path + checkpointTemp); err != nil {
		return fmt.Errorf("clear %s: %w", path+checkpointTemp, err)
	}
	if err := e.store.Checkpoint(path + checkpointTemp); err != nil {
		return fmt.Errorf("checkpoint at LSN %d: %w", at, err)
	}
	if err := fs.Rename(path+checkpointTemp, path); err != nil {
		return fmt.Errorf("checkpoint at LSN %d: %w", at, err)
	}
	if err := datadir.SyncDir(fs, dir); err != nil {
		return err
	}
	return e.trim()
}

func (e *Engine) trim() error {
	kept, err := e.checkpoints()
	if err != nil || len(kept) < keptCheckpoints {
		return err
	}
	var errs []error
	for len(kept) > keptCheckpoints {
		path := e.deps.FS.PathJoin(e.dir.Checkpoints(), fmt.Sprintf("%016x", uint64(kept[0])))
		errs = append(errs, e.deps.FS.RemoveAll(path))
		kept = kept[1:]
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove old checkpoints: %w", err)
	}
	return e.log.RemoveBefore(kept[0] + 1)
}

// checkpoints lists the local checkpoints, oldest first.
func (e *Engine) checkpoints() ([]lsn.LSN, error) {
	names, err := e.deps.FS.List(e.dir.Checkpoints())
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	var out []lsn.LSN
	for _, n := range names {
		if strings.HasSuffix(n, checkpointTemp) {
			continue
		}
		v, err := strconv.ParseUint(n, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("%q in the checkpoint directory is not a checkpoint; move it away", n)
		}
		out = append(out, lsn.LSN(v))
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out, nil
}
